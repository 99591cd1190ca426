//! Messages of every kind are admitted, changed or dropped.

use super::*;
use crate::membership::Member;
use crate::proto::etcdserverpb::RequestHeader;
use crate::proto::raftpb::{ConfChange, ConfState, Entry, Snapshot, SnapshotMetadata};
use crate::store::Content;
use prost::Message as _;

const STANDING: Standing = Standing {
    me: MemberId(1),
    term: 5,
    last_index: 10,
    leads: false,
    all_persisted: true,
    matched: None,
};

fn message(kind: i32) -> Message {
    Message {
        msg_type: kind,
        to: 1,
        from: 2,
        term: 5,
        ..Message::default()
    }
}

fn of(kind: MessageType) -> Message {
    message(kind as i32)
}

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index,
        term,
        ..Entry::default()
    }
}

fn admitted(mut message: Message) -> bool {
    admit(&mut message, MemberId(2), STANDING, &mut Drops::default()).unwrap()
}

#[test]
fn a_term_that_elections_cannot_have_reached_is_refused_and_counted() {
    let mut drops = Drops::default();
    let mut admitted = |kind, term| {
        let mut message = Message { term, ..of(kind) };
        admit(&mut message, MemberId(2), STANDING, &mut drops).unwrap()
    };
    assert!(admitted(MessageType::MsgRequestVote, 5 + MAX_TERM_STEP));
    for term in [6 + MAX_TERM_STEP, MAX_TERM + 1, u64::MAX] {
        for kind in [
            MessageType::MsgAppend,
            MessageType::MsgHeartbeatResponse,
            MessageType::MsgRequestPreVote,
            MessageType::MsgRequestVote,
        ] {
            assert!(!admitted(kind, term), "{kind:?} in term {term}");
        }
    }
    let counted = drops.take();
    assert_eq!((counted.len(), counted[0].count), (1, 12));
    assert_eq!(
        counted[0].cause, "term 1099511627782, where this member is in term 5",
        "the first of them"
    );
}

#[test]
fn a_term_above_the_largest_allowed_one_is_refused() {
    let standing = Standing {
        term: MAX_TERM,
        ..STANDING
    };
    let mut vote = Message {
        term: MAX_TERM + 1,
        ..of(MessageType::MsgRequestVote)
    };
    assert!(!admit(&mut vote, MemberId(2), standing, &mut Drops::default()).unwrap());
}

#[test]
fn unknown_and_local_types_never_reach_consensus() {
    for kind in [-1, 19, 20, 21, 22, 23, 1000] {
        assert!(!admitted(message(kind)), "type {kind}");
    }
    for kind in [0, 1, 10, 11, 12] {
        assert!(!admitted(message(kind)), "local type {kind}");
    }
}

#[test]
fn messages_in_the_name_of_others_to_others_or_without_a_term_are_dropped() {
    let table = [
        (
            "to another member",
            Message {
                to: 3,
                ..of(MessageType::MsgHeartbeat)
            },
        ),
        (
            "in another's name",
            Message {
                from: 3,
                ..of(MessageType::MsgHeartbeat)
            },
        ),
        (
            "without a sender",
            Message {
                from: 0,
                ..of(MessageType::MsgTransferLeader)
            },
        ),
        (
            "a vote without a term",
            Message {
                term: 0,
                ..of(MessageType::MsgRequestVote)
            },
        ),
        (
            "an append without a term",
            Message {
                term: 0,
                ..of(MessageType::MsgAppend)
            },
        ),
        (
            "a transfer, to a follower",
            Message {
                from: 3,
                ..of(MessageType::MsgTransferLeader)
            },
        ),
        ("a snapshot without its data", of(MessageType::MsgSnapshot)),
    ];
    for (what, message) in table {
        assert!(!admitted(message), "{what}");
    }
    let leads = Standing {
        leads: true,
        ..STANDING
    };
    let mut transfer = Message {
        from: 3,
        ..of(MessageType::MsgTransferLeader)
    };
    assert!(
        admit(&mut transfer, MemberId(2), leads, &mut Drops::default()).unwrap(),
        "a follower forwards it in the target's name"
    );
}

#[test]
fn a_snapshot_must_say_what_it_covers() {
    let snapshot = |index, term, conf_state: Option<ConfState>| Message {
        snapshot: Some(Snapshot {
            metadata: Some(SnapshotMetadata {
                conf_state,
                index,
                term,
            }),
            ..Snapshot::default()
        }),
        ..of(MessageType::MsgSnapshot)
    };
    let voters = || Some(ConfState::from((vec![1, 2], vec![])));
    let table = [
        ("a good one", snapshot(20, 5, voters()), true),
        ("none at all", of(MessageType::MsgSnapshot), false),
        ("of nothing", snapshot(0, 5, voters()), false),
        ("of everything", snapshot(u64::MAX, 5, voters()), false),
        (
            "of more than a log can hold",
            snapshot(MAX_LOG_INDEX + 1, 5, voters()),
            false,
        ),
        ("without a term", snapshot(20, 0, voters()), false),
        ("of a later term than its sender's", snapshot(20, 6, voters()), false),
        ("without a configuration", snapshot(20, 5, None), false),
        (
            "in another's name",
            Message {
                from: 3,
                ..snapshot(20, 5, voters())
            },
            false,
        ),
        (
            "in an implausible term",
            Message {
                term: u64::MAX,
                ..snapshot(20, 5, voters())
            },
            false,
        ),
        (
            "another message",
            Message {
                msg_type: MessageType::MsgAppend as i32,
                ..snapshot(20, 5, voters())
            },
            false,
        ),
    ];
    for (what, mut message, expected) in table {
        let admitted = admit_snapshot(&mut message, MemberId(2), STANDING, &mut Drops::default());
        assert_eq!(admitted, expected, "{what}");
    }
}

#[test]
fn messages_that_would_make_consensus_panic_are_dropped() {
    let append = |index, log_term, entries: &[(u64, u64)]| Message {
        index,
        log_term,
        entries: entries.iter().map(|(index, term)| entry(*index, *term)).collect(),
        ..of(MessageType::MsgAppend)
    };
    let propose = |entry_type, data: Vec<u8>| Message {
        entries: vec![Entry {
            entry_type,
            data: data.into(),
            ..Entry::default()
        }],
        ..of(MessageType::MsgPropose)
    };
    let addition = ConfChange {
        node_id: 4,
        context: Member {
            id: MemberId(4),
            ..Member::default()
        }
        .to_json()
        .into(),
        ..ConfChange::default()
    };
    let table = [
        (append(3, 1, &[(4, 1), (5, 5)]), true),
        (append(3, 1, &[(5, 1)]), false),
        (append(3, 2, &[(4, 1)]), false),
        (append(3, 1, &[(4, 6)]), false),
        (append(u64::MAX, 1, &[(0, 1)]), false),
        (of(MessageType::MsgPropose), false),
        (
            propose(
                0,
                Content::Nothing.into_request(RequestHeader::default()).encode_to_vec(),
            ),
            true,
        ),
        (propose(0, vec![0xff]), false),
        (propose(1, addition.encode_to_vec()), true),
        (propose(1, vec![0xff]), false),
        (propose(2, Vec::new()), false),
        (propose(7, Vec::new()), false),
        (of(MessageType::MsgReadIndex), false),
        (
            Message {
                entries: vec![entry(0, 0)],
                ..of(MessageType::MsgReadIndex)
            },
            true,
        ),
        (of(MessageType::MsgReadIndexResp), false),
        (
            Message {
                index: 11,
                ..of(MessageType::MsgAppendResponse)
            },
            false,
        ),
        (
            Message {
                index: 11,
                reject: true,
                ..of(MessageType::MsgAppendResponse)
            },
            true,
        ),
    ];
    for (message, expected) in table {
        assert_eq!(admitted(message.clone()), expected, "{message:?}");
    }
    let mut now = of(MessageType::MsgTimeoutNow);
    assert!(
        !admit(
            &mut now,
            MemberId(2),
            Standing {
                all_persisted: false,
                ..STANDING
            },
            &mut Drops::default()
        )
        .unwrap()
    );
}

#[test]
fn a_heartbeat_that_relies_on_lost_entries_is_a_fault() {
    let beat = |term, commit| Message {
        term,
        commit,
        ..of(MessageType::MsgHeartbeat)
    };
    assert!(admitted(beat(5, 10)));
    assert!(admitted(beat(4, 11)), "an old leader's heartbeat is only answered");
    let fault = admit(&mut beat(5, 11), MemberId(2), STANDING, &mut Drops::default()).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the leader 2 counts on entry 11 of this member's log, which ends at 10: the log was truncated or lost"
    );
}

#[test]
fn the_term_of_a_request_and_fields_that_etcd_does_not_have_are_cleared() {
    let mut message = Message {
        term: 9,
        priority: 1,
        request_snapshot: 2,
        entries: vec![Entry {
            context: "c".into(),
            data: Content::Nothing
                .into_request(RequestHeader::default())
                .encode_to_vec()
                .into(),
            ..Entry::default()
        }],
        ..of(MessageType::MsgPropose)
    };
    assert!(admit(&mut message, MemberId(2), STANDING, &mut Drops::default()).unwrap());
    assert_eq!((message.term, message.priority, message.request_snapshot), (0, 0, 0));
    assert!(message.entries[0].context.is_empty());
}

#[test]
fn a_commit_index_counts_in_appends_and_heartbeats_only() {
    for (kind, expected) in [
        (MessageType::MsgAppend, 7),
        (MessageType::MsgHeartbeat, 7),
        (MessageType::MsgAppendResponse, 0),
        (MessageType::MsgHeartbeatResponse, 0),
        (MessageType::MsgRequestVote, 0),
        (MessageType::MsgRequestVoteResponse, 0),
        (MessageType::MsgRequestPreVote, 0),
        (MessageType::MsgRequestPreVoteResponse, 0),
    ] {
        let mut message = Message {
            commit: 7,
            commit_term: 5,
            ..of(kind)
        };
        assert!(admit(&mut message, MemberId(2), STANDING, &mut Drops::default()).unwrap());
        assert_eq!((message.commit, message.commit_term), (expected, 0), "{kind:?}");
    }
}

#[test]
fn messages_that_a_follower_passes_on_may_name_another_sender() {
    let read = Message {
        from: 3,
        entries: vec![entry(0, 0)],
        ..of(MessageType::MsgReadIndex)
    };
    assert!(admitted(read.clone()));
    assert!(
        admitted(Message { from: 1, ..read }),
        "even if that is the current leader"
    );
    let proposal = Message {
        from: 3,
        entries: vec![Entry {
            data: Content::Nothing
                .into_request(RequestHeader::default())
                .encode_to_vec()
                .into(),
            ..Entry::default()
        }],
        ..of(MessageType::MsgPropose)
    };
    assert!(admitted(proposal));
}

#[test]
fn a_late_refusal_of_acknowledged_entries_is_dropped_unless_its_term_is_new() {
    let leads = Standing {
        leads: true,
        matched: Some(8),
        ..STANDING
    };
    let refusal = |index, term| Message {
        index,
        term,
        reject: true,
        reject_hint: u64::MAX,
        ..of(MessageType::MsgAppendResponse)
    };
    for (index, term, expected) in [(9, 5, true), (8, 5, false), (2, 5, false), (0, 6, true)] {
        let mut message = refusal(index, term);
        let found = admit(&mut message, MemberId(2), leads, &mut Drops::default()).unwrap();
        assert_eq!(found, expected, "refusal of {index} in term {term}");
        assert!(message.reject_hint <= index, "the crate adds one to it");
    }
    assert!(
        admitted(refusal(2, 5)),
        "only a leader knows what the sender acknowledged"
    );
}
