//! The answers to methods that do not exist or are not implemented.

use quoin_core::api::{Method, SERVICES};

use super::status::{Status, UNIMPLEMENTED};

/// grpc-go's status for a path that names no method.
pub(crate) fn path(path: &str) -> Status {
    let text = match path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((service, method)) if SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::new(UNIMPLEMENTED, text)
}

/// The status of a method that exists in etcd but is not implemented.
pub(crate) fn unserved(method: Method) -> Status {
    let (service, name, _) = method.parts();
    Status::new(
        UNIMPLEMENTED,
        format!("{service}/{name} is not implemented by this server"),
    )
}

/// Whether this version serves a method.
pub(crate) fn is_served(method: Method) -> bool {
    !matches!(method, Method::RangeStream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_paths_are_refused_in_the_words_of_grpc_go() {
        let table = [
            (
                "/etcdserverpb.KV/Scan",
                "unknown method Scan for service etcdserverpb.KV",
            ),
            ("/etcdserverpb.Kv/Range", "unknown service etcdserverpb.Kv"),
            ("/Range", "malformed method name: \"/Range\""),
        ];
        for (given, message) in table {
            assert_eq!(path(given).message, message);
        }
    }
}
