//! Which certificates are accepted: those that a trusted CA has signed, and of these only the ones with an allowed
//! name, if names are given.

use std::net::IpAddr;
use std::sync::Arc;

use quoin_core::config::TlsSide;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer as _, GeneralName, X509Certificate};

use super::files::bare;

/// The facts of a certificate that decide beside its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CertFacts {
    pub(super) common_name: String,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Big-endian, without leading zeros.
    pub(super) serial: Vec<u8>,
}

impl CertFacts {
    /// The facts of a certificate; `None` if it cannot be read.
    pub(super) fn of(cert: &CertificateDer<'_>) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(cert).ok()?;
        let common_name = cert
            .subject()
            .iter_common_name()
            .last()
            .map(AttributeTypeAndValue::as_slice);
        let mut facts = Self {
            common_name: String::from_utf8_lossy(common_name.unwrap_or_default()).into_owned(),
            serial: bare(cert.raw_serial()).to_vec(),
            ..Self::default()
        };
        let names = cert.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => facts.addresses.push(address_of(bytes)?),
                _ => {}
            }
        }
        Some(facts)
    }

    /// Whether the certificate is for this host or address, by Go's rule.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.addresses.contains(&address.to_canonical());
        }
        self.dns_names.iter().any(|pattern| fits(pattern, host))
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok().map(|address| address.to_canonical())
}

/// Whether a name in a certificate stands for a host. Only the first label may be `*`, for exactly one label.
fn fits(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.split('.').any(str::is_empty) {
        return false;
    }
    match pattern.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(_, tail)| tail.eq_ignore_ascii_case(rest)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Names of which a certificate must have one; without any, every certificate is allowed.
#[derive(Clone, Debug)]
struct Allowed {
    common_names: Vec<String>,
    hosts: Vec<String>,
}

impl Allowed {
    fn of(side: &TlsSide) -> Self {
        Self {
            common_names: side.allowed_cns.clone(),
            hosts: side.allowed_hostnames.clone(),
        }
    }

    fn check(&self, cert: &CertificateDer<'_>) -> Result<(), Error> {
        if self.common_names.is_empty() && self.hosts.is_empty() {
            return Ok(());
        }
        let is_allowed = |facts: &CertFacts| {
            self.common_names.contains(&facts.common_name) || self.hosts.iter().any(|host| facts.is_for(host))
        };
        if CertFacts::of(cert).as_ref().is_some_and(is_allowed) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }
}

/// Verifies the certificates of those who connect.
#[derive(Debug)]
struct ClientVerifier {
    by_ca: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

/// The verifier of those who connect, who must show a certificate.
pub(super) fn clients(
    side: &TlsSide,
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let by_ca = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let by_ca = by_ca.build().map_err(|error| error.to_string())?;
    let allowed = Allowed::of(side);
    Ok(Arc::new(ClientVerifier { by_ca, allowed }))
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_ca.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.by_ca.verify_client_cert(cert, chain, now)?;
        self.allowed.check(cert)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

/// Verifies the certificates of servers.
#[derive(Debug)]
struct Servers {
    by_ca: Arc<dyn ServerCertVerifier>,
    allowed: Allowed,
}

/// The verifier of servers that this member connects to.
pub(super) fn servers(
    side: &TlsSide,
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if roots.is_empty() {
        return Ok(Arc::new(Unverified::none(provider)));
    }
    let by_ca = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let by_ca = by_ca.build().map_err(|error| error.to_string())?;
    let allowed = Allowed::of(side);
    Ok(Arc::new(Servers { by_ca, allowed }))
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.by_ca.verify_server_cert(cert, chain, name, ocsp, now)?;
        self.allowed.check(cert)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

/// Accepts every server, or none, without a look at its certificate.
#[derive(Debug)]
pub(super) struct Unverified {
    accepts: bool,
    schemes: Vec<SignatureScheme>,
}

impl Unverified {
    /// Accepts every server: with `--peer-auto-tls` each member has made its own certificate, so none can be verified,
    /// and a signature by an unknown key proves nothing. etcd's own certificates have P-521 keys, which are accepted here
    /// too.
    pub(super) fn all(provider: &CryptoProvider) -> Self {
        let mut schemes = provider.signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        Self { accepts: true, schemes }
    }

    /// Accepts no server, because no CA is known.
    fn none(provider: &CryptoProvider) -> Self {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        Self {
            accepts: false,
            schemes,
        }
    }

    fn decide<T>(&self, accepted: T) -> Result<T, Error> {
        if self.accepts {
            Ok(accepted)
        } else {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        }
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _cert: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.decide(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.decide(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.decide(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
