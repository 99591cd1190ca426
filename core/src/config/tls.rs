//! The settings of TLS, for clients and for peers, and the mistakes that need no file to be found.

use super::gotext::quote;
use super::model::Config;
use super::url::Url;

/// How connections with clients and with peers are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The ports for clients and for metrics.
    pub clients: TlsSide,
    /// The ports for peers, and connections to peers.
    pub peers: TlsSide,
    /// `--cipher-suites`, as IANA numbers; empty allows all that the server has. TLS 1.3 is not affected.
    pub cipher_suites: Vec<CipherSuite>,
    /// `--tls-min-version`.
    pub oldest: TlsVersion,
    /// `--tls-max-version`.
    pub newest: TlsVersion,
    /// `--self-signed-cert-validity`, in years.
    pub self_signed_years: u64,
}

/// The settings for clients, or those for peers. A file is empty if it is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSide {
    /// The certificate shown by the server, and by the client too unless `client_cert_file` is given.
    pub cert_file: String,
    /// The key of `cert_file`.
    pub key_file: String,
    /// The certificate shown when this member connects.
    pub client_cert_file: String,
    /// The key of `client_cert_file`.
    pub client_key_file: String,
    /// The CAs that must have signed the certificates of the other side.
    pub trusted_ca_file: String,
    /// The revoked certificates of the other side.
    pub crl_file: String,
    /// A certificate is demanded of every connection; its common name is the user if a request has no token.
    pub client_cert_auth: bool,
    /// Make a certificate at the start, if none is given.
    pub auto: bool,
    /// Common names of which a certificate must have one.
    pub allowed_cns: Vec<String>,
    /// Host names of which a certificate must have one.
    pub allowed_hostnames: Vec<String>,
    /// Do not compare the address of a peer with its certificate.
    pub skip_client_san_check: bool,
}

/// The versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A cipher suite by Go's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSuite {
    /// Its name.
    pub name: &'static str,
    /// Its number at IANA.
    pub number: u16,
}

impl TlsSide {
    /// Whether there is no certificate. As in etcd, one of the two files makes the difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }

    /// Whether a certificate is demanded of those who connect.
    #[must_use]
    pub fn demands_certificates(&self) -> bool {
        self.client_cert_auth || !self.trusted_ca_file.is_empty()
    }

    /// The mistake in the combination of files and names, in etcd's words.
    fn check(&self) -> Result<(), String> {
        let (cert, key) = (&self.cert_file, &self.key_file);
        if cert.is_empty() || key.is_empty() {
            return Err(format!(
                "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
            ));
        }
        let (cert, key) = (&self.client_cert_file, &self.client_key_file);
        if cert.is_empty() != key.is_empty() {
            return Err(format!(
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
            ));
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            let list = |names: &[String]| names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(" ");
            return Err(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
                list(&self.allowed_cns),
                list(&self.allowed_hostnames)
            ));
        }
        Ok(())
    }
}

impl Config {
    /// The first mistake in the settings of TLS that needs no file to be found, in etcd's words. Settings of a side
    /// whose URLs all lack TLS are not checked, as in etcd.
    ///
    /// # Errors
    /// The mistake.
    pub fn check_tls(&self) -> Result<(), String> {
        let (clients, peers) = (&self.tls.clients, &self.tls.peers);
        let unmade = |side: &TlsSide| side.is_empty() && !side.auto;
        if let Some(url) = self.listen_peer_urls.iter().find(|url| url.is_tls())
            && unmade(peers)
        {
            let address = url.authority().map_or_else(|| url.to_string(), str::to_owned);
            return Err(format!(
                "cannot listen on TLS for {address}: KeyFile and CertFile are not presented"
            ));
        }
        if let Some(url) = self.client_urls().find(|url| url.is_tls())
            && unmade(clients)
        {
            return Err(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            ));
        }
        let is_metrics_tls = self.listen_metrics_urls.iter().any(Url::is_tls);
        if is_metrics_tls && unmade(clients) {
            return Err(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned(),
            );
        }
        if !peers.is_empty() {
            peers.check()?;
        }
        if !clients.is_empty() && (is_metrics_tls || self.client_urls().any(Url::is_tls)) {
            clients.check()?;
        }
        Ok(())
    }

    /// The URLs for clients, those for HTTP last.
    pub fn client_urls(&self) -> impl Iterator<Item = &Url> {
        self.listen_client_urls.iter().chain(&self.listen_client_http_urls)
    }
}

impl TlsVersion {
    /// The version of this name, if it has one.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "TLS1.2" => Some(Self::Tls12),
            "TLS1.3" => Some(Self::Tls13),
            _ => None,
        }
    }
}

impl CipherSuite {
    /// The suite of Go's name.
    pub(super) fn find(name: &str) -> Option<Self> {
        let name = match name {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            other => other,
        };
        let found = CIPHER_SUITES.iter().find(|(known, _)| *known == name);
        found.map(|&(name, number)| Self { name, number })
    }
}

/// The suites that Go has a name for, safe and unsafe, with their numbers at IANA.
const CIPHER_SUITES: &[(&str, u16)] = &[
    ("TLS_AES_128_GCM_SHA256", 0x1301),
    ("TLS_AES_256_GCM_SHA384", 0x1302),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xc009),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xc023),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", 0xc00a),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", 0xc007),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", 0xc012),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xc013),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xc027),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", 0xc014),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc011),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", 0x000a),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", 0x002f),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", 0x003c),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009c),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", 0x0035),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", 0x009d),
    ("TLS_RSA_WITH_RC4_128_SHA", 0x0005),
];
