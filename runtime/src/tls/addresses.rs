//! Whether the address of a peer fits its certificate, by etcd's rule: a certificate with addresses or names must have
//! the address of the peer, or a name of it. Wildcards are compared with the names that a reverse lookup finds.

use std::net::{IpAddr, ToSocketAddrs as _};

use super::verify::CertFacts;
use crate::peers::dial::Lookup;
use crate::threads;

/// Checks a peer's address. Names are looked up on a thread of their own.
///
/// # Errors
/// Why the address does not fit, in etcd's words.
pub(super) async fn check(facts: &CertFacts, peer: IpAddr) -> Result<(), String> {
    let peer = peer.to_canonical();
    if facts.addresses.is_empty() && facts.dns_names.is_empty() || facts.addresses.contains(&peer) {
        return Ok(());
    }
    if facts.dns_names.is_empty() {
        let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        return Err(format!("x509: certificate is valid for {addresses}, not {peer}"));
    }
    let refuse = |why: &str| {
        Err(format!(
            "tls: \"{peer}\" does not match any of DNSNames {:?}{why}",
            facts.dns_names
        ))
    };
    let Some(lookup) = Lookup::begin() else {
        return refuse(" (too many names are being looked up)");
    };
    let names = facts.dns_names.clone();
    let search = move || {
        let found = is_named(&names, peer);
        drop(lookup);
        found
    };
    let Ok(searching) = threads::apart("quoin-resolve", search) else {
        return refuse(" (cannot start a thread)");
    };
    match searching.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) | Err(_) => refuse(""),
        Ok(Err(why)) => refuse(&format!(" ({why})")),
    }
}

/// Whether one of the names stands for the address. The error is that of the last lookup that failed.
fn is_named(names: &[String], peer: IpAddr) -> Result<bool, String> {
    let mut failed = None;
    match dns_lookup::lookup_addr(&peer) {
        Ok(found) => {
            let found = found.trim_end_matches('.');
            let is_it = |name: &String| match name.strip_prefix('*') {
                Some(tail) if tail.starts_with('.') => found.ends_with(tail),
                _ => name == found,
            };
            if names.iter().any(is_it) {
                return Ok(true);
            }
        }
        Err(error) => failed = Some(error.to_string()),
    }
    for name in names.iter().filter(|name| !name.starts_with("*.")) {
        match (name.as_str(), 0).to_socket_addrs() {
            Ok(mut found) => {
                if found.any(|address| address.ip().to_canonical() == peer) {
                    return Ok(true);
                }
            }
            Err(error) => failed = Some(error.to_string()),
        }
    }
    failed.map_or(Ok(false), Err)
}
