//! A sequence without a violation passes, and each bad one breaks exactly the named promise.

use super::*;

/// Two writes and a read of every kind, as a base for the bad sequences.
fn good() -> Story {
    let mut story = Story::new();
    story.put(1, "a");
    story.put(2, "b");
    for (serializable, revision) in [(false, 0), (true, 0), (false, 2), (true, 3)] {
        let request = range(serializable, revision);
        let op = story.ask(1, &Call::Range(request.clone()));
        story.read(&request, op, 3, None);
    }
    story
}

#[test]
fn a_good_story_passes() {
    let mut story = good();
    let op = story.ask(1, &Call::Range(range(false, 9)));
    story.answer(op, 1, Err(&refusal(Error::FutureRevision)));
    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    story.commit(with_id(
        3,
        InternalRaftRequest {
            lease_grant: Some(grant),
            ..InternalRaftRequest::default()
        },
    ));
    let compaction = CompactionRequest {
        revision: 3,
        physical: false,
    };
    story.commit(with_id(
        4,
        InternalRaftRequest {
            compaction: Some(compaction),
            ..InternalRaftRequest::default()
        },
    ));
    let op = story.ask(1, &Call::Range(range(false, 2)));
    story.answer(op, 1, Err(&refusal(Error::Compacted)));
    // A member dies and starts again with its log and an older state.
    let store = Store::new(StoreConfig::default());
    story.stores.insert(3, store);
    story.see(&Observation::Ended {
        member: MemberId(3),
        lost_power: true,
    });
    let last = story.log.len();
    story.start(3, last, 2, 1);
    story.publish(3);
    story.heal();
    story.put(5, "c");
    for _ in 0..30 {
        story.wait(1);
    }
    story.see(&Observation::Finished);
    assert_eq!(story.verdict, None);
    assert!(story.coverage.met().1 >= 4, "{}", story.coverage.table());
}

/// The broken promise, a description, and the sequence.
type Bad = (&'static str, &'static str, fn(&mut Story));

/// Plays each bad sequence after the good one, and compares which promise is broken.
fn breaks(stories: &[Bad]) {
    for (number, name, tell) in stories {
        let mut story = good();
        assert_eq!(story.verdict, None, "before {name}");
        tell(&mut story);
        let broken = story.verdict.as_ref().map(|violation| violation.checker);
        assert_eq!(broken, Some(*number), "{name}: {:?}", story.verdict);
        assert!(
            LIST.iter().any(|(listed, _)| listed == number),
            "{number} is in the list"
        );
    }
}

#[test]
fn answers_that_are_wrong() {
    breaks(&[
        ("C1", "watchers get another value", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            let (view, mut events) = story.apply(1);
            events[0].kv.value = "x".into();
            let status = story.status(1, &view);
            story.show(1, &view, &events, &status);
        }),
        ("C1", "a write is answered with another revision", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.commit(request(3, "c"));
            story.answer(op, 1, Ok(&written(9)));
        }),
        ("C1", "a write without a key is answered", |story| {
            let op = story.ask(1, &Call::Put(PutRequest::default()));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C2", "a write is answered with an entry from before it", |story| {
            story.commit(request(3, "c"));
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C6", "a write is answered that is not in the log", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C6", "a request happens twice", |story| {
            story.commit(request(2, "b"));
        }),
        (
            "C6",
            "a write happens twice, and the state of its proposer covers the first",
            |story| {
                let index = story.log.len() as u64;
                let term = story.log.last().map_or(0, |entry| entry.term);
                story.see(&Observation::Installed {
                    member: MemberId(1),
                    batch: BatchId(1),
                    hard_state: None,
                    index,
                    term,
                    conf_state: &ConfState {
                        voters: vec![1, 2, 3],
                        ..ConfState::default()
                    },
                });
                story.commit(request(2, "b"));
            },
        ),
        ("C6", "a request is refused and happens", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Err(&refusal(Error::TooManyRequests)));
            story.commit(request(3, "c"));
        }),
        ("C6", "a request is answered twice", |story| {
            story.answer(OpId(1), 1, Ok(&written(2)));
        }),
        ("C7", "events leave a revision out", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            story.append(request(4, "d"), EntryType::EntryNormal);
            let (view, events) = story.apply(1);
            let status = story.status(1, &view);
            story.show(1, &view, &events[1..], &status);
        }),
    ]);
}

#[test]
fn reads_that_are_wrong() {
    breaks(&[
        ("C3", "a linearizable read is old", |story| {
            let request = range(false, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 2, Some("a"));
        }),
        ("C3", "a linearizable read shows a value that never existed", |story| {
            let request = range(false, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 3, Some("x"));
        }),
        ("C3", "a lease that does not exist is answered with a TTL", |story| {
            let op = story.ask(1, &Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 9, keys: true }));
            let response = LeaseTimeToLiveResponse {
                header: head(3),
                id: 9,
                ttl: 5,
                granted_ttl: 5,
                ..LeaseTimeToLiveResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::LeaseTimeToLive(response)));
        }),
        ("C3", "a member list is empty", |story| {
            let op = story.ask(1, &Call::MemberList(MemberListRequest { linearizable: true }));
            story.answer(op, 1, Ok(&Answer::MemberList(MemberListResponse::default())));
        }),
        ("C4", "a serializable read is older than the member", |story| {
            let request = range(true, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 2, Some("a"));
        }),
        ("C4", "a status has the revision of another index", |story| {
            let op = story.ask(1, &Call::Status);
            let response = StatusResponse {
                header: head(2),
                raft_applied_index: 6,
                ..StatusResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::Status(response)));
        }),
        ("C4", "leases are listed that do not exist", |story| {
            let op = story.ask(1, &Call::LeaseLeases);
            let response = LeaseLeasesResponse {
                header: head(3),
                leases: vec![Default::default()],
            };
            story.answer(op, 1, Ok(&Answer::LeaseLeases(response)));
        }),
        ("C5", "a read of an old revision shows another value", |story| {
            let request = range(false, 2);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 3, Some("x"));
        }),
        ("C5", "a revision is refused as compacted and is not", |story| {
            let op = story.ask(1, &Call::Range(range(false, 2)));
            story.answer(op, 1, Err(&refusal(Error::Compacted)));
        }),
        ("C5", "a revision is refused as a future one and is not", |story| {
            let op = story.ask(1, &Call::Range(range(false, 3)));
            story.answer(op, 1, Err(&refusal(Error::FutureRevision)));
        }),
    ]);
}

#[test]
fn elections_and_logs_that_are_wrong() {
    breaks(&[
        ("C32", "two members lead in one term", |story| {
            story.send(2, message(MessageType::MsgHeartbeat, 1, 2));
        }),
        ("C33", "two members have different entries at one index", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            let mut other = story.log.last().unwrap().clone();
            other.data = request(3, "x").into();
            story.hand(2, None, &[other]);
        }),
        ("C34", "a leader lacks a committed entry", |story| {
            let entry = Entry {
                index: 5,
                term: 3,
                ..Entry::default()
            };
            story.hand(3, Some(hard_state(3, 3, 3)), &[entry]);
            story.sync(3);
            story.send(3, message(MessageType::MsgHeartbeat, 1, 3));
        }),
        ("C36", "a vote leaves before it is durable", |story| {
            story.hand(2, Some(hard_state(3, 3, 3)), &[]);
            story.send(2, message(MessageType::MsgRequestVoteResponse, 3, 3));
        }),
        ("C36", "a member votes twice", |story| {
            story.send(2, message(MessageType::MsgRequestVoteResponse, 3, 2));
        }),
        ("C41", "a member takes itself for a learner", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                is_learner: true,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C41", "a leader appends a second membership change", |story| {
            story.append(Vec::new(), EntryType::EntryConfChange);
            story.append(Vec::new(), EntryType::EntryConfChange);
        }),
        ("C41", "a leader adds a member that was removed", |story| {
            let removal = ConfChange {
                node_id: 3,
                change_type: ConfChangeType::RemoveNode as i32,
                ..ConfChange::default()
            };
            story.append(removal.encode_to_vec(), EntryType::EntryConfChange);
            story.publish(1);
            story.append(founder(3).data.to_vec(), EntryType::EntryConfChange);
        }),
        ("C41", "a member campaigns past a membership change", |story| {
            let index = story.append(Vec::new(), EntryType::EntryConfChange);
            story.hand(2, Some(hard_state(2, 1, index)), &[]);
            story.hand(2, Some(hard_state(3, 2, index)), &[]);
            let mut view = story.stores[&2].view();
            view.applied_index = index - 1;
            let status = story.status(2, &view);
            story.show(2, &view, &[], &status);
        }),
    ]);
}

#[test]
fn snapshots_and_identities_that_are_wrong() {
    breaks(&[
        ("C42", "a snapshot covers an index that is not committed", |story| {
            story.see(&Observation::Installed {
                member: MemberId(3),
                batch: BatchId(1),
                hard_state: None,
                index: 99,
                term: 2,
                conf_state: &ConfState::default(),
            });
        }),
        ("C42", "a snapshot has another configuration", |story| {
            story.see(&Observation::Installed {
                member: MemberId(3),
                batch: BatchId(1),
                hard_state: None,
                index: 5,
                term: 2,
                conf_state: &ConfState::default(),
            });
        }),
        ("C42", "the state of a snapshot is not that of its index", |story| {
            let view = Store::new(StoreConfig::default()).view();
            let status = story.status(3, &view);
            let shown = View {
                applied_index: 6,
                term: 2,
                cluster: story.stores[&3].view().cluster,
                ..view
            };
            let (member, view) = (MemberId(3), &shown);
            let status = &Status {
                commit_index: 6,
                applied_index: 6,
                ..status
            };
            story.see(&Observation::Started {
                member,
                recovered: &Recovered {
                    hard_state: hard_state(2, 1, 3),
                    entries: story.log.clone(),
                    ..Recovered::default()
                },
                view: &Store::new(StoreConfig::default()).view(),
            });
            story.see(&Observation::Published {
                member,
                view,
                events: &[],
                status,
                restored: true,
            });
        }),
        ("C44", "an answer comes from another cluster", |story| {
            let op = story.ask(1, &Call::Range(range(true, 0)));
            let header = Some(ResponseHeader {
                cluster_id: 9,
                ..head(3).unwrap()
            });
            let response = RangeResponse {
                header,
                ..RangeResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::Range(response)));
        }),
        ("C44", "a member that lost its disk votes", |story| {
            story.see(&Observation::Tampered { member: MemberId(3) });
            story.stores.insert(3, Store::new(StoreConfig::default()));
            story.start(3, 0, 0, 0);
            story.hand(3, Some(hard_state(4, 2, 0)), &[]);
            story.sync(3);
            story.send(3, message(MessageType::MsgRequestVoteResponse, 2, 4));
        }),
    ]);
}

#[test]
fn states_and_disks_that_are_wrong() {
    breaks(&[
        ("C35", "a member applies an entry of another term", |story| {
            let view = story.stores[&3].view();
            let status = story.status(3, &view);
            story.show(3, &View { term: 1, ..view }, &[], &status);
        }),
        ("C37", "an entry is applied that only one disk has", |story| {
            let entry = Entry {
                index: 7,
                term: 2,
                ..Entry::default()
            };
            story.log.push(entry.clone());
            story.hand(1, None, &[entry]);
            story.sync(1);
            story.publish(1);
        }),
        ("C37", "a follower acknowledges entries that its disk lacks", |story| {
            let response = Message {
                index: 99,
                ..message(MessageType::MsgAppendResponse, 1, 2)
            };
            story.send(2, response);
        }),
        ("C37", "a message leaves with a term that is not on disk", |story| {
            story.send(2, message(MessageType::MsgHeartbeatResponse, 1, 3));
        }),
        ("C38", "a term goes back", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                term: 1,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C38", "a term is lost in a restart", |story| {
            let last = story.log.len();
            story.start(3, last, 1, 0);
        }),
        ("C39", "durable entries are lost in a restart", |story| {
            story.start(3, 5, 2, 1);
        }),
        ("C40", "the state is ahead of the applied index", |story| {
            let view = story.stores[&3].view();
            let recovered = Recovered {
                hard_state: hard_state(2, 1, 3),
                entries: story.log.clone(),
                applied: view.applied_index - 1,
                ..Recovered::default()
            };
            story.started(3, &recovered, &view);
        }),
        ("C40", "the applied index is ahead of the state", |story| {
            let view = View {
                kv: Store::new(StoreConfig::default()).view().kv,
                ..story.stores[&3].view()
            };
            let recovered = Recovered {
                hard_state: hard_state(2, 1, 3),
                entries: story.log.clone(),
                applied: view.applied_index,
                ..Recovered::default()
            };
            story.started(3, &recovered, &view);
        }),
    ]);
}

#[test]
fn members_that_disagree_with_others_or_themselves() {
    breaks(&[
        ("C43", "hashes differ", |story| {
            for hash in [1, 2] {
                let op = story.ask(1, &Call::HashKv(HashKvRequest { revision: 3 }));
                let response = HashKvResponse {
                    header: head(3),
                    hash,
                    compact_revision: -1,
                    hash_revision: 3,
                };
                story.answer(op, 1, Ok(&Answer::HashKv(response)));
            }
        }),
        ("C47", "a member stops by itself", |story| {
            story.see(&Observation::Faulted {
                member: MemberId(2),
                fault: &Fault::Inconsistent { cause: "bug".into() },
                excused: false,
            });
        }),
        ("C47", "too many proposals are pending", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                proposals_pending: 1_000_000,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C48", "a member has applied entries that are not committed", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                commit_index: 1,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
    ]);
}

#[test]
fn promises_with_a_deadline() {
    breaks(&[
        ("L1", "no member leads", |story| {
            let view = story.stores[&1].view();
            let status = Status {
                leads: false,
                leader: MemberId::NONE,
                ..story.status(1, &view)
            };
            story.show(1, &view, &[], &status);
            story.heal();
            story.wait(4);
            assert_eq!(story.verdict, None, "there is time left");
            story.wait(2);
        }),
        ("L2", "a write has no answer", |story| {
            story.heal();
            story.ask(1, &Call::Put(put("c")));
            story.wait(7);
        }),
        ("L3", "a member lags", |story| {
            story.heal();
            story.append(request(3, "c"), EntryType::EntryNormal);
            story.publish(1);
            story.publish(2);
            story.wait(16);
            story.wait(5);
        }),
        ("L1", "no member leads although a term began", |story| {
            let view = story.stores[&1].view();
            let status = Status {
                leads: false,
                leader: MemberId::NONE,
                ..story.status(1, &view)
            };
            story.show(1, &view, &[], &status);
            story.heal();
            let status = Status {
                term: status.term + 1,
                ..status
            };
            story.show(1, &view, &[], &status);
            story.wait(6);
            assert_eq!(story.verdict, None, "that took two election timeouts");
            story.wait(2);
        }),
        ("L4", "terms grow", |story| {
            story.heal();
            let view = story.stores[&2].view();
            let status = Status {
                term: 9,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
    ]);
}

#[test]
fn a_cluster_founded_anew_gives_up_entries_that_its_member_lacked() {
    let mut story = good();
    let kept = 5;
    for id in 1..=3 {
        let (member, lost_power) = (MemberId(id), false);
        story.see(&Observation::Ended { member, lost_power });
    }
    story.see(&Observation::Refounded {
        member: MemberId(1),
        kept,
    });
    assert_eq!(story.checkers.truth().committed(), kept);
    story.log.truncate(5);
    story.stores.insert(1, Store::new(StoreConfig::default()));
    for id in [2, 3] {
        let change = ConfChange {
            change_type: 1,
            node_id: id,
            ..ConfChange::default()
        };
        let entry = Entry {
            entry_type: EntryType::EntryConfChange as i32,
            index: story.log.len() as u64 + 1,
            term: 2,
            data: change.encode_to_vec().into(),
            ..Entry::default()
        };
        story.log.push(entry);
    }
    story.start(1, 7, 2, 1);
    story.publish(1);
    assert_eq!(story.verdict, None);
    assert_eq!(story.checkers.truth().committed(), 7);
}

#[test]
fn a_history_without_a_log_is_judged_alike() {
    let told = |revision: i64| {
        let mut story = Story::new();
        let fresh = Checkers::new(Coverage::default(), Rules::default());
        story.checkers = fresh.with_history();
        for (op, call, answer) in [
            (1, Call::Put(put("a")), written(2)),
            (2, Call::Put(put("b")), written(revision)),
        ] {
            let (op, client, member) = (OpId(op), ClientId(1), MemberId(1));
            story.see(&Observation::Invoked {
                op,
                client,
                member,
                call: &call,
            });
            let result = Some(Ok(&answer));
            story.see(&Observation::Returned { op, result });
        }
        story.see(&Observation::Finished);
        story.verdict.map(|violation| violation.checker)
    };
    assert_eq!((told(3), told(2)), (None, Some("C8")));
}
