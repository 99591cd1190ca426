//! Connections to peers, with TLS if the URL asks for it.

use std::fmt;
use std::sync::Arc;

use quoin_core::config::{Config, Tls, TlsSide, Url};
use rustls::Connection;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use super::files::{Reloaded, read_cas, read_pair};
use super::shake::{Failure, shake};
use super::socket::TlsSocket;
use super::verify::Unverified;
use super::{suites, verify};
use crate::seam::{Runtime, Socket};

/// Makes connections to peers; clones share its settings.
#[derive(Clone)]
pub(crate) struct Dialer {
    runtime: Arc<dyn Runtime>,
    config: Arc<Reloaded<Arc<ClientConfig>>>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// Reads the files of the settings for peers.
    ///
    /// # Errors
    /// The first mistake in them.
    pub(crate) fn new(runtime: &Arc<dyn Runtime>, config: &Config) -> Result<Self, String> {
        let tls = config.tls.clone();
        let side = &config.tls.peers;
        let files = [
            &side.cert_file,
            &side.key_file,
            &side.client_cert_file,
            &side.client_key_file,
            &side.trusted_ca_file,
        ];
        let files = files.map(String::clone);
        Ok(Self {
            runtime: Arc::clone(runtime),
            config: Arc::new(Reloaded::open(files, move || client_config(&tls, &tls.peers))?),
        })
    }

    /// The runtime whose workers hold the connections.
    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Secures a connection to the host of this URL.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub(crate) async fn secure(&self, url: &Url, mut socket: Box<dyn Socket>) -> Result<Box<dyn Socket>, String> {
        let config = self.config.newest().unwrap_or_else(|(before, error)| {
            tracing::warn!(
                error,
                "cannot read changed certificate files; the certificates from before are used"
            );
            before
        });
        // A Unix socket has no host.
        let host = url.host().unwrap_or("localhost").to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        let connection = Box::new(Connection::Client(connection));
        match shake(&mut *socket, connection, None).await {
            Ok(connection) => Ok(Box::new(TlsSocket::new(socket, connection))),
            Err(Failure::Closed) => Err("EOF".to_owned()),
            Err(Failure::Refused(why)) => Err(why),
        }
    }
}

/// The certificate that is shown to peers, and those that peers must show.
pub(super) fn client_config(tls: &Tls, side: &TlsSide) -> Result<Arc<ClientConfig>, String> {
    let provider = suites::provider(tls)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_protocol_versions(&suites::versions(tls))
        .map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = if side.auto {
        Arc::new(Unverified::all(&provider))
    } else {
        verify::servers(side, read_cas(&side.trusted_ca_file)?, &provider)?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let (cert, key) = if side.client_cert_file.is_empty() {
        (&side.cert_file, &side.key_file)
    } else {
        (&side.client_cert_file, &side.client_key_file)
    };
    let mut config = if side.is_empty() {
        builder.with_no_client_auth()
    } else {
        let pair = read_pair(cert, key, &provider)?;
        builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
