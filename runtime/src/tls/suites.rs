//! Versions and cipher suites, as the settings allow them.

use std::sync::Arc;

use quoin_core::config::{CipherSuite, Tls, TlsVersion};
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// The allowed cipher suites, with the cryptography that carries them out.
///
/// # Errors
/// If TLS 1.2 is the newest version allowed and no allowed suite of it is implemented.
pub(super) fn provider(tls: &Tls) -> Result<Arc<CryptoProvider>, String> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let number = u16::from(suite.suite());
            // As in Go, the suites of TLS 1.3 cannot be chosen.
            matches!(suite, SupportedCipherSuite::Tls13(_))
                || tls.cipher_suites.iter().any(|asked| asked.number == number)
        });
    }
    let is_tls12 = |suite: &SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
    if tls.newest == TlsVersion::Tls12 && !provider.cipher_suites.iter().any(is_tls12) {
        return Err(format!(
            "none of the cipher suites {} is supported by this version",
            names(&tls.cipher_suites)
        ));
    }
    Ok(Arc::new(provider))
}

/// Warns of suites that are allowed and not implemented: those with CBC, RC4, 3DES or RSA key exchange, which are unsafe.
pub(super) fn warn_of_missing(tls: &Tls) {
    let implemented = ring::default_provider().cipher_suites;
    let is_missing = |asked: &CipherSuite| implemented.iter().all(|suite| u16::from(suite.suite()) != asked.number);
    let missing: Vec<CipherSuite> = tls.cipher_suites.iter().copied().filter(is_missing).collect();
    if !missing.is_empty() {
        tracing::warn!(
            "cipher-suites" = names(&missing),
            "some cipher suites are not supported by this version, and are not offered"
        );
    }
}

/// The allowed versions.
pub(super) fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    let allowed = all
        .into_iter()
        .filter(|(version, _)| (tls.oldest..=tls.newest).contains(version));
    allowed.map(|(_, version)| version).collect()
}

fn names(suites: &[CipherSuite]) -> String {
    suites.iter().map(|suite| suite.name).collect::<Vec<_>>().join(",")
}
