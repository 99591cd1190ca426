//! How a workload's clients come in: without security, over TLS, or as a user.

use std::net::SocketAddr;
use std::path::PathBuf;

use quoin_conformance::{Kind, Server, Trouble, server};

use super::launch;
use crate::load::Clients;
use crate::requests::{self, USER};

/// The way into a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Without TLS and users.
    Open,
    /// TLS, with the certificate that the server makes for itself.
    Tls,
    /// Users are enabled, and each request has the token of one who may read and write what the workload does.
    Users,
}

/// A server with this door. Its health is looked at without TLS.
pub(super) struct Target {
    pub(super) server: Server,
    door: Door,
    address: SocketAddr,
}

impl Door {
    /// Starts a server.
    pub(super) fn start(self, kind: Kind) -> Result<Target, Trouble> {
        let launch = launch(kind)?;
        if self != Self::Tls {
            let server = launch.start()?;
            let address = server.address();
            return Ok(Target {
                server,
                door: self,
                address,
            });
        }
        let (plain, secure) = (server::free_address()?, server::free_address()?);
        let urls = format!("http://{plain},https://{secure}");
        let launch = launch
            .client(plain)
            .flag("--auto-tls")
            .flag(format!("--listen-client-urls={urls}"))
            .flag(format!("--advertise-client-urls={urls}"));
        Ok(Target {
            server: launch.start()?,
            door: self,
            address: secure,
        })
    }
}

impl Target {
    /// Connects, and logs in where that is needed; must be called within [`crate::load::run`].
    pub(super) async fn connect(&self, connections: usize) -> Result<Clients, Trouble> {
        match self.door {
            Door::Open => Clients::connect(self.address, connections).await,
            Door::Tls => Clients::connect_secure(self.address, connections, &self.certificate()).await,
            Door::Users => {
                let clients = Clients::connect(self.address, connections).await?;
                for (path, message) in requests::users() {
                    clients.fetch(path, message).await?;
                }
                let answer = clients.fetch(requests::AUTHENTICATE, requests::login(USER)).await?;
                clients.with_token(&requests::token(&answer)?)
            }
        }
    }

    /// Where both servers keep the certificate that they made.
    fn certificate(&self) -> PathBuf {
        self.server.data_dir().join("fixtures/client/cert.pem")
    }
}
