//! The certificates of `--auto-tls` and `--peer-auto-tls`, which a member makes for itself at its first start.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoin_core::config::{Config, TlsSide, Url};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Makes the certificates that the settings ask for, unless they are in the data directory already, and sets them as the
/// files of the settings. `wall` is the time since 1970.
///
/// # Errors
/// Why they could not be made.
pub(crate) fn make_certificates(config: &mut Config, wall: Duration) -> Result<(), String> {
    let fixtures = Path::new(&config.data_dir).join("fixtures");
    let years = config.tls.self_signed_years;
    let hosts = |urls: &[&Url]| -> Vec<String> {
        let hosts = urls.iter().filter_map(|url| url.host());
        hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let peers = hosts(&config.listen_peer_urls.iter().collect::<Vec<_>>());
    let clients = hosts(&config.client_urls().collect::<Vec<_>>());
    make(&mut config.tls.peers, "peer", &fixtures, &peers, years, wall)?;
    make(&mut config.tls.clients, "client", &fixtures, &clients, years, wall)?;
    let peers = &mut config.tls.peers;
    if peers.auto && peers.demands_certificates() {
        // etcd ignores them too. The certificates of the other members could not be verified.
        tracing::warn!("--peer-client-cert-auth and --peer-trusted-ca-file are ignored with --peer-auto-tls");
        peers.client_cert_auth = false;
        peers.trusted_ca_file.clear();
    }
    Ok(())
}

fn make(
    side: &mut TlsSide,
    kind: &str,
    fixtures: &Path,
    hosts: &[String],
    years: u64,
    wall: Duration,
) -> Result<(), String> {
    if !side.auto {
        return Ok(());
    }
    if !side.is_empty() {
        tracing::warn!("ignoring {kind} auto TLS since certs given");
        side.auto = false;
        return Ok(());
    }
    if years == 0 {
        return Err(format!(
            "failed to get {kind} self-signed certs: selfSignedCertValidity is invalid,it should be greater than 0"
        ));
    }
    let folder = std::path::absolute(fixtures.join(kind)).map_err(|error| error.to_string())?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if !(cert.exists() && key.exists()) {
        let written = write_pair(&folder, (&cert, &key), hosts, years, wall);
        written.map_err(|error| format!("failed to get {kind} self-signed certs: {error}"))?;
    }
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    (side.cert_file, side.key_file) = (text(cert), text(key));
    Ok(())
}

fn write_pair(
    folder: &Path,
    (cert, key): (&Path, &Path),
    hosts: &[String],
    years: u64,
    wall: Duration,
) -> io::Result<()> {
    let begin = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
    let valid = i64::try_from(years.saturating_mul(YEAR.as_secs())).unwrap_or(i64::MAX);
    let moment = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(io::Error::other);
    let mut params = CertificateParams::default();
    params.not_before = moment(begin)?;
    params.not_after = moment(begin.saturating_add(valid))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into().map_err(io::Error::other)?),
        });
    }
    tracing::warn!(
        "certificate-validity-bound-not-after" = %params.not_after,
        "automatically generate certificates"
    );
    let pair = KeyPair::generate().map_err(io::Error::other)?;
    let made = params.self_signed(&pair).map_err(io::Error::other)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    write(cert, made.pem().as_bytes(), 0o644)?;
    tracing::info!(path = %cert.display(), "created cert file");
    write(key, pair.serialize_pem().as_bytes(), 0o600)?;
    tracing::info!(path = %key.display(), "created key file");
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
