//! Tests of the decisions: one table of all cases, and single cases in detail.

mod fresh;
mod restart;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::Url;
use crate::id::{ClusterId, MemberId};
use crate::membership::Member;

const THREE: &str = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

/// Member `a`, which founds a cluster of three.
fn config() -> Config {
    Config {
        name: "a".into(),
        data_dir: "a.etcd".into(),
        advertise_peer_urls: urls("http://127.0.0.1:1"),
        initial_cluster: THREE.into(),
        ..Config::with_defaults()
    }
}

fn joining() -> Config {
    Config {
        initial_cluster_state: ClusterState::Existing,
        ..config()
    }
}

fn urls(text: &str) -> Vec<Url> {
    Url::parse_list(text).unwrap()
}

/// The id that founding gives to the member with this peer URL.
fn founder(peer_url: &str) -> MemberId {
    MemberId::compute(&[peer_url.to_owned()], "etcd-cluster", None)
}

/// A cluster as its members report it: `a` (added, not started), `b` and `c`.
fn cluster_of_three() -> (ClusterId, Vec<Member>) {
    let member = |id, name: &str, port: u16| Member {
        id: MemberId(id),
        name: name.into(),
        peer_urls: vec![format!("http://127.0.0.1:{port}")],
        client_urls: if name.is_empty() {
            Vec::new()
        } else {
            vec!["http://127.0.0.1:9".into()]
        },
        is_learner: false,
    };
    (
        ClusterId(0xc1),
        vec![member(0xb, "b", 2), member(0xa, "", 1), member(0xc, "c", 3)],
    )
}

/// The same answer from both other members.
fn told(answer: RemoteAnswer) -> BTreeMap<String, RemoteAnswer> {
    ["http://127.0.0.1:2", "http://127.0.0.1:3"]
        .map(|url| (url.to_owned(), answer.clone()))
        .into()
}

fn answer(cluster: (ClusterId, Vec<Member>), version: &str) -> RemoteAnswer {
    RemoteAnswer {
        cluster: Some(cluster),
        server_version: Some("3.6.1".into()),
        cluster_version: Some(version.into()),
        downgrade_enabled: Some(false),
    }
}

/// Numeric addresses resolve to themselves.
fn numeric(ports: &[u16]) -> BTreeMap<Url, Result<String, String>> {
    let pairs = ports.iter().map(|port| format!("127.0.0.1:{port}"));
    pairs
        .map(|address| (Url::parse(&format!("http://{address}")).unwrap(), Ok(address)))
        .collect()
}

fn at(index: u64) -> MarkerId {
    MarkerId { index, term: 2 }
}

/// A member with a history: 90 entries, a snapshot at 50, the store slightly behind the log.
fn ran() -> Found {
    Found {
        data_dir: DataDir::Member,
        wal: Some(WalFound {
            member: MemberId(0xa),
            cluster: ClusterId(0xc1),
            starts_after: 0,
            last_index: 90,
            commit: 85,
            markers: BTreeSet::from([MarkerId::default(), at(50)]),
            has_requests: true,
        }),
        marker_files: BTreeSet::from([at(50)]),
        store: Some(StoreFound {
            consistent_index: 80,
            members: cluster_of_three().1,
            ..StoreFound::default()
        }),
        ..Found::default()
    }
}
