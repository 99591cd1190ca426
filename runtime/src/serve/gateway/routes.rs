//! The paths of the gateway: which method each one calls.

use quoin_core::api::Method;

/// The paths below `/v3/` and their methods.
const ROUTES: &[(&str, Method)] = &[
    ("auth/authenticate", Method::Authenticate),
    ("auth/disable", Method::AuthDisable),
    ("auth/enable", Method::AuthEnable),
    ("auth/role/add", Method::RoleAdd),
    ("auth/role/delete", Method::RoleDelete),
    ("auth/role/get", Method::RoleGet),
    ("auth/role/grant", Method::RoleGrantPermission),
    ("auth/role/list", Method::RoleList),
    ("auth/role/revoke", Method::RoleRevokePermission),
    ("auth/status", Method::AuthStatus),
    ("auth/user/add", Method::UserAdd),
    ("auth/user/changepw", Method::UserChangePassword),
    ("auth/user/delete", Method::UserDelete),
    ("auth/user/get", Method::UserGet),
    ("auth/user/grant", Method::UserGrantRole),
    ("auth/user/list", Method::UserList),
    ("auth/user/revoke", Method::UserRevokeRole),
    ("cluster/member/add", Method::MemberAdd),
    ("cluster/member/list", Method::MemberList),
    ("cluster/member/promote", Method::MemberPromote),
    ("cluster/member/remove", Method::MemberRemove),
    ("cluster/member/update", Method::MemberUpdate),
    ("election/campaign", Method::Campaign),
    ("election/leader", Method::Leader),
    ("election/observe", Method::Observe),
    ("election/proclaim", Method::Proclaim),
    ("election/resign", Method::Resign),
    ("kv/compaction", Method::Compact),
    ("kv/deleterange", Method::DeleteRange),
    ("kv/lease/leases", Method::LeaseLeases),
    ("kv/lease/revoke", Method::LeaseRevoke),
    ("kv/lease/timetolive", Method::LeaseTimeToLive),
    ("kv/put", Method::Put),
    ("kv/range", Method::Range),
    ("kv/txn", Method::Txn),
    ("lease/grant", Method::LeaseGrant),
    ("lease/keepalive", Method::LeaseKeepAlive),
    ("lease/leases", Method::LeaseLeases),
    ("lease/revoke", Method::LeaseRevoke),
    ("lease/timetolive", Method::LeaseTimeToLive),
    ("lock/lock", Method::Lock),
    ("lock/unlock", Method::Unlock),
    ("maintenance/alarm", Method::Alarm),
    ("maintenance/defragment", Method::Defragment),
    ("maintenance/downgrade", Method::Downgrade),
    ("maintenance/hash", Method::Hash),
    ("maintenance/hashkv", Method::HashKv),
    ("maintenance/snapshot", Method::Snapshot),
    ("maintenance/status", Method::Status),
    ("maintenance/transfer-leadership", Method::MoveLeader),
    ("watch", Method::Watch),
];

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Route {
    /// A method.
    Method(Method),
    /// The gateway, which does not have the path.
    Unknown,
    /// Another path, in the form of a URL.
    Moved(String),
}

/// Finds a path of the gateway; `None` if the path does not belong to it.
pub(crate) fn find(path: &str) -> Option<Route> {
    let decoded = percent_decoded(path)?;
    // The paths of an earlier version, which etcd still serves.
    let current = match decoded.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => decoded,
    };
    let clean = cleaned(&current);
    let is_root = clean == "/v3";
    if !is_root && !clean.starts_with("/v3/") {
        return None;
    }
    if is_root || clean != current {
        let slash = if is_root { "/" } else { "" };
        return Some(Route::Moved(percent_encoded(&clean) + slash));
    }
    let found = ROUTES.binary_search_by_key(&&clean["/v3/".len()..], |(path, _)| path);
    Some(found.map_or(Route::Unknown, |at| Route::Method(ROUTES[at].1)))
}

/// A path without its empty parts, `.` and `..`, as Go's HTTP library redirects it.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Decodes `%XX`; `None` if the result is no text, or an escape is malformed.
fn percent_decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// A path in a URL, escaped as in Go.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_sorted_and_lead_to_all_methods_but_those_that_etcd_leaves_out() {
        assert!(
            ROUTES.is_sorted_by(|(one, _), (other, _)| one < other),
            "for the binary search"
        );
        let missing = Method::ALL
            .iter()
            .filter(|method| ROUTES.iter().all(|(_, found)| found != *method));
        let missing: Vec<Method> = missing.copied().collect();
        assert_eq!(missing, [Method::RangeStream, Method::HealthCheck, Method::HealthWatch]);
    }

    #[test]
    fn paths_are_found_in_all_spellings() {
        let moved = |path: &str| Some(Route::Moved(path.to_owned()));
        let table = [
            ("/v3/kv/range", Some(Route::Method(Method::Range))),
            ("/v3beta/kv/range", Some(Route::Method(Method::Range))),
            ("/v3/kv%2frang%65", Some(Route::Method(Method::Range))),
            ("/v3/watch", Some(Route::Method(Method::Watch))),
            ("/v3/kv/range/", Some(Route::Unknown)),
            ("/v3/kv/range:x", Some(Route::Unknown)),
            ("/v3/", Some(Route::Unknown)),
            ("/v3beta/", Some(Route::Unknown)),
            ("/v3", moved("/v3/")),
            ("/v3//kv/range", moved("/v3/kv/range")),
            ("/v3beta//kv/range", moved("/v3/kv/range")),
            ("/v3/../v3/./kv/%C3%BC/", moved("/v3/kv/%C3%BC/")),
            ("/v3beta", None),
            ("/v3betakv/range", None),
            ("/v3alpha/kv/range", None),
            ("/v3/../health", None),
            ("/v3/%zz", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in table {
            assert_eq!(find(path), expected, "{path}");
        }
    }
}
