//! The auth service while there is no auth: see [`quoin_core::store::auth`] for the rules.

use bytes::Bytes;
use hyper::body::Incoming;
use prost::Message;
use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest, AuthenticateRequest, ResponseHeader,
};
use quoin_core::store::auth;

use crate::serve::facts;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{Encoding, Messages};
use crate::serve::grpc::method::Method;
use crate::serve::grpc::status::Status;
use crate::serve::grpc::unimplemented;

/// A call with its request to come.
struct Asking<'a> {
    call: &'a Call,
    body: &'a mut Messages<Incoming>,
    encoding: Encoding,
}

/// Answers a call of the service.
pub(crate) async fn answer(
    call: &Call,
    method: Method,
    encoding: Encoding,
    body: &mut Messages<Incoming>,
) -> Result<Bytes, Status> {
    let mut asking = Asking { call, body, encoding };
    match method {
        Method::AuthStatus => {
            let header = asking.header::<AuthStatusRequest>().await?;
            asking.reply(&AuthStatusResponse {
                header,
                enabled: false,
                auth_revision: auth::FIRST_REVISION,
            })
        }
        Method::AuthDisable => {
            let header = asking.header::<AuthDisableRequest>().await?;
            asking.reply(&AuthDisableResponse { header })
        }
        Method::UserList => {
            let header = asking.header::<AuthUserListRequest>().await?;
            asking.reply(&AuthUserListResponse {
                header,
                ..AuthUserListResponse::default()
            })
        }
        Method::RoleList => {
            let header = asking.header::<AuthRoleListRequest>().await?;
            asking.reply(&AuthRoleListResponse {
                header,
                ..AuthRoleListResponse::default()
            })
        }
        _ => refuse(asking, method).await,
    }
}

/// Answers the calls that fail where there are no users and no roles.
async fn refuse(mut asking: Asking<'_>, method: Method) -> Result<Bytes, Status> {
    match method {
        Method::AuthEnable => asking.fails::<AuthEnableRequest>(|_| auth::enable()).await,
        Method::Authenticate => asking.fails::<AuthenticateRequest>(|_| auth::authenticate()).await,
        Method::UserGet => asking.fails::<AuthUserGetRequest>(|_| auth::user()).await,
        Method::UserDelete => asking.fails::<AuthUserDeleteRequest>(|_| auth::user()).await,
        Method::UserChangePassword => asking.fails::<AuthUserChangePasswordRequest>(|_| auth::user()).await,
        Method::UserGrantRole => asking.fails::<AuthUserGrantRoleRequest>(|_| auth::user()).await,
        Method::UserRevokeRole => asking.fails::<AuthUserRevokeRoleRequest>(|_| auth::user()).await,
        Method::RoleGet => asking.fails::<AuthRoleGetRequest>(|_| auth::role()).await,
        Method::RoleDelete => asking.fails::<AuthRoleDeleteRequest>(|_| auth::role()).await,
        Method::RoleGrantPermission => {
            asking
                .fails::<AuthRoleGrantPermissionRequest>(auth::role_grant_permission)
                .await
        }
        Method::RoleRevokePermission => asking.fails::<AuthRoleRevokePermissionRequest>(|_| auth::role()).await,
        Method::UserAdd => {
            auth::check_user_add(&asking.request::<AuthUserAddRequest>().await?)?;
            Err(unimplemented(method))
        }
        Method::RoleAdd => {
            auth::check_role_add(&asking.request::<AuthRoleAddRequest>().await?)?;
            Err(unimplemented(method))
        }
        _ => Err(unimplemented(method)),
    }
}

impl Asking<'_> {
    async fn request<M: Message + Default>(&mut self) -> Result<M, Status> {
        self.call.receive(self.body).await
    }

    /// The answer's header, once this member knows that it is up to date.
    async fn header<M: Message + Default>(&mut self) -> Result<Option<ResponseHeader>, Status> {
        self.request::<M>().await?;
        let context = &*self.call.context;
        facts::confirm_read(context).await?;
        let mut header = None;
        facts::complete(context, &mut header);
        Ok(header)
    }

    async fn fails<M: Message + Default>(&mut self, why: impl FnOnce(&M) -> Error) -> Result<Bytes, Status> {
        let request = self.request::<M>().await?;
        facts::confirm_read(&self.call.context).await?;
        Err(why(&request).into())
    }

    fn reply(&self, response: &impl Message) -> Result<Bytes, Status> {
        Ok(self.call.encode(response, self.encoding))
    }
}
