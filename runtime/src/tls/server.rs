//! The ports that speak TLS: which certificate they show, and which connections they accept.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use quoin_core::config::{CipherSuite, Config, Tls, TlsSide, Url};
use quoin_core::limits::{HANDSHAKE_PATIENCE_SECONDS, HANDSHAKES, PEER_CONNECTIONS, REJECTIONS_LOGGED};
use quoin_core::time::Instant;
use rustls::server::{NoServerSessionStorage, ServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::{Connection, ServerConfig};

use super::files::{Reloaded, read_cas, read_pair, read_revoked};
use super::pending::Pending;
use super::shake::{Failure, shake};
use super::socket::TlsSocket;
use super::verify::CertFacts;
use super::{addresses, suites, verify};
use crate::seam::Socket;
use crate::serve::{Context, Endpoint};

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(HANDSHAKE_PATIENCE_SECONDS);

/// The application protocols of every port.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A request's extension on a secured connection.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The common name of the certificate that the client has shown, if `--client-cert-auth` demands one. It may be
    /// empty. It is the user of a request without a token.
    pub(crate) common_name: Option<Arc<str>>,
}

/// The server side of TLS on each kind of port that has it.
pub(crate) struct SecurePorts {
    clients: Option<Arc<SecurePort>>,
    metrics: Option<Arc<SecurePort>>,
    peers: Option<Arc<SecurePort>>,
}

impl SecurePorts {
    /// Reads the files of the settings. At most a part of the `connections` of clients may be in their handshakes.
    ///
    /// # Errors
    /// The first mistake in the settings or the files.
    pub(crate) fn open(config: &Config, connections: usize) -> Result<Self, String> {
        config.check_tls()?;
        let tls = &config.tls;
        let open = |side: &TlsSide, kind, checks_address, most| {
            SecurePort::open(tls, side, kind, checks_address, most).map(|port| Some(Arc::new(port)))
        };
        let mut ports = Self {
            clients: None,
            metrics: None,
            peers: None,
        };
        if !tls.peers.is_empty() {
            log_start("peer", &tls.peers, tls);
            let checks_address = !tls.peers.skip_client_san_check;
            ports.peers = open(&tls.peers, "peer", checks_address, PEER_CONNECTIONS / 2)?;
        }
        let most = HANDSHAKES.min(connections / 4);
        if config.client_urls().any(Url::is_tls) {
            log_start("client", &tls.clients, tls);
            ports.clients = open(&tls.clients, "client", false, most)?;
        }
        if config.listen_metrics_urls.iter().any(Url::is_tls) {
            // As in etcd, a certificate shown at these ports must fit the address.
            ports.metrics = open(&tls.clients, "client", true, most)?;
        }
        suites::warn_of_missing(tls);
        Ok(ports)
    }

    /// The secure port for a listener with this URL; `None` without TLS.
    pub(crate) fn of(&self, endpoint: Endpoint, url: &Url) -> Option<Arc<SecurePort>> {
        let port = match endpoint {
            Endpoint::Client | Endpoint::Grpc | Endpoint::Http => &self.clients,
            Endpoint::Metrics => &self.metrics,
            Endpoint::Peer => &self.peers,
        };
        port.clone().filter(|_| url.is_tls())
    }
}

/// etcd's line about the settings.
fn log_start(kind: &str, side: &TlsSide, tls: &Tls) {
    let names: Vec<&str> = tls.cipher_suites.iter().map(|suite: &CipherSuite| suite.name).collect();
    let TlsSide {
        cert_file,
        key_file,
        client_cert_file,
        client_key_file,
        trusted_ca_file,
        client_cert_auth,
        crl_file,
        ..
    } = side;
    let info = format!(
        "cert = {cert_file}, key = {key_file}, client-cert={client_cert_file}, client-key={client_key_file}, \
         trusted-ca = {trusted_ca_file}, client-cert-auth = {client_cert_auth}, crl-file = {crl_file}"
    );
    tracing::info!("tls-info" = info, "cipher-suites" = ?names, "starting with {kind} TLS");
}

/// The server side of TLS on the ports of one kind.
pub(crate) struct SecurePort {
    /// `client` or `peer`, for the log.
    kind: &'static str,
    config: Reloaded<Arc<ServerConfig>>,
    revoked: Option<Reloaded<Arc<Vec<Vec<u8>>>>>,
    checks_address: bool,
    /// The common name of a certificate is the user of a request.
    names_users: bool,
    pending: Arc<Pending>,
    rejected: Mutex<Rejected>,
}

/// The lines about rejected connections in the present second.
#[derive(Default)]
struct Rejected {
    since: Option<Instant>,
    logged: u32,
    unlogged: u64,
}

/// What is known of a connection that is rejected.
struct Shown<'a> {
    server_name: &'a str,
    facts: Option<&'a CertFacts>,
}

/// A connection's handshake with the certificates that the other side has shown.
struct Shaken {
    connection: Box<Connection>,
    server_name: String,
    facts: Vec<CertFacts>,
}

impl SecurePort {
    fn open(tls: &Tls, side: &TlsSide, kind: &'static str, checks_address: bool, most: usize) -> Result<Self, String> {
        let files = [&side.cert_file, &side.key_file, &side.trusted_ca_file].map(String::clone);
        let (making, of) = (tls.clone(), side.clone());
        let revoked = if side.crl_file.is_empty() {
            None
        } else {
            let file = side.crl_file.clone();
            let read = move || read_revoked(&file).map(Arc::new);
            Some(Reloaded::open([side.crl_file.clone()], read)?)
        };
        Ok(Self {
            kind,
            config: Reloaded::open(files, move || server_config(&making, &of))?,
            revoked,
            checks_address,
            names_users: side.client_cert_auth,
            pending: Pending::new(most),
            rejected: Mutex::default(),
        })
    }

    /// Secures a connection; `None` if it was rejected, which is logged, or if the server stops.
    pub(crate) async fn accept(
        self: Arc<Self>,
        context: Arc<Context>,
        socket: Box<dyn Socket>,
        remote: Option<SocketAddr>,
    ) -> Option<(Box<dyn Socket>, Secured)> {
        let (entered, mut cut) = self.pending.enter();
        let mut stop = context.stop.clone();
        let mut deadline = context.runtime.sleep_until(context.clock.now() + HANDSHAKE_PATIENCE);
        let outcome = {
            let mut accepting = pin!(self.secure(&context, socket, remote));
            let first = poll_fn(|cx| {
                if let Poll::Ready(outcome) = accepting.as_mut().poll(cx) {
                    return Poll::Ready(Some(outcome));
                }
                if stop.poll_stopped(cx).is_ready() {
                    return Poll::Ready(None);
                }
                let why = if cut.poll_stopped(cx).is_ready() {
                    "too many handshakes are in progress".to_owned()
                } else if deadline.as_mut().poll(cx).is_ready() {
                    format!("the handshake was not finished within {HANDSHAKE_PATIENCE:?}")
                } else {
                    return Poll::Pending;
                };
                self.reject::<()>(&context, remote, &why, None);
                Poll::Ready(Some(None))
            });
            first.await
        };
        drop(entered);
        outcome.flatten()
    }

    async fn secure(
        self: &Arc<Self>,
        context: &Context,
        mut socket: Box<dyn Socket>,
        remote: Option<SocketAddr>,
    ) -> Option<(Box<dyn Socket>, Secured)> {
        let port = Arc::clone(self);
        // Files may have to be read.
        let begun = context.handshakes.run(move || port.begin()).await;
        let begun = match begun {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return self.reject(context, remote, &why, None),
            Err(error) => return self.reject(context, remote, error.message(), None),
        };
        let shaken = match shake(&mut *socket, begun, Some(&context.handshakes)).await {
            Ok(connection) => match Shaken::new(connection) {
                Some(shaken) => shaken,
                None => return self.reject(context, remote, "tls: failed to parse certificate", None),
            },
            Err(Failure::Refused(why)) => return self.reject(context, remote, &why, None),
            Err(Failure::Closed) => {
                // Probes of load balancers do this again and again.
                tracing::debug!(remote = %text_of(remote), "a connection was closed before its handshake");
                return None;
            }
        };
        let shown = Shown {
            server_name: &shaken.server_name,
            facts: shaken.facts.first(),
        };
        if let Err(why) = self.check(context, &shaken, remote).await {
            return self.reject(context, remote, &why, Some(&shown));
        }
        let first = shaken.facts.first().filter(|_| self.names_users);
        let secured = Secured {
            common_name: first.map(|facts| facts.common_name.as_str().into()),
        };
        Some((Box::new(TlsSocket::new(socket, shaken.connection)), secured))
    }

    /// A connection with the certificates and CAs of now.
    fn begin(&self) -> Result<Box<Connection>, String> {
        let config = self.config.newest().unwrap_or_else(|(before, error)| {
            tracing::warn!(
                error,
                "cannot read changed certificate files; the certificates from before are shown"
            );
            before
        });
        let connection = ServerConnection::new(config).map_err(|error| error.to_string())?;
        Ok(Box::new(Connection::Server(connection)))
    }

    /// Checks of the certificates that need more than themselves: revocation, and the address of a peer.
    async fn check(
        self: &Arc<Self>,
        context: &Context,
        shaken: &Shaken,
        remote: Option<SocketAddr>,
    ) -> Result<(), String> {
        let Some(first) = shaken.facts.first() else {
            return Ok(());
        };
        if self.checks_address
            && let Some(remote) = remote
        {
            addresses::check(first, remote.ip()).await?;
        }
        if self.revoked.is_some() {
            let port = Arc::clone(self);
            let serials: Vec<Vec<u8>> = shaken.facts.iter().map(|facts| facts.serial.clone()).collect();
            let checked = context.handshakes.run(move || port.check_revoked(&serials)).await;
            return checked.unwrap_or_else(|error| Err(error.message().to_owned()));
        }
        Ok(())
    }

    fn check_revoked(&self, serials: &[Vec<u8>]) -> Result<(), String> {
        let Some(revoked) = &self.revoked else {
            return Ok(());
        };
        // With a list that cannot be read, no certificate is known to be valid.
        let revoked = revoked.newest().map_err(|(_, error)| error)?;
        match serials.iter().find(|serial| revoked.contains(serial)) {
            Some(serial) => {
                let digits: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                Err(format!("transport: certificate serial {digits} revoked"))
            }
            None => Ok(()),
        }
    }

    /// Logs a rejected connection in etcd's words, a bounded number of times a second. Returns `None`.
    fn reject<T>(
        &self,
        context: &Context,
        remote: Option<SocketAddr>,
        why: &str,
        shown: Option<&Shown<'_>>,
    ) -> Option<T> {
        let unlogged = self.count_rejected(context.clock.now())?;
        if unlogged > 0 {
            tracing::warn!(
                connections = unlogged,
                "rejected further connections on {} endpoint",
                self.kind
            );
        }
        let remote = text_of(remote);
        let server_name = shown.map_or("", |shown| shown.server_name);
        match shown.and_then(|shown| shown.facts) {
            Some(facts) => {
                let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
                tracing::warn!(
                    "remote-addr" = remote,
                    "server-name" = server_name,
                    "ip-addresses" = ?addresses,
                    "dns-names" = ?facts.dns_names,
                    error = why,
                    "rejected connection on {} endpoint",
                    self.kind
                );
            }
            None => tracing::warn!(
                "remote-addr" = remote,
                "server-name" = server_name,
                error = why,
                "rejected connection on {} endpoint",
                self.kind
            ),
        }
        None
    }

    /// Counts a rejected connection. Returns how many were not logged before, or `None` if this one is not logged.
    fn count_rejected(&self, now: Instant) -> Option<u64> {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        if rejected.since.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            rejected.since = Some(now);
            rejected.logged = 0;
        }
        if rejected.logged == REJECTIONS_LOGGED {
            rejected.unlogged += 1;
            return None;
        }
        rejected.logged += 1;
        Some(std::mem::take(&mut rejected.unlogged))
    }
}

impl Shaken {
    /// `None` if a certificate cannot be read: then nothing shows that it is not revoked.
    fn new(connection: Box<Connection>) -> Option<Self> {
        let certificates = connection.peer_certificates().unwrap_or_default();
        let facts = certificates.iter().map(CertFacts::of).collect::<Option<Vec<_>>>()?;
        let server_name = match &*connection {
            Connection::Server(server) => server.server_name().unwrap_or_default().to_owned(),
            Connection::Client(_) => String::new(),
        };
        Some(Self {
            connection,
            server_name,
            facts,
        })
    }
}

/// An address as Go writes it; that of a Unix socket is `@`.
fn text_of(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(
        || "@".to_owned(),
        |address| SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
    )
}

/// The certificate, the demanded certificates and the protocols of a port. Sessions are not resumed: a resumed one would
/// show no certificate, so that a revoked one would be of use.
pub(super) fn server_config(tls: &Tls, side: &TlsSide) -> Result<Arc<ServerConfig>, String> {
    let provider = suites::provider(tls)?;
    let pair = read_pair(&side.cert_file, &side.key_file, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_protocol_versions(&suites::versions(tls))
        .map_err(|error| error.to_string())?;
    let builder = if side.demands_certificates() {
        let roots = read_cas(&side.trusted_ca_file)?;
        builder.with_client_cert_verifier(verify::clients(side, roots, &provider)?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
