//! The auth service. Changes of users, roles and permissions are proposed; questions are answered once this member is
//! known to be up to date. Passwords are hashed before they are proposed, and compared before a token is: neither the
//! log nor the node's thread has to do with them.

use bytes::Bytes;

use super::{Answer, Call, PasswordThen, Server, Step, Then};
use crate::auth::{AuthChange, encode};
use crate::error::Error;
use crate::node::Request;
use crate::proto::etcdserverpb::{
    AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserGetResponse, AuthUserListResponse, AuthenticateResponse, InternalAuthenticateRequest,
};

/// The longest password, in bytes: bcrypt does not look at more.
const MAX_PASSWORD_BYTES: usize = 72;

/// Work on a password. It takes about a tenth of a second.
#[derive(Clone, PartialEq)]
pub enum PasswordWork {
    /// Compare a password with a bcrypt hash.
    Compare {
        /// The password.
        password: String,
        /// The hash.
        hash: Bytes,
    },
    /// Hash a password by bcrypt.
    Hash {
        /// The password.
        password: String,
    },
}

/// The result of such work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PasswordResult {
    /// Whether the password fits the hash.
    Compared(bool),
    /// The hash, in bcrypt's text form.
    Hashed(String),
}

/// A user that authenticates.
#[derive(Clone, PartialEq)]
pub struct Login {
    name: String,
    password: String,
    /// The auth revision of the state that has the hash of the password.
    revision: u64,
}

/// Shows no password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Shows no password.
impl std::fmt::Debug for PasswordWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compare { .. } => "Compare",
            Self::Hash { .. } => "Hash",
        })
    }
}

/// Changes auth.
pub(super) fn change(change: AuthChange) -> Result<Step, Error> {
    change.check()?;
    Ok(Step::ask(Request::Auth(change), Then::Answer))
}

/// Adds a user. A user without a password can authenticate by a certificate only.
pub(super) fn user_add(mut request: AuthUserAddRequest) -> Result<Step, Error> {
    let password = std::mem::take(&mut request.password);
    if request.options.is_some_and(|options| options.no_password) {
        return change(AuthChange::UserAdd(request));
    }
    AuthChange::UserAdd(request.clone()).check()?;
    hash(password, Call::UserAdd(request))
}

/// Gives a user another password. As in etcd, an empty one stands for the hash in the request.
pub(super) fn user_change_password(mut request: AuthUserChangePasswordRequest) -> Result<Step, Error> {
    if request.password.is_empty() {
        return change(AuthChange::UserChangePassword(request));
    }
    let password = std::mem::take(&mut request.password);
    hash(password, Call::UserChangePassword(request))
}

fn hash(password: String, call: Call) -> Result<Step, Error> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Error::PasswordTooLong);
    }
    Ok(Step::Password {
        work: PasswordWork::Hash { password },
        then: PasswordThen::Change(call),
    })
}

/// Gives a user a token, once the password was compared.
pub(super) fn authenticate(server: &Server<'_>, name: String, password: String) -> Result<Step, Error> {
    let auth = &server.view.auth;
    let work = PasswordWork::Compare {
        password: password.clone(),
        hash: auth.password_hash(&name)?,
    };
    let login = Login {
        name,
        password,
        revision: auth.revision(),
    };
    Ok(Step::Password {
        work,
        then: PasswordThen::Authenticate(login),
    })
}

/// The answer to a user that got a token. If auth has changed since the password was compared, it is compared again.
pub(super) fn authenticated(server: &Server<'_>, response: &AuthenticateResponse, login: Login) -> Result<Step, Error> {
    if login.revision != server.view.auth.revision() {
        return authenticate(server, login.name, login.password);
    }
    Ok(Step::Answer(Answer::Authenticate(AuthenticateResponse {
        header: Some(server.header()),
        token: server.facts.sign(&login.name, login.revision, &response.token)?,
    })))
}

/// The answers to questions.
pub(super) fn answer(server: &Server<'_>, call: &Call) -> Result<Answer, Error> {
    let auth = &server.view.auth;
    let header = Some(server.header());
    Ok(match call {
        Call::AuthStatus(_) => Answer::AuthStatus(AuthStatusResponse {
            header,
            enabled: auth.is_enabled(),
            auth_revision: auth.revision(),
        }),
        Call::RoleGet(request) => Answer::RoleGet(AuthRoleGetResponse {
            header,
            perm: auth.permissions_of(&request.role)?,
        }),
        Call::RoleList(_) => Answer::RoleList(AuthRoleListResponse {
            header,
            roles: auth.role_names(),
        }),
        Call::UserGet(request) => Answer::UserGet(AuthUserGetResponse {
            header,
            roles: auth.roles_of(&request.name)?,
        }),
        Call::UserList(_) => Answer::UserList(AuthUserListResponse {
            header,
            users: auth.user_names(),
        }),
        other => unreachable!("{other:?} is not answered here"),
    })
}

impl Server<'_> {
    /// Goes on with a password that was hashed or compared.
    ///
    /// # Errors
    /// [`Error::AuthFailed`] for a wrong password, or the error of a permission that was lost meanwhile.
    ///
    /// # Panics
    /// If the result belongs to other work.
    pub fn worked(&self, then: PasswordThen, result: PasswordResult) -> Result<Step, Error> {
        match (then, result) {
            (PasswordThen::Authenticate(_), PasswordResult::Compared(false)) => Err(Error::AuthFailed),
            (PasswordThen::Authenticate(login), PasswordResult::Compared(true)) => {
                let asked = InternalAuthenticateRequest {
                    name: login.name.clone(),
                    simple_token: self.facts.token_prefix(),
                    ..InternalAuthenticateRequest::default()
                };
                Ok(Step::ask(Request::Authenticate(asked), Then::Authenticate(login)))
            }
            (PasswordThen::Change(call), PasswordResult::Hashed(hash)) => {
                let caller = self.authorize(&call)?;
                let hashed_password = encode(&hash);
                let asked = match call {
                    Call::UserAdd(request) => AuthChange::UserAdd(AuthUserAddRequest {
                        hashed_password,
                        ..request
                    }),
                    Call::UserChangePassword(request) => {
                        AuthChange::UserChangePassword(AuthUserChangePasswordRequest {
                            hashed_password,
                            ..request
                        })
                    }
                    other => unreachable!("{other:?} has no password"),
                };
                Ok(change(asked)?.by(caller))
            }
            (then, result) => unreachable!("{result:?} is no result for {then:?}"),
        }
    }
}
