//! Signed tokens (`--auth-token=jwt`) on a real etcd and on ours, which have the same keys: each serves the tokens of the
//! other, and both refuse the same ones with the same errors.

use prost::Message;
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::authpb::permission::Type;
use quoin_core::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, AuthenticateResponse, PutRequest,
};
use quoin_model::call::Refusal;
use tokio::runtime::Runtime;

use crate::diff::wire::Wire;
use crate::trouble::During as _;
use crate::{Kind, Launch, Server, Trouble, paths};

/// The code of `Unauthenticated`, with which a token is refused.
const UNAUTHENTICATED: i32 = 16;

struct Side {
    server: Server,
    wire: Wire,
}

/// The servers: a real etcd and ours.
struct Swapping {
    runtime: Runtime,
    sides: [Side; 2],
}

/// Compares the two with tokens of this method, whose keys begin with `keys`.
///
/// # Errors
/// The first difference, or a server that cannot be reached.
pub fn compare(kind: Kind, method: &str, keys: &str) -> Result<(), Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the clients")?;
    let keys = paths::workspace().join("runtime/src/serve/jwt/keys").join(keys);
    let keys = keys.display();
    let token = format!("--auth-token=jwt,sign-method={method},pub-key={keys}.pub.pem,priv-key={keys}.pem,ttl=1m");
    let side = |kind: Kind| {
        let server = Launch::of(kind)?.flag("--bcrypt-cost=4").flag(&token).start()?;
        let wire = runtime.block_on(Wire::connect(server.address()))?;
        Ok::<Side, Trouble>(Side { server, wire })
    };
    let sides = [side(Kind::Etcd)?, side(kind)?];
    Swapping { runtime, sides }.play()
}

impl Swapping {
    fn play(&self) -> Result<(), Trouble> {
        self.begin()?;
        let root = self.tokens("root")?;
        let ann = self.tokens("ann")?;
        for token in &ann {
            self.put("a", token, 0)?;
            self.put("b", token, 7)?;
            // Every part of a token is signed, and its signature is no other token's.
            let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
                return Err(Trouble::new(format!("{token} has not three parts")));
            };
            let other = root[0].rsplit('.').next().unwrap_or_default();
            // {"alg":"none","typ":"JWT"}
            let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
            for forged in [
                format!("{none}.{claims}."),
                format!("{none}.{claims}.{signature}"),
                format!("{header}.{claims}.{other}"),
                format!("{header}.{claims}"),
                format!("{header}.{claims}."),
                ".1".to_owned(),
            ] {
                self.put("a", &forged, UNAUTHENTICATED)?;
            }
        }
        // A token has the revision at which it was made; after a change its user must authenticate again.
        self.grant("c", &root)?;
        self.put("a", &ann[0], 3)?;
        self.put("a", &ann[1], 3)
    }

    /// Users root and ann, of whom ann may write `a`.
    fn begin(&self) -> Result<(), Trouble> {
        let no_tokens = [String::new(), String::new()];
        for name in ["root", "ann"] {
            let role = if name == "root" { "root" } else { "r" };
            let user = AuthUserAddRequest {
                name: name.to_owned(),
                password: format!("pw-{name}"),
                ..AuthUserAddRequest::default()
            };
            let grant = AuthUserGrantRoleRequest {
                user: name.to_owned(),
                role: role.to_owned(),
            };
            let role = AuthRoleAddRequest { name: role.to_owned() };
            self.done("Auth/UserAdd", &user, &no_tokens)?;
            self.done("Auth/RoleAdd", &role, &no_tokens)?;
            self.done("Auth/UserGrantRole", &grant, &no_tokens)?;
        }
        self.grant("a", &no_tokens)?;
        self.done("Auth/AuthEnable", &AuthEnableRequest {}, &no_tokens)
    }

    fn grant(&self, key: &str, tokens: &[String; 2]) -> Result<(), Trouble> {
        let permission = Permission {
            perm_type: Type::Readwrite.into(),
            key: key.to_owned().into(),
            ..Permission::default()
        };
        let grant = AuthRoleGrantPermissionRequest {
            name: "r".to_owned(),
            perm: Some(permission),
        };
        self.done("Auth/RoleGrantPermission", &grant, tokens)
    }

    /// The tokens of a user: that of the real etcd and that of ours.
    fn tokens(&self, name: &str) -> Result<[String; 2], Trouble> {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: format!("pw-{name}"),
        };
        let [etcd, ours] = &self.sides;
        let token = |side: &Side| {
            let asked = side
                .wire
                .ask::<AuthenticateResponse>("/etcdserverpb.Auth/Authenticate", &request);
            let answer = self.runtime.block_on(asked);
            answer
                .map(|answer| answer.token)
                .map_err(|refused| side.trouble(name, &refused))
        };
        Ok([token(etcd)?, token(ours)?])
    }

    /// Makes a request that both servers carry out, each with its own token.
    fn done(&self, method: &str, request: &impl Message, tokens: &[String; 2]) -> Result<(), Trouble> {
        for (side, token) in self.sides.iter().zip(tokens) {
            let answer = self.runtime.block_on(side.ask(method, request, token));
            answer.map_err(|refused| side.trouble(method, &refused))?;
        }
        Ok(())
    }

    /// Writes a key on both servers with this token, which both answer with this code and the same text.
    fn put(&self, key: &str, token: &str, code: i32) -> Result<(), Trouble> {
        let request = PutRequest {
            key: key.to_owned().into(),
            ..PutRequest::default()
        };
        let said = |side: &Side| match self.runtime.block_on(side.ask("KV/Put", &request, token)) {
            Ok(()) => (0, String::new()),
            Err(refused) => (refused.code, refused.message),
        };
        let [etcd, ours] = [said(&self.sides[0]), said(&self.sides[1])];
        if etcd != ours || etcd.0 != code {
            let why = format!("a put of {key} with {token}: {etcd:?} by etcd, {ours:?} by ours, expected code {code}");
            return Err(Trouble::new(why));
        }
        Ok(())
    }
}

impl Side {
    async fn ask(&self, method: &str, request: &impl Message, token: &str) -> Result<(), Refusal> {
        let header = Some(("token", token.as_bytes())).filter(|_| !token.is_empty());
        let path = format!("/etcdserverpb.{method}");
        let stream = self.wire.call_with(&path, request, true, header).await?;
        stream.only().await.map(drop)
    }

    fn trouble(&self, what: &str, refused: &Refusal) -> Trouble {
        Trouble::new(format!("{}: {what}: {refused:?}", self.server.name()))
    }
}
