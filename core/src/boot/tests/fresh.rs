//! Founding and joining.

use prost::Message as _;

use super::*;
use crate::proto::raftpb::{ConfChange, EntryType};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_lone_founder_has_the_ids_of_a_live_etcd() {
    let config = Config {
        name: "n1".into(),
        advertise_peer_urls: urls("http://127.0.0.1:42380"),
        initial_cluster: "n1=http://127.0.0.1:42380".into(),
        ..Config::with_defaults()
    };
    let Ok(Plan::StartNew {
        member,
        cluster,
        members,
        entries,
        hard_state,
    }) = decide(&Found::default(), &config)
    else {
        panic!("a lone member needs no answers")
    };
    assert_eq!(
        (member.to_string().as_str(), cluster.to_string().as_str()),
        ("667880157b8812c8", "dc50b8daae93b3e0")
    );
    assert_eq!(members[0].name, "n1");
    assert_eq!((hard_state.term, hard_state.vote, hard_state.commit), (1, 0, 1));
    assert_eq!(
        (entries[0].term, entries[0].index, entries[0].entry_type),
        (1, 1, EntryType::EntryConfChange.into())
    );
    let change = ConfChange::decode(entries[0].data.clone()).unwrap();
    assert_eq!((change.id, change.change_type, change.node_id), (0, 0, member.0));
    let json = r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:42380"],"name":"n1"}"#;
    assert_eq!(text(&change.context), json);
}

#[test]
fn all_founders_write_the_same_log() {
    let log = |name: &str, port: u16| {
        let config = Config {
            name: name.into(),
            advertise_peer_urls: urls(&format!("http://127.0.0.1:{port}")),
            ..config()
        };
        let all = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        let answers = all.map(|url| (url.to_owned(), RemoteAnswer::default())).into();
        match decide(
            &Found {
                answers,
                ..Found::default()
            },
            &config,
        ) {
            Ok(Plan::StartNew {
                member,
                cluster,
                entries,
                hard_state,
                ..
            }) => (member, (cluster, entries, hard_state)),
            other => panic!("{other:?}"),
        }
    };
    let (a, b, c) = (log("a", 1), log("b", 2), log("c", 3));
    assert!(a.1 == b.1 && b.1 == c.1);
    assert!(a.0 != b.0 && b.0 != c.0);
    let ids =
        a.1.1
            .iter()
            .map(|entry| ConfChange::decode(entry.data.clone()).unwrap().node_id)
            .collect::<Vec<_>>();
    assert!(ids.is_sorted());
    assert_eq!(a.1.1.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(a.1.2.commit, 3);
}

#[test]
fn ids_depend_on_the_token() {
    let ids = |token: &str| {
        let config = Config {
            initial_cluster: "a=http://127.0.0.1:1".into(),
            initial_cluster_token: token.into(),
            ..config()
        };
        match decide(&Found::default(), &config) {
            Ok(Plan::StartNew { member, cluster, .. }) => (member, cluster),
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(ids("one").0, ids("two").0);
    assert_ne!(ids("one").1, ids("two").1);
}

fn refusal(found: &Found, config: &Config) -> String {
    decide(found, config).unwrap_err().to_string()
}

#[test]
fn advertised_urls_must_be_those_of_the_cluster() {
    let found = Found {
        addresses: numeric(&[1, 5, 6]),
        ..Found::default()
    };
    for (cluster, advertised, why) in [
        (
            "a=http://127.0.0.1:1,a=http://127.0.0.1:5",
            "http://127.0.0.1:1",
            "--initial-cluster has a=http://127.0.0.1:5 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1 (len([\"http://127.0.0.1:1\"]) != \
             len([\"http://127.0.0.1:1\" \"http://127.0.0.1:5\"]))",
        ),
        (
            "a=http://127.0.0.1:5",
            "http://127.0.0.1:1",
            "--initial-cluster has a=http://127.0.0.1:5 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: \"http://127.0.0.1:1\" != \
             \"http://127.0.0.1:5\")",
        ),
        (
            "a=http://127.0.0.1:1",
            "http://127.0.0.1:1,http://127.0.0.1:6",
            "--initial-advertise-peer-urls has http://127.0.0.1:6 but missing from \
             --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:6",
        ),
    ] {
        let config = Config {
            initial_cluster: cluster.into(),
            advertise_peer_urls: urls(advertised),
            ..config()
        };
        assert_eq!(refusal(&found, &config), why);
    }
}

#[test]
fn a_name_matches_its_address() {
    let config = Config {
        initial_cluster: "a=http://node-a:1".into(),
        advertise_peer_urls: urls("http://10.0.0.1:1"),
        ..config()
    };
    let mut found = Found::default();
    let Ok(Plan::NeedAddresses { urls: unknown }) = decide(&found, &config) else {
        panic!("nothing was asked")
    };
    assert_eq!(unknown, urls("http://10.0.0.1:1,http://node-a:1"));
    for url in unknown {
        found.addresses.insert(url, Ok("10.0.0.1:1".into()));
    }
    assert!(matches!(decide(&found, &config), Ok(Plan::StartNew { .. })));
    found
        .addresses
        .insert(urls("http://node-a:1")[0].clone(), Err("no such host".into()));
    assert_eq!(
        refusal(&found, &config),
        "--initial-cluster has a=http://node-a:1 but missing from --initial-advertise-peer-urls=http://10.0.0.1:1 \
         (failed to resolve \"http://node-a:1\" (no such host))"
    );
}

#[test]
fn a_joiner_takes_its_ids_from_the_cluster() {
    let addresses = numeric(&[1, 2, 3]);
    let found = Found {
        answers: told(answer(cluster_of_three(), "3.5.0")),
        addresses,
        ..Found::default()
    };
    let Ok(Plan::JoinExisting {
        member,
        cluster,
        members,
    }) = decide(&found, &joining())
    else {
        panic!("no join")
    };
    assert_eq!((member, cluster), (MemberId(0xa), ClusterId(0xc1)));
    assert_eq!(
        members.iter().map(|member| member.id.0).collect::<Vec<_>>(),
        [0xa, 0xb, 0xc]
    );
}

#[test]
fn a_joiner_that_does_not_match_the_cluster_is_refused() {
    let addresses = numeric(&[1, 2, 3]);
    let joined = |members: Vec<Member>, config: &Config| {
        let answers = told(answer((ClusterId(0xc1), members), "3.6.0"));
        refusal(
            &Found {
                answers,
                addresses: addresses.clone(),
                ..Found::default()
            },
            config,
        )
    };
    let (_, members) = cluster_of_three();
    assert_eq!(
        joined(members[..1].to_vec(), &joining()),
        "error validating peerURLs {ClusterID:c1 Members:[&{ID:b RaftAttributes:{PeerURLs:[http://127.0.0.1:2] \
         IsLearner:false} Attributes:{Name:b ClientURLs:[http://127.0.0.1:9]}}] RemovedMemberIDs:[]}: member count is \
         unequal"
    );
    let mut moved = members.clone();
    moved[2].peer_urls.push("http://127.0.0.1:1".into());
    let why = joined(moved, &joining());
    let end = "PeerURLs: no match found for existing member (c, [http://127.0.0.1:3 http://127.0.0.1:1]), last resolver \
         error (len([\"http://127.0.0.1:3\" \"http://127.0.0.1:1\"]) != len([\"http://127.0.0.1:3\"]))";
    assert!(why.ends_with(end), "{why}");
    assert_eq!(
        joined(Vec::new(), &joining()),
        "cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the given URLs"
    );
    let mut learners = members;
    learners[0].is_learner = true;
    learners[1].is_learner = true;
    assert_eq!(
        joined(learners.clone(), &joining()),
        "membership: too many learner members in cluster"
    );
    let config = Config {
        max_learners: 2,
        ..joining()
    };
    let answers = told(answer((ClusterId(0xc1), learners), "3.6.0"));
    assert!(
        decide(
            &Found {
                answers,
                addresses,
                ..Found::default()
            },
            &config
        )
        .is_ok()
    );
}

#[test]
fn a_wiped_voter_and_a_wiped_learner_are_refused() {
    let (id, mut members) = cluster_of_three();
    members[1].name = "a".into();
    let decided = |members: &[Member]| {
        let answers = told(answer((id, members.to_vec()), "3.6.0"));
        decide(
            &Found {
                answers,
                addresses: numeric(&[1, 2, 3]),
                ..Found::default()
            },
            &joining(),
        )
    };
    for is_learner in [false, true] {
        members[1].is_learner = is_learner;
        let refusal = decided(&members).unwrap_err();
        assert_eq!(refusal, Refusal::Wiped(MemberId(0xa)));
        assert!(
            refusal
                .to_string()
                .ends_with("remove it from the cluster and add it again")
        );
    }
    members[1].name.clear();
    assert!(
        matches!(decided(&members), Ok(Plan::JoinExisting { .. })),
        "it never ran"
    );
}

#[test]
fn a_start_beside_an_etcd_before_3_5_is_refused() {
    let decided = |server: Option<&str>, cluster: &str, config: &Config| {
        let mut answers = told(answer(cluster_of_three(), cluster));
        let told_last = answers.get_mut("http://127.0.0.1:3").unwrap();
        told_last.server_version = server.map(str::to_owned);
        let addresses = numeric(&[1, 2, 3]);
        decide(
            &Found {
                answers,
                addresses,
                ..Found::default()
            },
            config,
        )
    };
    for (config, cluster) in [(joining(), "3.0.0"), (joining(), "3.4.0"), (config(), "3.0.0")] {
        assert_eq!(
            decided(Some("3.4.37"), cluster, &config).unwrap_err().to_string(),
            "incompatible with current running cluster: a member runs version 3.4.37, which panics on entries of this version; \
             upgrade every member to 3.5.0 or later first"
        );
        for version in [Some("3.5.0"), Some("3.8.0"), None] {
            assert!(decided(version, cluster, &config).is_ok(), "{version:?}");
        }
    }
}

#[test]
fn during_a_downgrade_a_member_one_version_below_may_join() {
    let decided = |version: &str| {
        let answer = RemoteAnswer {
            downgrade_enabled: Some(true),
            ..answer(cluster_of_three(), version)
        };
        decide(
            &Found {
                answers: told(answer),
                addresses: numeric(&[1, 2, 3]),
                ..Found::default()
            },
            &joining(),
        )
    };
    assert!(matches!(decided("3.7.0"), Ok(Plan::JoinExisting { .. })));
    for version in ["3.6.0", "3.8.0", "not_decided"] {
        assert_eq!(decided(version), Err(Refusal::Incompatible), "{version}");
    }
}
