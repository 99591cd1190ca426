//! How a suite sets up its servers: how many members, and whether everything is secured.
//!
//! A secured server has mutual TLS on its ports for clients and peers, and auth is on. Clients connect through a tunnel
//! with a certificate whose common name is `root`, so that each of their requests is over TLS and has a user, although
//! the clients know of neither.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::certs::{Authority, CertPair, PLAIN, SERVER, Wish};
use crate::server::Server;
use crate::trouble::During as _;
use crate::{Kind, Launch, Trouble, paths};

/// The set-up of a suite's servers.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Members of each cluster.
    pub members: usize,
    /// Whether there is mutual TLS everywhere, and auth is on.
    pub is_secured: bool,
}

impl Setup {
    /// One member without TLS and users.
    pub const ALONE: Self = Self {
        members: 1,
        is_secured: false,
    };

    /// A server of this set-up.
    ///
    /// # Errors
    /// If its program cannot be downloaded or built.
    pub fn launch(self, kind: Kind) -> Result<Launch, Trouble> {
        let launch = Launch::of(kind)?.members(self.members);
        Ok(if self.is_secured {
            launch.secured(security()?)
        } else {
            launch
        })
    }
}

/// The certificates of secured servers and of their clients.
#[derive(Debug)]
pub struct Security {
    ca: String,
    server: CertPair,
    /// The user root.
    pub(crate) root: Arc<ClientConfig>,
}

/// One authority for all secured servers of this process.
fn security() -> Result<&'static Security, Trouble> {
    static SECURITY: OnceLock<Security> = OnceLock::new();
    if let Some(security) = SECURITY.get() {
        return Ok(security);
    }
    let folder: PathBuf = paths::fresh("certificates")?;
    Ok(SECURITY.get_or_init(|| {
        let ca = Authority::new(&folder, "ca");
        let root = Wish {
            common_name: "root",
            serial: 3,
            ..PLAIN
        };
        let root = ca.sign("root", &root);
        Security {
            server: ca.sign("server", &SERVER),
            root: ca.client(Some(&root)),
            ca: ca.file(),
        }
    }))
}

impl Security {
    /// The flags of a secured server.
    pub(crate) fn flags(&self) -> Vec<String> {
        let CertPair { cert, key } = &self.server;
        ["", "peer-"]
            .into_iter()
            .flat_map(|ports| {
                [
                    format!("--{ports}cert-file={cert}"),
                    format!("--{ports}key-file={key}"),
                    format!("--{ports}client-cert-auth"),
                    format!("--{ports}trusted-ca-file={}", self.ca),
                ]
            })
            .collect()
    }

    /// Makes the user root, and turns auth on.
    pub(crate) fn turn_on(server: &Server) -> Result<(), Trouble> {
        for (path, body) in [
            ("/v3/auth/user/add", r#"{"name":"root","options":{"no_password":true}}"#),
            ("/v3/auth/role/add", r#"{"name":"root"}"#),
            ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
            ("/v3/auth/enable", "{}"),
        ] {
            let answer = server.post(path, body).during(path)?;
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(Trouble::new(format!("{}: {path} is answered {answer}", server.name())));
            }
        }
        Ok(())
    }
}
