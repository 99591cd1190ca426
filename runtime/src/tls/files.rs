//! Reads certificates, keys, CAs and revocation lists. Errors have Go's words where Go has the same error.
//!
//! A file is read again when its metadata has changed, so a certificate can be renewed without a restart. A change that
//! cannot be read, for example because the key is not written yet, keeps the value from before.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

/// Where Go looks for the CAs of the system, in its order.
const SYSTEM_CAS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A value made of files, which is made again when a file has changed.
pub(super) struct Reloaded<T> {
    files: Vec<String>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    held: Mutex<Loaded<T>>,
}

struct Loaded<T> {
    stamps: Vec<Option<Stamp>>,
    value: T,
}

/// The metadata that changes with the content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T: Clone> Reloaded<T> {
    /// Makes the value for the first time. Empty names are no files.
    pub(super) fn open(
        files: impl IntoIterator<Item = String>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let files: Vec<String> = files.into_iter().filter(|file| !file.is_empty()).collect();
        // The metadata are read before the files: a change in between is then noticed later.
        let stamps = stamps(&files);
        let value = make()?;
        Ok(Self {
            files,
            make: Box::new(make),
            held: Mutex::new(Loaded { stamps, value }),
        })
    }

    /// The value of the files as they are now.
    ///
    /// # Errors
    /// The value from before and the error, if the changed files cannot be read.
    pub(super) fn newest(&self) -> Result<T, (T, String)> {
        let now = stamps(&self.files);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.stamps != now {
            match (self.make)() {
                Ok(value) => *held = Loaded { stamps: now, value },
                Err(error) => return Err((held.value.clone(), error)),
            }
        }
        Ok(held.value.clone())
    }
}

fn stamps(files: &[String]) -> Vec<Option<Stamp>> {
    let stamp = |file: &String| std::fs::metadata(file).ok().map(|found| Stamp::of(&found));
    files.iter().map(stamp).collect()
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Reads a certificate with its chain, and its key.
pub(super) fn read_pair(cert: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (cert_text, key_text) = (read(cert)?, read(key)?);
    let chain = certificates(&cert_text).map_err(|why| format!("{cert}: {why}"))?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let Ok(secret) = PrivateKeyDer::from_pem_slice(&key_text) else {
        return Err("tls: failed to find any PEM data in key input".to_owned());
    };
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "tls: private key does not match public key".to_owned()
        }
        other => format!("{cert}, {key}: {other} (keys may be of RSA from 2048 to 4096 bits, P-256, P-384 or Ed25519)"),
    })
}

/// Reads a file of CAs; without a name, those of the system.
pub(super) fn read_cas(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if file.is_empty() {
        // Certificates of the system that cannot be read are of no use, and do no harm.
        if let Some(text) = SYSTEM_CAS.iter().find_map(|path| std::fs::read(path).ok()) {
            roots.add_parsable_certificates(certificates(&text).unwrap_or_default());
        }
        return Ok(roots);
    }
    let named = |why: String| format!("{file}: {why}");
    for cert in certificates(&read(file)?).map_err(named)? {
        roots.add(cert).map_err(|error| named(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(named("there is no CA in the file".to_owned()));
    }
    Ok(roots)
}

/// The serial numbers that a revocation list has, big-endian without leading zeros. As in etcd, its signature is not
/// checked: the file belongs to the operator.
pub(super) fn read_revoked(file: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = read(file)?;
    let der = match CertificateRevocationListDer::from_pem_slice(&bytes) {
        Ok(list) => list.as_ref().to_vec(),
        Err(_) => bytes,
    };
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| format!("{file}: x509: malformed crl"))?;
    Ok(list
        .iter_revoked_certificates()
        .map(|revoked| bare(revoked.raw_serial()).to_vec())
        .collect())
}

/// A number without leading zeros.
pub(super) fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    read.map_err(|error| error.to_string())
}

/// A file's content; errors are in Go's words.
fn read(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("open {file}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("open {file}: permission denied"),
        _ => format!("open {file}: {error}"),
    })
}
