//! A certificate authority for tests, and clients that connect with or without its certificates. What fails here fails
//! because of the machine: it panics.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::wait;

const ASK_LIMIT: Duration = Duration::from_secs(10);

/// A certificate authority whose files are in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct CertPair {
    /// The certificate's file.
    pub cert: String,
    /// The key's file.
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The common name.
    pub common_name: &'static str,
    /// Alternative names: hosts.
    pub dns_names: &'static [&'static str],
    /// Alternative names: addresses.
    pub addresses: &'static [&'static str],
    /// The years in which it begins and ends.
    pub years: (i32, i32),
    /// The serial number.
    pub serial: u64,
}

/// A valid certificate without names.
pub const PLAIN: Wish = Wish {
    common_name: "plain",
    dns_names: &[],
    addresses: &[],
    years: (2020, 2090),
    serial: 1,
};

/// A valid certificate for a server on loopback.
pub const SERVER: Wish = Wish {
    common_name: "server",
    addresses: &["127.0.0.1"],
    serial: 2,
    ..PLAIN
};

impl Authority {
    /// A new authority of this name, with its own certificate in the folder.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let cert: Certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.join(format!("{name}.pem")), cert.pem()).expect("written");
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The file of its own certificate.
    #[must_use]
    pub fn file(&self) -> String {
        self.path(&format!("{}.pem", self.name))
    }

    /// Signs a certificate, and writes it and its key to files of this name, in place of earlier ones.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    #[must_use]
    pub fn sign(&self, name: &str, wish: &Wish) -> CertPair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, wish.common_name);
        params.serial_number = Some(wish.serial.into());
        params.not_before = date_time_ymd(wish.years.0, 1, 1);
        params.not_after = date_time_ymd(wish.years.1, 1, 1);
        for name in wish.dns_names {
            let name = (*name).try_into().expect("a DNS name");
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        for address in wish.addresses {
            let address: IpAddr = address.parse().expect("an address");
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pair = CertPair {
            cert: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        };
        replace(&pair.key, key.serialize_pem().as_bytes());
        replace(&pair.cert, cert.pem().as_bytes());
        pair
    }

    /// Writes a list of revoked serial numbers; returns its file.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: (*serial).into(),
                    revocation_time: date_time_ymd(2020, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        let path = self.path(&format!("{}.crl", self.name));
        replace(&path, list.pem().expect("text").as_bytes());
        path
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// A client that trusts this authority, and shows a certificate if one is given.
    ///
    /// # Panics
    /// If a file cannot be read.
    #[must_use]
    pub fn client(&self, pair: Option<&CertPair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_file(self.file()).expect("a certificate");
        roots.add(own).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_file(&pair.cert).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("a pair")
            }
        };
        // In a resumed session the server shows no certificate.
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// Replaces a file at once, as those who renew certificates do.
///
/// # Panics
/// If it cannot be written.
pub fn replace(path: &str, bytes: &[u8]) {
    let new = format!("{path}.new");
    fs::write(&new, bytes).expect("written");
    fs::rename(&new, path).expect("renamed");
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, ASK_LIMIT)?;
    stream.set_read_timeout(Some(ASK_LIMIT))?;
    Ok(stream)
}

/// A connection whose handshake has not begun.
fn secured<S: io::Read + io::Write>(
    client: &Arc<ClientConfig>,
    socket: S,
    name: ServerName<'static>,
) -> io::Result<StreamOwned<ClientConnection, S>> {
    let connection = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}

/// The answer to a GET over TLS, and the serial number of the server's certificate.
///
/// # Errors
/// If the server refuses the connection.
pub fn get(client: &Arc<ClientConfig>, address: SocketAddr, path: &str) -> io::Result<(String, Vec<u8>)> {
    get_over(client, dial(address)?, ServerName::from(address.ip()), path)
}

/// The same over a connection that is there.
///
/// # Errors
/// If the server refuses the connection.
pub fn get_over<S: io::Read + io::Write>(
    client: &Arc<ClientConfig>,
    socket: S,
    name: ServerName<'static>,
    path: &str,
) -> io::Result<(String, Vec<u8>)> {
    let mut stream = secured(client, socket, name)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.map(|cert| cert.as_ref().to_vec()).unwrap_or_default();
    Ok((String::from_utf8_lossy(&answer).into_owned(), shown))
}

/// How long each of some requests takes on one connection.
///
/// # Panics
/// If one of them is not answered.
#[must_use]
pub fn times(client: &Arc<ClientConfig>, address: SocketAddr, count: usize) -> Vec<Duration> {
    let socket = dial(address).expect("a connection");
    let mut stream = secured(client, socket, ServerName::from(address.ip())).expect("a client");
    let ask = |_| {
        let begun = wait::now();
        write!(stream, "GET /version HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(b"}") {
            let length = stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..length]);
        }
        begun.elapsed()
    };
    (0..count).map(ask).collect()
}
