//! How a workload's clients come in: without security, over TLS, or as a user.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Server, Trouble, server};
use rcgen::{CertificateParams, KeyPair, SanType};
use tempfile::TempDir;

use super::launch;
use crate::load::Clients;
use crate::requests::{self, USER};

/// The files of the certificate and its key.
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// The way into a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Without TLS and users.
    Open,
    /// TLS, with a certificate of P-256.
    Tls,
    /// Users are enabled, and each request has the token of one who may read and write what the workload does.
    Users,
}

/// A server with this door. Its health is looked at without TLS.
pub(super) struct Target {
    pub(super) server: Server,
    door: Door,
    address: SocketAddr,
    /// Has the server's certificate, if it speaks TLS.
    files: TempDir,
}

impl Door {
    /// Starts a server.
    pub(super) fn start(self, kind: Kind) -> Result<Target, Trouble> {
        let launch = launch(kind)?;
        let files = tempfile::tempdir().during("a folder for certificates")?;
        if self != Self::Tls {
            let server = launch.start()?;
            let address = server.address();
            return Ok(Target {
                server,
                door: self,
                address,
                files,
            });
        }
        make_certificate(&files, Ipv4Addr::LOCALHOST.into())?;
        let (plain, secure) = (server::free_address()?, server::free_address()?);
        let urls = format!("http://{plain},https://{secure}");
        let launch = launch
            .client(plain)
            .flag(format!("--cert-file={}", files.path().join(CERT).display()))
            .flag(format!("--key-file={}", files.path().join(KEY).display()))
            .flag(format!("--listen-client-urls={urls}"))
            .flag(format!("--advertise-client-urls={urls}"));
        Ok(Target {
            server: launch.start()?,
            door: self,
            address: secure,
            files,
        })
    }
}

impl Target {
    /// Connects, and logs in where that is needed; must be called within [`crate::load::run`].
    pub(super) async fn connect(&self, connections: usize) -> Result<Clients, Trouble> {
        match self.door {
            Door::Open => Clients::connect(self.address, connections).await,
            Door::Tls => Clients::connect_secure(self.address, connections, &self.files.path().join(CERT)).await,
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
}

/// Writes a certificate for this address, which has signed itself, and its key.
fn make_certificate(files: &TempDir, address: IpAddr) -> Result<(), Trouble> {
    let key = KeyPair::generate().during("a key")?;
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress(address));
    let cert = params.self_signed(&key).during("a certificate")?;
    fs::write(files.path().join(CERT), cert.pem()).during("writing a certificate")?;
    fs::write(files.path().join(KEY), key.serialize_pem()).during("writing a key")
}
