//! The keys of a configuration file: their groups and names, and how they are compared.
//!
//! Go's JSON accepts a key that differs from a name only in the case of its letters.

use super::flag::{Flag, Kind};
use super::table::{FLAGS, find};

/// Groups of keys: the outer group, and the key in it.
const GROUPS: &[(&str, &str)] = &[
    ("", "client-transport-security"),
    ("", "discovery-config"),
    ("", "peer-transport-security"),
    ("", "socket-options"),
    ("discovery-config", "client"),
    ("discovery-config.client", "auth"),
    ("discovery-config.client", "secure"),
];

/// Keys whose flag has another name: group, key, flag.
const OTHER_KEYS: &[(&str, &str, &str)] = &[
    (
        "client-transport-security",
        "allowed-cn",
        "client-cert-allowed-hostname",
    ),
    (
        "client-transport-security",
        "skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
];

/// Fields of etcd's structure without a JSON tag, with their types. Go's JSON accepts their names as keys all the same,
/// and a string, number or boolean as the value is an error.
const UNTAGGED: &[(&str, &str)] = &[
    ("AdvertiseClientUrls", "[]url.URL"),
    ("AdvertisePeerUrls", "[]url.URL"),
    ("CORS", "map[string]struct {}"),
    ("ClientTLSInfo", "transport.TLSInfo"),
    ("HostWhitelist", "map[string]struct {}"),
    ("ListenClientHttpUrls", "[]url.URL"),
    ("ListenClientUrls", "[]url.URL"),
    ("ListenMetricsUrls", "[]url.URL"),
    ("ListenPeerUrls", "[]url.URL"),
    ("PeerTLSInfo", "transport.TLSInfo"),
];

/// The meaning of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    /// A group of keys, under this path.
    Group(&'static str),
    /// A flag, under its name in etcd's structure.
    Flag(&'static str, &'static Flag),
}

/// The meaning of a key in a group; an exact match takes precedence over one that differs in case.
pub(super) fn lookup(group: &str, key: &str) -> Option<Key> {
    let mut all = all(group);
    let position = all
        .iter()
        .position(|(name, _)| *name == key)
        .or_else(|| all.iter().position(|(name, _)| same_but_for_case(name, key)));
    position.map(|position| all.swap_remove(position).1)
}

/// The field without a JSON tag that a top-level key matches, and its type. `cors` is a key, `CORS` is not.
pub(super) fn untagged(key: &str) -> Option<(&'static str, &'static str)> {
    let hit = UNTAGGED.iter().find(|(name, _)| same_but_for_case(name, key));
    hit.copied().filter(|_| key != "cors")
}

/// Every key of a group with its meaning.
pub(super) fn all(group: &str) -> Vec<(&'static str, Key)> {
    let groups = GROUPS.iter().filter(|(within, _)| *within == group);
    let groups = groups.map(|(within, name)| (*name, Key::Group(path_of(within, name))));
    let flags = FLAGS.iter().filter_map(|flag| {
        let (within, key) = place(flag)?;
        (within == group).then_some((key, Key::Flag(key, flag)))
    });
    let others = OTHER_KEYS.iter().filter(|(within, _, _)| *within == group);
    let others = others.filter_map(|(_, key, flag)| find(flag).map(|flag| (*key, Key::Flag(key, flag))));
    groups.chain(flags).chain(others).collect()
}

fn path_of(within: &str, name: &'static str) -> &'static str {
    match (within, name) {
        ("discovery-config", "client") => "discovery-config.client",
        ("discovery-config.client", "auth") => "discovery-config.client.auth",
        ("discovery-config.client", "secure") => "discovery-config.client.secure",
        _ => name,
    }
}

/// The group and key of a flag; `None` for flags of the command line only.
fn place(flag: &Flag) -> Option<(&'static str, &'static str)> {
    const CLIENT: &str = "client-transport-security";
    const PEER: &str = "peer-transport-security";
    const DISCOVERY: &str = "discovery-config.client";
    const SECURE: &str = "discovery-config.client.secure";
    if flag.kind == Kind::Legacy {
        return None;
    }
    Some(match flag.name {
        "check-config"
        | "client-crl-file"
        | "config-file"
        | "debug"
        | "experimental-backend-bbolt-freelist-type"
        | "log-output"
        | "log-package-levels"
        | "next-cluster-version-compatible"
        | "peer-crl-file"
        | "raft-read-timeout"
        | "raft-write-timeout"
        | "version" => return None,
        "experimental-snapshot-catchup-entries" => ("", "experimental-snapshot-catch-up-entries"),
        "socket-reuse-address" => ("socket-options", "reuse-address"),
        "socket-reuse-port" => ("socket-options", "reuse-port"),
        "auto-tls" | "cert-file" | "client-cert-auth" | "client-cert-file" | "client-key-file" | "key-file"
        | "trusted-ca-file" => (CLIENT, flag.name),
        "client-cert-allowed-hostname" => (CLIENT, "allowed-hostname"),
        "peer-cert-allowed-cn" => (PEER, "allowed-cn"),
        "peer-cert-allowed-hostname" => (PEER, "allowed-hostname"),
        "peer-auto-tls"
        | "peer-cert-file"
        | "peer-client-cert-auth"
        | "peer-client-cert-file"
        | "peer-client-key-file"
        | "peer-key-file"
        | "peer-skip-client-san-verification"
        | "peer-trusted-ca-file" => (PEER, flag.name.trim_start_matches("peer-")),
        "discovery-token" => ("discovery-config", "token"),
        "discovery-endpoints" => (DISCOVERY, "endpoints"),
        "discovery-dial-timeout" => (DISCOVERY, "dial-timeout"),
        "discovery-request-timeout" => (DISCOVERY, "request-timeout"),
        "discovery-keepalive-time" => (DISCOVERY, "keepalive-time"),
        "discovery-keepalive-timeout" => (DISCOVERY, "keepalive-timeout"),
        "discovery-cacert" => (SECURE, "cacert"),
        "discovery-cert" => (SECURE, "cert"),
        "discovery-insecure-skip-tls-verify" => (SECURE, "insecure-skip-tls-verify"),
        "discovery-insecure-transport" => (SECURE, "insecure-transport"),
        "discovery-key" => (SECURE, "key"),
        "discovery-password" => ("discovery-config.client.auth", "password"),
        "discovery-user" => ("discovery-config.client.auth", "username"),
        name => ("", name),
    })
}

/// Equality by Unicode's simple case folding. Only characters that fold to ASCII letters matter, because names are
/// ASCII.
fn same_but_for_case(name: &str, key: &str) -> bool {
    name.chars().map(fold).eq(key.chars().map(fold))
}

fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag_of(group: &str, key: &str) -> Option<&'static str> {
        match lookup(group, key)? {
            Key::Flag(_, flag) => Some(flag.name),
            Key::Group(_) => None,
        }
    }

    #[test]
    fn keys_ignore_case() {
        for key in ["data-dir", "DATA-DIR", "Data-Dir"] {
            assert_eq!(flag_of("", key), Some("data-dir"));
        }
        assert_eq!(flag_of("", "max-wal\u{17f}"), Some("max-wals"));
        assert_eq!(flag_of("", "so\u{212a}et"), None);
        assert_eq!(flag_of("peer-transport-security", "Cert-File"), Some("peer-cert-file"));
    }

    #[test]
    fn flags_of_the_command_line_only_are_no_keys() {
        for key in [
            "check-config",
            "config-file",
            "version",
            "raft-read-timeout",
            "cert-file",
            "force",
            "experimental-snapshot-catchup-entries",
        ] {
            assert_eq!(flag_of("", key), None, "{key}");
        }
    }

    /// Every key of the structures into which etcd 3.5 to 3.8 read their file.
    #[test]
    fn every_key_of_etcd_is_known() {
        for line in include_str!("tests/etcd_keys.txt").lines() {
            let (group, key) = line.rsplit_once('/').unwrap_or(("", line));
            assert!(lookup(group, key).is_some(), "{line}");
        }
    }
}
