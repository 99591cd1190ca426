//! For every number: sequences without a violation, and sequences that break exactly that promise.

use super::*;

/// Plays a sequence from its middle on.
type Tale = fn(&mut Story) -> Verdict;

/// The promise, the sequence, and its description.
type Row = (&'static str, &'static str, Tale);

/// Everything, from a revision on.
fn all(start_revision: i64) -> WatchCreateRequest {
    keys("", "\0", start_revision)
}

fn with_progress(request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        progress_notify: true,
        ..request
    }
}

fn with_fragments(request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        fragment: true,
        ..request
    }
}

const GOOD: &[(&str, Tale)] = &[
    ("a watch of the past, in batches, then of the present", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(2, "a"), (3, "b"), (4, "a")])?;
        story.give(&[(5, "a"), (5, "c"), (6, "a"), (7, "a"), (7, "d")])?;
        story.put("e", "1");
        story.give(&[(8, "e")])
    }),
    ("only what was asked for", |story| {
        let mut request = keys("a", "c", 3);
        request.filters = vec![0];
        story.watch(request, 0)?;
        story.give(&[(6, "a")])?;
        story.write(&[Change::Delete("b".into()), put("a", "5")]);
        story.give(&[(8, "b")])
    }),
    ("a watch from now on gets nothing old", |story| {
        story.watch(all(0), 0)?;
        story.put("a", "5");
        story.give(&[(8, "a")])
    }),
    ("a watch of the future, over a snapshot", |story| {
        story.watch(with_progress(all(9)), 0)?;
        story.happen(&[put("a", "5")]);
        story.happen(&[put("b", "5")]);
        story.publish(true);
        story.give(&[(9, "b")])?;
        story.progress(0, 9)
    }),
    ("progress of a watch and of a stream", |story| {
        story.watch(with_progress(all(7)), 0)?;
        story.give(&[(7, "a"), (7, "d")])?;
        story.progress(0, 7)?;
        story.ask_progress();
        story.ask_progress();
        story.progress(-1, 7)
    }),
    ("fragments", |story| {
        story.watch(with_fragments(all(4)), 0)?;
        story.give_part(&[(4, "a"), (5, "a")], true)?;
        story.give_part(&[(5, "c")], true)?;
        story.give_part(&[(6, "a"), (7, "a")], true)?;
        story.give_part(&[(7, "d")], false)?;
        story.put("a", "5");
        story.give_part(&[(8, "a")], false)
    }),
    ("compaction ends a watch that is behind", |story| {
        story.watch(all(2), 0)?;
        story.compact(6);
        story.lose(6)?;
        story.ask_cancel(0);
        let canceled = WatchResponse {
            canceled: true,
            ..story.response()
        };
        story.watched(canceled)?;
        // The id is free again, but new ids continue after it.
        story.watch(all(0), 1)
    }),
    ("the compacted revision itself can be watched", |story| {
        story.compact(6);
        story.watch(all(6), 0)?;
        story.give_changed(&[(6, "a"), (7, "a"), (7, "d")], |events| events[0].prev_kv = None)
    }),
    (
        "of the compacted revision itself a key's last change is left",
        |story| {
            story.put("x", "1");
            story.write(&[Change::DeleteFrom("x".into()), put("x", "2")]);
            story.compact(9);
            story.watch(all(9), 0)?;
            story.put("x", "3");
            story.give(&[(9, "x"), (10, "x")])
        },
    ),
    ("what cannot be watched is refused", |story| {
        let refused = |story: &mut Story, request: WatchCreateRequest, reason: &str| {
            story.ask(RequestUnion::CreateRequest(request));
            let refused = WatchResponse {
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..story.response()
            };
            story.watched(refused)
        };
        refused(story, keys("b", "a", 0), "mvcc: watcher range is empty")?;
        refused(story, all(-1), "etcdserver: mvcc: required revision has been compacted")?;
        let mut request = all(0);
        request.watch_id = 5;
        story.watch(request.clone(), 5)?;
        refused(story, request, "mvcc: duplicate watch ID provided on the WatchStream")?;
        story.watch(all(0), 0)
    }),
    ("cancelled, and what came of unknown watches is silence", |story| {
        story.watch(all(0), 0)?;
        story.ask_cancel(9);
        story.ask_cancel(0);
        let canceled = WatchResponse {
            canceled: true,
            ..story.response()
        };
        story.watched(canceled)?;
        story.watch(all(0), 1)
    }),
    ("everything has come when it was owed", |story| {
        story.watch(all(7), 0)?;
        story.give(&[(7, "a"), (7, "d")])?;
        story.heal(Duration::from_secs(60))
    }),
    ("a stream that is closed is owed nothing", |story| {
        story.watch(all(2), 0)?;
        story.see(&Observation::StreamClosed { stream: StreamId(1) })?;
        story.heal(Duration::from_secs(60))
    }),
];

const BROKEN: &[Row] = &[
    ("C9", "another key", |story| {
        story.watch(keys("a", "", 2), 0)?;
        story.give(&[(2, "a"), (3, "b")])
    }),
    ("C9", "a kind that is filtered", |story| {
        let mut request = all(2);
        request.filters = vec![0];
        story.watch(request, 0)?;
        story.give(&[(2, "a")])
    }),
    ("C10", "an older revision behind a newer one", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(3, "b"), (2, "a")])
    }),
    ("C10", "changes of a revision in another order", |story| {
        story.watch(all(5), 0)?;
        story.give(&[(5, "c"), (5, "a"), (6, "a"), (7, "a"), (7, "d")])
    }),
    ("C10", "a watch goes back to before its beginning", |story| {
        story.watch(all(0), 0)?;
        story.put("a", "5");
        story.give(&[(8, "a")])?;
        story.give(&[(2, "a")])
    }),
    ("C11", "twice in a response", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(2, "a"), (2, "a")])
    }),
    ("C11", "again in a later response", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(2, "a"), (3, "b")])?;
        story.give(&[(3, "b"), (4, "a")])
    }),
    ("C11", "again when it is the newest event", |story| {
        story.watch(all(0), 0)?;
        story.put("a", "5");
        story.give(&[(8, "a")])?;
        story.give(&[(8, "a")])
    }),
    ("C12", "half a revision", |story| {
        story.watch(all(5), 0)?;
        story.give(&[(5, "a")])
    }),
    ("C12", "fragments that were not requested", |story| {
        story.watch(all(5), 0)?;
        story.give_part(&[(5, "a")], true)
    }),
    ("C12", "the last fragment is not the last", |story| {
        story.watch(with_fragments(all(5)), 0)?;
        story.give_part(&[(5, "a")], false)
    }),
    ("C12", "a fragment is followed by something else", |story| {
        story.watch(with_fragments(all(7)), 0)?;
        story.give_part(&[(7, "a")], true)?;
        story.progress(0, 7)
    }),
    ("C13", "an event is left out", |story| {
        story.watch(all(0), 0)?;
        story.put("a", "5");
        story.put("a", "6");
        story.give(&[(9, "a")])
    }),
    ("C13", "an event that never happened", |story| {
        story.watch(all(2), 0)?;
        story.give_changed(&[(2, "a")], |events| {
            events[0].kv.as_mut().expect("a key").key = "z".into();
        })
    }),
    ("C13", "another value", |story| {
        story.watch(all(2), 0)?;
        story.give_changed(&[(2, "a")], |events| {
            events[0].kv.as_mut().expect("a key").value = "z".into();
        })
    }),
    ("C13", "a put that is a deletion", |story| {
        story.watch(all(2), 0)?;
        story.give_changed(&[(2, "a")], |events| events[0].r#type = 1)
    }),
    ("C14", "not the first event after the start", |story| {
        story.watch(all(3), 0)?;
        story.give(&[(4, "a")])
    }),
    ("C14", "an event before the start", |story| {
        story.watch(all(3), 0)?;
        story.give(&[(2, "a")])
    }),
    ("C14", "compacted, with events", |story| {
        story.watch(all(2), 0)?;
        story.compact(6);
        let lost = WatchResponse {
            header: Some(header(0)),
            canceled: true,
            compact_revision: 6,
            events: story.events(&[(7, "a"), (7, "d")]),
            ..WatchResponse::default()
        };
        story.watched(lost)
    }),
    ("C14", "a compaction that did not happen", |story| {
        story.watch(all(2), 0)?;
        story.lose(6)
    }),
    ("C15", "progress past an event that has not come", |story| {
        story.watch(with_progress(all(2)), 0)?;
        story.give(&[(2, "a")])?;
        story.progress(0, 7)
    }),
    ("C15", "progress past the newest event, which has not come", |story| {
        story.watch(with_progress(keys("a", "", 0)), 0)?;
        story.happen(&[put("a", "5")]);
        story.publish(false);
        story.progress(0, 8)
    }),
    ("C15", "progress to before an event that has come", |story| {
        story.watch(with_progress(all(7)), 0)?;
        story.give(&[(7, "a"), (7, "d")])?;
        story.progress(0, 6)
    }),
    ("C15", "progress that was not requested", |story| {
        story.watch(all(0), 0)?;
        story.progress(0, 7)
    }),
    ("C15", "progress of a stream that was not requested", |story| {
        story.watch(all(0), 0)?;
        story.progress(-1, 7)
    }),
    ("C15", "progress of a stream one of whose watches is behind", |story| {
        story.watch(all(0), 0)?;
        story.watch(all(7), 1)?;
        story.ask_progress();
        story.progress(-1, 7)
    }),
    ("C16", "a previous value is missing", |story| {
        story.watch(all(4), 0)?;
        story.give_changed(&[(4, "a")], |events| events[0].prev_kv = None)
    }),
    ("C16", "a previous value of another time", |story| {
        story.watch(all(4), 0)?;
        story.give_changed(&[(4, "a")], |events| {
            events[0].prev_kv.as_mut().expect("a key").value = "0".into();
        })
    }),
    ("C16", "a previous value of a key that did not exist", |story| {
        story.watch(all(7), 0)?;
        story.give_changed(&[(7, "a"), (7, "d")], |events| events[0].prev_kv = events[1].kv.clone())
    }),
    ("C16", "a previous value that was not requested", |story| {
        let mut request = all(4);
        request.prev_kv = false;
        story.watch(request, 0)?;
        story.give(&[(4, "a")])
    }),
    ("C17", "another version", |story| {
        story.watch(all(4), 0)?;
        story.give_changed(&[(4, "a")], |events| events[0].kv.as_mut().expect("a key").version = 1)
    }),
    ("C17", "another creation", |story| {
        story.watch(all(4), 0)?;
        story.give_changed(&[(4, "a")], |events| {
            events[0].kv.as_mut().expect("a key").create_revision = 4;
        })
    }),
    ("C18", "an event before the future start of the watch", |story| {
        story.watch(all(20), 0)?;
        story.put("a", "5");
        story.give(&[(8, "a")])
    }),
    ("C18", "an old event after a snapshot", |story| {
        story.watch(all(20), 0)?;
        story.happen(&[put("a", "5")]);
        story.publish(true);
        story.give(&[(2, "a")])
    }),
    ("C18", "progress before the future start of the watch", |story| {
        story.watch(with_progress(all(20)), 0)?;
        story.progress(0, 7)
    }),
    ("C18", "progress of a stream with a watch of the future", |story| {
        story.watch(all(20), 0)?;
        story.ask_progress();
        story.progress(-1, 7)
    }),
    ("C19", "an event never comes", |story| {
        story.watch(all(7), 0)?;
        story.heal(Duration::from_secs(10))
    }),
    ("C19", "the rest of a revision never comes", |story| {
        story.watch(with_fragments(all(7)), 0)?;
        story.give_part(&[(7, "a")], true)?;
        story.heal(Duration::from_secs(10))
    }),
    ("C19", "a request is never answered", |story| {
        story.ask(RequestUnion::CreateRequest(all(0)));
        story.heal(Duration::from_secs(10))
    }),
    ("C20", "no header", |story| {
        story.watch(all(7), 0)?;
        story.watched(WatchResponse::default())
    }),
    ("C20", "another member's header", |story| {
        story.watch(all(7), 0)?;
        story.watched(WatchResponse {
            header: Some(ResponseHeader {
                member_id: 8,
                ..header(7)
            }),
            ..WatchResponse::default()
        })
    }),
    ("C20", "another cluster's header", |story| {
        story.watch(all(7), 0)?;
        story.watched(WatchResponse {
            header: Some(ResponseHeader {
                cluster_id: 8,
                ..header(7)
            }),
            ..WatchResponse::default()
        })
    }),
    ("C20", "a term that has not begun", |story| {
        story.watch(all(7), 0)?;
        story.watched(WatchResponse {
            header: Some(ResponseHeader {
                raft_term: TERM + 1,
                ..header(7)
            }),
            ..WatchResponse::default()
        })
    }),
    ("C20", "a revision the member does not have", |story| {
        story.watch(with_progress(all(0)), 0)?;
        story.progress(0, 8)
    }),
    ("C20", "an event newer than its header", |story| {
        story.watch(all(7), 0)?;
        let response = WatchResponse {
            header: Some(header(6)),
            events: story.events(&[(7, "a"), (7, "d")]),
            ..WatchResponse::default()
        };
        story.watched(response)
    }),
    ("C20", "events before creation", |story| {
        story.ask(RequestUnion::CreateRequest(all(2)));
        story.give(&[(2, "a")])
    }),
    ("C20", "events after the end", |story| {
        story.watch(all(2), 0)?;
        story.ask_cancel(0);
        let canceled = WatchResponse {
            canceled: true,
            ..story.response()
        };
        story.watched(canceled)?;
        story.give(&[(2, "a")])
    }),
    ("C20", "a watch without a request", |story| {
        let created = WatchResponse {
            created: true,
            ..story.response()
        };
        story.watched(created)
    }),
    ("C20", "an end for no reason", |story| {
        story.watch(all(2), 0)?;
        let canceled = WatchResponse {
            canceled: true,
            ..story.response()
        };
        story.watched(canceled)
    }),
    ("C20", "another id than the next", |story| story.watch(all(2), 3)),
    ("C20", "another id than asked for", |story| {
        let mut request = all(2);
        request.watch_id = 5;
        story.watch(request, 0)
    }),
    ("C20", "an id that is taken", |story| {
        let mut request = all(2);
        request.watch_id = 5;
        story.watch(request.clone(), 5)?;
        story.watch(request, 5)
    }),
    ("C20", "a watch of no keys", |story| story.watch(keys("b", "a", 0), 0)),
    ("C20", "a watch of a negative revision", |story| story.watch(all(-3), 0)),
    ("C20", "refused for no reason", |story| {
        story.ask(RequestUnion::CreateRequest(all(0)));
        let refused = WatchResponse {
            watch_id: -1,
            created: true,
            canceled: true,
            ..story.response()
        };
        story.watched(refused)
    }),
    ("C20", "a cancellation is answered after a later request", |story| {
        story.watch(all(0), 0)?;
        story.ask_cancel(0);
        story.watch(all(0), 1)
    }),
    ("C21", "a watch that catches up skips a revision", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(2, "a"), (3, "b")])?;
        story.give(&[(5, "a"), (5, "c"), (6, "a")])
    }),
    ("C22", "compaction ends a watch that needs nothing before it", |story| {
        story.watch(all(2), 0)?;
        story.give(&[(2, "a"), (3, "b"), (4, "a"), (5, "a"), (5, "c")])?;
        story.compact(6);
        story.lose(6)
    }),
    ("C22", "compaction ends a watch that has everything", |story| {
        story.watch(keys("z", "", 0), 0)?;
        story.put("a", "5");
        story.put("a", "6");
        story.compact(9);
        story.lose(9)
    }),
    ("C22", "the deletion at the compacted revision is not sent", |story| {
        story.compact(6);
        story.watch(all(6), 0)?;
        story.give(&[(7, "a"), (7, "d")])
    }),
    (
        "C13",
        "a deletion that its own transaction undoes is not sent",
        |story| {
            story.put("x", "1");
            story.write(&[Change::DeleteFrom("x".into()), put("x", "2")]);
            story.watch(all(9), 0)?;
            story.give(&[(9, "x")])
        },
    ),
    (
        "C22",
        "compaction removes events and the watch is not cancelled",
        |story| {
            story.watch(all(2), 0)?;
            story.give(&[(2, "a")])?;
            story.compact(6);
            story.give(&[(6, "a"), (7, "a"), (7, "d")])
        },
    ),
];

#[test]
fn stories_in_which_all_is_well() {
    for (what, tale) in GOOD {
        assert_eq!(tale(&mut Story::new()), Ok(()), "{what}");
    }
}

#[test]
fn stories_in_which_one_promise_is_broken() {
    for (number, what, tale) in BROKEN {
        let violation = tale(&mut Story::new()).expect_err(what);
        assert_eq!(violation.checker, *number, "{what}: {}", violation.words);
    }
}

#[test]
fn every_promise_has_a_story_that_breaks_it() {
    // C23 cannot be observed: see the module of the checker.
    for number in (9..=22).map(|number| format!("C{number}")) {
        assert!(BROKEN.iter().any(|(broken, _, _)| *broken == number), "{number}");
    }
}
