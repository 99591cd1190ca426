//! Starts with a log: ordinary ones, and those with `--force-new-cluster`.

use prost::Message as _;

use super::*;
use crate::proto::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};

const ME: MemberId = MemberId(0xa);

fn normal(index: u64) -> Entry {
    Entry {
        term: 3,
        index,
        data: "x".into(),
        ..Entry::default()
    }
}

fn change(index: u64, change_type: ConfChangeType, node_id: u64) -> Entry {
    let change = ConfChange {
        change_type: change_type.into(),
        node_id,
        ..ConfChange::default()
    };
    let data = change.encode_to_vec().into();
    Entry {
        entry_type: EntryType::EntryConfChange.into(),
        term: 3,
        index,
        data,
        ..Entry::default()
    }
}

/// A log from snapshot 50 on: voters a, b, c; c left and d joined as a learner; then two uncommitted entries.
fn log() -> ReadLog {
    ReadLog {
        from: at(50),
        conf_state: ConfState {
            voters: vec![0xa, 0xb, 0xc],
            ..ConfState::default()
        },
        hard_state: HardState {
            term: 4,
            vote: 0xb,
            commit: 53,
        },
        entries: vec![
            change(51, ConfChangeType::RemoveNode, 0xc),
            normal(52),
            change(53, ConfChangeType::AddLearnerNode, 0xd),
            normal(54),
            change(55, ConfChangeType::AddNode, 0xe),
        ],
        consistent_index: 52,
        store_term: 3,
        member: ME,
        is_known: true,
    }
}

/// The changes at the end of a log, as `index:kind member`.
fn appended(start: &StartLog) -> Vec<String> {
    let new = &start.entries[start.entries.len() - start.appended..];
    let shown = new.iter().map(|entry| {
        let change = ConfChange::decode(entry.data.clone()).unwrap();
        assert_eq!(entry.term, start.hard_state.term);
        let kind = ConfChangeType::try_from(change.change_type).unwrap();
        let context = std::str::from_utf8(&change.context).unwrap();
        format!("{}:{kind:?} {:x} {context}", entry.index, change.node_id)
            .trim_end()
            .to_owned()
    });
    shown.collect()
}

#[test]
fn an_ordinary_restart_keeps_everything() {
    let start = restart(log()).unwrap();
    assert_eq!(
        (start.hard_state, start.entries, start.appended),
        (log().hard_state, log().entries, 0)
    );
}

#[test]
fn a_forced_cluster_is_this_member_alone() {
    let start = force_new_cluster(ME, log()).unwrap();
    assert_eq!(appended(&start), ["54:RemoveNode b", "55:RemoveNode d"]);
    assert_eq!(
        start.hard_state,
        HardState {
            term: 4,
            vote: 0xb,
            commit: 55
        }
    );
    assert_eq!(
        start.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(),
        [51, 52, 53, 54, 55]
    );
}

#[test]
fn entries_in_the_store_count_as_committed() {
    let start = force_new_cluster(
        ME,
        ReadLog {
            consistent_index: 55,
            ..log()
        },
    )
    .unwrap();
    assert_eq!(
        appended(&start),
        ["56:RemoveNode b", "57:RemoveNode d", "58:RemoveNode e"]
    );
}

#[test]
fn a_member_that_is_no_voter_becomes_one_first() {
    let gone = ReadLog {
        conf_state: ConfState {
            voters: vec![0xb],
            ..ConfState::default()
        },
        ..log()
    };
    let added = "54:AddNode a {\"id\":10,\"peerURLs\":[\"http://localhost:2380\"]}";
    assert_eq!(
        appended(&force_new_cluster(ME, gone).unwrap()),
        [added, "55:RemoveNode b", "56:RemoveNode d"]
    );
    let conf_state = ConfState {
        voters: vec![0xb],
        learners: vec![0xa],
        ..ConfState::default()
    };
    let learner = ReadLog { conf_state, ..log() };
    let promoted = "54:AddNode a {\"id\":10,\"peerURLs\":null,\"isPromote\":true}";
    assert_eq!(
        appended(&force_new_cluster(ME, learner).unwrap()),
        [promoted, "55:RemoveNode b", "56:RemoveNode d"]
    );
}

#[test]
fn a_forced_cluster_of_a_lone_member_appends_nothing() {
    let alone = ReadLog {
        conf_state: ConfState {
            voters: vec![0xa],
            ..ConfState::default()
        },
        entries: vec![normal(51), normal(52)],
        hard_state: HardState {
            term: 4,
            vote: 0xa,
            commit: 51,
        },
        consistent_index: 0,
        ..log()
    };
    let start = force_new_cluster(ME, alone).unwrap();
    assert_eq!(
        (start.appended, start.hard_state.commit, start.entries),
        (0, 51, vec![normal(51)])
    );
}

#[test]
fn a_log_with_a_gap_or_too_early_an_end_is_refused() {
    let gap = ReadLog {
        entries: vec![normal(51), normal(53)],
        ..log()
    };
    let short = ReadLog {
        entries: vec![normal(51)],
        ..log()
    };
    let behind_store = ReadLog {
        consistent_index: 56,
        ..log()
    };
    for (log, why) in [
        (gap, "the write-ahead log has entry 53 where entry 52 belongs"),
        (
            short,
            "the write-ahead log ends at index 51 and index 53 was committed: the log has lost entries",
        ),
        (
            behind_store,
            "the write-ahead log ends at index 55 and index 56 was committed: the log has lost entries",
        ),
    ] {
        for refused in [restart(log.clone()), force_new_cluster(ME, log)] {
            assert_eq!(refused.unwrap_err().to_string(), why);
        }
    }
}

/// A log from its beginning: this member founds a cluster with `b`, then two entries.
fn young_log() -> ReadLog {
    let founding = |index, node| Entry {
        term: 1,
        ..change(index, ConfChangeType::AddNode, node)
    };
    ReadLog {
        from: MarkerId::default(),
        conf_state: ConfState::default(),
        entries: vec![founding(1, 0xa), founding(2, 0xb), normal(3), normal(4)],
        hard_state: HardState {
            term: 4,
            vote: 0xb,
            commit: 4,
        },
        consistent_index: 4,
        ..log()
    }
}

#[test]
fn a_table_that_does_not_belong_to_this_log_is_refused() {
    let stranger = "although the write-ahead log had it before";
    let unknown = |log| ReadLog { is_known: false, ..log };
    let of_term = |store_term, log| ReadLog { store_term, ..log };
    let at_index = |consistent_index, log| ReadLog {
        consistent_index,
        ..log
    };
    for (log, why) in [
        (log(), ""),
        (young_log(), ""),
        (of_term(0, log()), ""),
        (
            of_term(2, log()),
            "the table holds entry 52 of term 2, and the write-ahead log has that entry in term 3: they belong to different members",
        ),
        (
            of_term(3, at_index(50, log())),
            "the table holds entry 50 of term 3, and the write-ahead log has that entry in term 2: they belong to different members",
        ),
        (of_term(1, at_index(1, young_log())), ""),
        (of_term(2, at_index(1, young_log())), "entry 1 of term 2"),
        (unknown(log()), stranger),
        (unknown(young_log()), stranger),
        (unknown(at_index(0, young_log())), ""),
        // A member that joined later: the configuration where the log begins does not have it, or all its entries are
        // from before it joined.
        (
            ReadLog {
                member: MemberId(0xd),
                ..unknown(log())
            },
            "",
        ),
        (
            ReadLog {
                member: MemberId(0xd),
                ..unknown(young_log())
            },
            "",
        ),
    ] {
        for refused in [restart(log.clone()), force_new_cluster(log.member, log)] {
            let said = refused.err().map(|refusal| refusal.to_string()).unwrap_or_default();
            assert!(
                said.contains(why) && said.is_empty() == why.is_empty(),
                "{said:?} is not {why:?}"
            );
        }
    }
}

#[test]
fn changes_that_etcd_does_not_make_are_refused() {
    let joint = Entry {
        entry_type: EntryType::EntryConfChangeV2.into(),
        ..normal(51)
    };
    let garbage = Entry {
        entry_type: EntryType::EntryConfChange.into(),
        data: "\u{7f}".into(),
        ..normal(51)
    };
    let unknown = Entry {
        entry_type: 9,
        ..normal(51)
    };
    for entry in [joint, garbage, unknown] {
        let log = ReadLog {
            entries: vec![entry],
            hard_state: HardState {
                commit: 51,
                ..HardState::default()
            },
            ..log()
        };
        let log = ReadLog {
            consistent_index: 0,
            ..log
        };
        let why = force_new_cluster(ME, log).unwrap_err().to_string();
        assert_eq!(why, "entry 51 is no change of membership that etcd makes");
    }
    let update = ConfChange {
        change_type: ConfChange::UPDATE_NODE,
        node_id: 0xf,
        ..ConfChange::default()
    };
    let data = update.encode_to_vec().into();
    let mut log = log();
    log.entries[1] = Entry {
        entry_type: EntryType::EntryConfChange.into(),
        data,
        ..normal(52)
    };
    assert_eq!(
        appended(&force_new_cluster(ME, log).unwrap()),
        ["54:RemoveNode b", "55:RemoveNode d"]
    );
}

#[test]
fn remarks_name_the_facts() {
    let found = Found {
        unknown_files: vec!["lost+found".into()],
        ..Found::default()
    };
    let forced = Config {
        force_new_cluster: true,
        ..config()
    };
    let lines = remarks(&found, &forced)
        .into_iter()
        .map(|notice| notice.msg)
        .collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "found invalid file under data directory",
            "Initialize and start etcd server",
            "--force-new-cluster has no effect: there is no write-ahead log to start from",
        ]
    );
    assert_eq!(remarks(&ran(), &config())[0].msg, "server has already been initialized");
}

#[test]
fn refusals_have_etcds_texts_and_exit_codes() {
    for (refusal, exit, line) in [
        (Refusal::Incompatible, 1, "discovery failed"),
        (
            Refusal::MemberAndProxy,
            1,
            "invalid datadir; both member and proxy directories exist",
        ),
        (Refusal::Proxy, 2, "v2 http proxy has already been deprecated in 3.6"),
        (
            Refusal::Removed(ME),
            0,
            "the member has been permanently removed from the cluster",
        ),
    ] {
        assert_eq!((refusal.exit(), refusal.notice().msg.as_str()), (exit, line));
    }
    assert_eq!(
        Refusal::Incompatible.notice().fields[0].1.to_string(),
        "incompatible with current running cluster"
    );
}

#[test]
fn only_a_log_that_a_restore_made_is_taken_over_with_its_database() {
    let made = WalFound {
        last_index: 3,
        commit: 3,
        markers: BTreeSet::from([MarkerId::default(), MarkerId { index: 3, term: 1 }]),
        ..WalFound::default()
    };
    assert_eq!(made.restored_at(), Some(3));
    for other in [
        WalFound {
            has_requests: true,
            ..made.clone()
        },
        WalFound {
            last_index: 4,
            commit: 4,
            ..made.clone()
        },
        WalFound {
            commit: 2,
            ..made.clone()
        },
        WalFound {
            starts_after: 1,
            ..made
        },
        WalFound::default(),
    ] {
        assert_eq!(other.restored_at(), None, "{other:?}");
    }
}
