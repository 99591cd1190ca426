//! The process' limit of file descriptors, and how many of them client connections may use.

use std::io;

use quoin_core::limits::{PEER_DESCRIPTORS, RESERVED_DESCRIPTORS};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process' soft limit of descriptors to its hard limit, as the Go runtime does for etcd.
pub(crate) fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(io::Error::from)
}

/// The number of connections for clients, or why the limit leaves none.
pub(crate) fn client_connections() -> Result<usize, String> {
    // No limit is treated as the largest one.
    connections_within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn connections_within(limit: u64) -> Result<usize, String> {
    match limit.checked_sub(RESERVED_DESCRIPTORS) {
        None | Some(0) => Err(format!(
            "file descriptor limit of etcd process is too low; please set higher: the limit is {limit}, \
             and {RESERVED_DESCRIPTORS} are reserved for the member itself"
        )),
        Some(left) => {
            let for_clients = left - PEER_DESCRIPTORS.min(left / 2);
            Ok(usize::try_from(for_clients).unwrap_or(usize::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_descriptors_that_the_member_and_its_peers_do_not_need() {
        assert_eq!(connections_within(1_024), Ok(714));
        assert_eq!(connections_within(300), Ok(75));
        assert_eq!(connections_within(151), Ok(1));
        assert!(connections_within(150).is_err());
        assert!(connections_within(3).is_err());
        assert!(connections_within(u64::MAX).is_ok());
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
