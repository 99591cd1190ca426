//! For every number: sequences without a violation, and sequences that break exactly that promise.

use quoin_core::proto::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
    PutResponse,
};

use super::super::tests::story::{self, FIRST, SECOND, grant, put, revoke};
use super::*;
use quoin_model::call::{Answer, Refusal};

type Story = story::Story<LeaseChecker>;

/// Plays a sequence from its beginning.
type Tale = fn(&mut Story) -> Verdict;

/// A sequence with lease 7 of ten seconds, which has the keys `a` and `b`.
fn story() -> Story {
    let rules = LeaseRules {
        drift_percent: 5,
        election_timeout: Duration::from_secs(1),
        checkpoints: Some(true),
    };
    let mut story = Story::new(LeaseChecker::new(rules));
    for request in [grant(7, 10), put("a", 7), put("b", 7), put("c", 0)] {
        story.commit(request).expect("nothing is broken so far");
    }
    story
}

fn checkpoint(id: i64, remaining_ttl: i64) -> InternalRaftRequest {
    let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
    InternalRaftRequest {
        lease_checkpoint: Some(LeaseCheckpointRequest { checkpoints }),
        ..InternalRaftRequest::default()
    }
}

fn kept(id: i64, ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse { header: None, id, ttl }
}

fn keep_alive(story: &mut Story, member: MemberId, id: i64, ttl: i64) -> Verdict {
    story.call(
        member,
        &Call::LeaseKeepAlive { id },
        &Answer::LeaseKeepAlive(kept(id, ttl)),
    )
}

/// The remaining time of lease 7 is requested and answered.
fn left(story: &mut Story, ttl: i64, granted_ttl: i64, keys: Option<&[&'static str]>) -> Verdict {
    left_of(story, 7, ttl, granted_ttl, keys)
}

/// The remaining time of a lease is requested and answered.
fn left_of(story: &mut Story, id: i64, ttl: i64, granted_ttl: i64, keys: Option<&[&'static str]>) -> Verdict {
    let request = LeaseTimeToLiveRequest {
        id,
        keys: keys.is_some(),
    };
    let response = LeaseTimeToLiveResponse {
        header: None,
        id,
        ttl,
        granted_ttl,
        keys: keys.unwrap_or_default().iter().map(|key| (*key).into()).collect(),
    };
    story.call(
        FIRST,
        &Call::LeaseTimeToLive(request),
        &Answer::LeaseTimeToLive(response),
    )
}

fn granted(story: &mut Story, asked: (i64, i64), told: (i64, i64)) -> Verdict {
    let request = LeaseGrantRequest {
        id: asked.0,
        ttl: asked.1,
    };
    let op = story.invoke(FIRST, &Call::LeaseGrant(request));
    if told.0 != 0 {
        story.commit(grant(told.0, asked.1))?;
    }
    let response = LeaseGrantResponse {
        header: None,
        id: told.0,
        ttl: told.1,
        error: String::new(),
    };
    story.reply(op, FIRST, Ok(&Answer::LeaseGrant(response)))
}

fn refused(story: &mut Story, id: i64, ttl: i64, message: &str) -> Verdict {
    let op = story.invoke(FIRST, &Call::LeaseGrant(LeaseGrantRequest { id, ttl }));
    let refusal = Refusal {
        code: 9,
        message: message.to_owned(),
    };
    story.reply(op, FIRST, Err(&refusal))
}

fn put_answered(story: &mut Story, lease: i64) -> Verdict {
    let request = PutRequest {
        key: "x".into(),
        lease,
        ..PutRequest::default()
    };
    story.call(FIRST, &Call::Put(request), &Answer::Put(PutResponse::default()))
}

fn heal(story: &mut Story, wait: u64) -> Verdict {
    story.see(&Observation::Healed {
        core: &[FIRST],
        election_timeout: Duration::from_secs(1),
        pre_vote: true,
    })?;
    story.wait(wait);
    story.see(&Observation::Finished)
}

/// The end of lease 7, published with other changes than the true ones.
fn end_with(story: &mut Story, change: fn(&mut Vec<Event>)) -> Verdict {
    story.wait(10);
    story.propose(FIRST, revoke(7))?;
    let mut events = story.apply();
    change(&mut events);
    story.publish_with(&events)
}

const GOOD: &[(&str, Tale)] = &[
    ("a lease ends when its time has passed", |story| {
        story.wait(10);
        story.commit(revoke(7))?;
        left(story, -1, 0, None)?;
        keep_alive(story, FIRST, 7, 0)
    }),
    ("a fast clock is allowed five percent", |story| {
        story.wait(9);
        story.at = story.at + Duration::from_millis(510);
        story.commit(revoke(7))
    }),
    ("kept alive, it has its time again", |story| {
        story.wait(9);
        keep_alive(story, FIRST, 7, 10)?;
        left(story, 9, 10, Some(&["b", "a"]))?;
        story.wait(10);
        story.commit(revoke(7))
    }),
    ("a new leader gives it its time and an election more", |story| {
        story.wait(5);
        story.lead(SECOND)?;
        left(story, 10, 10, None)?;
        story.wait(11);
        left(story, -1, 0, None)?;
        story.commit(revoke(7))
    }),
    (
        "a new leader gives it what a checkpoint left, and an election more",
        |story| {
            story.wait(6);
            story.commit(checkpoint(7, 4))?;
            story.lead(SECOND)?;
            left(story, 4, 10, None)?;
            story.wait(5);
            story.commit(revoke(7))
        },
    ),
    (
        "kept alive just after a change of leader, the extension is gone",
        |story| {
            story.wait(5);
            story.lead(SECOND)?;
            keep_alive(story, SECOND, 7, 10)?;
            story.wait(10);
            story.commit(revoke(7))
        },
    ),
    ("a leader that is cut off ends it for itself alone", |story| {
        story.wait(8);
        story.lead(SECOND)?;
        keep_alive(story, SECOND, 7, 10)?;
        story.wait(2);
        story.append_alone(FIRST, 1, revoke(7))
    }),
    ("long leases are written down every five minutes", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(315);
        story.commit(checkpoint(8, 700))?;
        story.wait(315);
        story.commit(checkpoint(8, 400))?;
        story.lead(SECOND)?;
        left_of(story, 8, 401, 1_000, None)?;
        story.wait(315);
        story.commit(checkpoint(8, 100))?;
        story.wait(95);
        story.commit(revoke(8))?;
        story.wait(500);
        story.commit(put("x", 0))
    }),
    ("kept alive, it is written down five minutes after that", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(290);
        keep_alive(story, FIRST, 8, 1_000)?;
        story.wait(300);
        story.commit(checkpoint(8, 700))?;
        story.commit(checkpoint(8, 0))?;
        story.lead(SECOND)?;
        left_of(story, 8, 1_000, 1_000, None)
    }),
    ("a leader that is no more writes nothing down", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(200);
        story.lead(SECOND)?;
        story.wait(200);
        story.commit(put("x", 0))
    }),
    ("clients end leases when they like, and wherever", |story| {
        story.invoke(SECOND, &Call::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
        story.forward(SECOND, revoke(7))?;
        story.propose(SECOND, revoke(7))?;
        story.publish()
    }),
    (
        "a later leader carries out a renewal requested before any member had the lease",
        |story| {
            let op = story.invoke(SECOND, &Call::LeaseKeepAlive { id: 8 });
            story.commit(grant(8, 10))?;
            story.lead(SECOND)?;
            story.reply(op, SECOND, Ok(&Answer::LeaseKeepAlive(kept(8, 10))))?;
            // All of its time again, but without the extension at a change of leader.
            story.wait(10);
            story.commit(revoke(8))
        },
    ),
    ("the remaining time is answered as before the renewal", |story| {
        story.wait(8);
        let request = LeaseTimeToLiveRequest { id: 7, keys: false };
        let op = story.invoke(FIRST, &Call::LeaseTimeToLive(request));
        keep_alive(story, FIRST, 7, 10)?;
        let response = LeaseTimeToLiveResponse {
            id: 7,
            ttl: 1,
            granted_ttl: 10,
            ..LeaseTimeToLiveResponse::default()
        };
        story.reply(op, FIRST, Ok(&Answer::LeaseTimeToLive(response)))
    }),
    ("grants", |story| {
        granted(story, (8, 60), (8, 60))?;
        granted(story, (-9, -5), (-9, 2))?;
        granted(story, (0, 5), (12, 5))?;
        refused(story, 7, 60, "etcdserver: lease already exists")?;
        refused(story, 9, i64::MAX, "etcdserver: too large lease TTL")
    }),
    ("other members and those that start have the same leases", |story| {
        let view = story.view();
        story.publish_as(SECOND, &view, &[])?;
        story.start(SECOND, &view)?;
        let response = LeaseLeasesResponse {
            header: None,
            leases: vec![LeaseStatus { id: 7 }],
        };
        story.call(SECOND, &Call::LeaseLeases, &Answer::LeaseLeases(response))?;
        put_answered(story, 7)?;
        story.see(&Observation::Finished)
    }),
    ("after healing it ends in time", |story| {
        story.wait(10);
        story.see(&Observation::Healed {
            core: &[FIRST],
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
        })?;
        story.commit(revoke(7))?;
        story.wait(100);
        story.see(&Observation::Finished)
    }),
    ("after healing a later leader gives it time again", |story| {
        heal(story, 30)?;
        story.lead(SECOND)?;
        story.wait(8);
        story.see(&Observation::Finished)
    }),
    ("after healing it is kept alive", |story| {
        heal(story, 30)?;
        keep_alive(story, FIRST, 7, 10)?;
        story.wait(5);
        story.see(&Observation::Finished)
    }),
];

const BROKEN: &[(&str, &str, Tale)] = &[
    ("C24", "early after the grant", |story| {
        story.wait(9);
        story.commit(revoke(7))
    }),
    ("C24", "early after it was kept alive", |story| {
        story.wait(9);
        keep_alive(story, FIRST, 7, 10)?;
        story.wait(9);
        story.commit(revoke(7))
    }),
    ("C24", "early after a change of leader", |story| {
        story.wait(8);
        story.lead(SECOND)?;
        story.wait(2);
        story.commit(revoke(7))
    }),
    ("C24", "early by an election timeout under a new leader", |story| {
        story.wait(8);
        story.lead(SECOND)?;
        story.wait(10);
        story.commit(revoke(7))
    }),
    ("C24", "early by the time that a checkpoint left", |story| {
        story.wait(6);
        story.commit(checkpoint(7, 4))?;
        story.lead(SECOND)?;
        story.wait(3);
        story.commit(revoke(7))
    }),
    ("C24", "a revocation of a deposed leader reaches the log", |story| {
        story.wait(30);
        story.lead(SECOND)?;
        story.propose(FIRST, revoke(7))
    }),
    ("C24", "a deposed leader forwards a revocation", |story| {
        story.wait(30);
        story.lead(SECOND)?;
        story.forward(FIRST, revoke(7))
    }),
    ("C25", "kept alive by a deposed leader", |story| {
        story.lead(SECOND)?;
        // The status of the first member is from before the change of leader.
        let response = LeaseKeepAliveResponse {
            header: None,
            id: 7,
            ttl: 10,
        };
        story.call(
            FIRST,
            &Call::LeaseKeepAlive { id: 7 },
            &Answer::LeaseKeepAlive(response),
        )
    }),
    ("C25", "kept alive although it has ended", |story| {
        story.wait(10);
        story.commit(revoke(7))?;
        keep_alive(story, FIRST, 7, 10)
    }),
    ("C25", "not kept alive although it exists", |story| {
        keep_alive(story, FIRST, 7, 0)
    }),
    ("C25", "kept alive for longer than granted", |story| {
        keep_alive(story, FIRST, 7, 11)
    }),
    ("C26", "a key stays", |story| {
        end_with(story, |events| {
            events.pop();
        })
    }),
    ("C26", "another key goes too", |story| {
        end_with(story, |events| {
            let mut other = events[0].clone();
            other.kv.key = "c".into();
            events.push(other);
        })
    }),
    ("C26", "keys go one by one", |story| {
        end_with(story, |events| events[1].kv.mod_revision += 1)
    }),
    ("C27", "more than was granted", |story| left(story, 13, 10, None)),
    ("C27", "less than must be left", |story| left(story, 8, 10, None)),
    ("C27", "less than is left since it was kept alive", |story| {
        story.wait(8);
        keep_alive(story, FIRST, 7, 10)?;
        left(story, 1, 10, None)
    }),
    ("C27", "gone before its time", |story| left(story, -1, 0, None)),
    ("C27", "another grant", |story| left(story, 9, 9, None)),
    ("C27", "time is left of a lease that has ended", |story| {
        story.wait(10);
        story.commit(revoke(7))?;
        left(story, 3, 10, None)
    }),
    ("C27", "less than the checkpoint after a change of leader", |story| {
        story.wait(6);
        story.commit(checkpoint(7, 4))?;
        story.lead(SECOND)?;
        left(story, 3, 10, None)
    }),
    ("C27", "other keys", |story| left(story, 9, 10, Some(&["a", "c"]))),
    ("C28", "it never ends", |story| heal(story, 60)),
    ("C28", "kept alive once, it never ends after that", |story| {
        heal(story, 5)?;
        keep_alive(story, FIRST, 7, 10)?;
        story.wait(60);
        story.see(&Observation::Finished)?;
        story.wait(60);
        story.see(&Observation::Finished)
    }),
    ("C29", "no id was drawn", |story| granted(story, (0, 5), (0, 5))),
    ("C29", "another id", |story| granted(story, (8, 5), (9, 5))),
    ("C29", "less than asked for", |story| granted(story, (8, 5), (8, 4))),
    ("C29", "a negative TTL is granted as it is", |story| {
        granted(story, (8, -5), (8, -5))
    }),
    ("C29", "granted twice", |story| granted(story, (7, 10), (7, 10))),
    ("C29", "no entry grants it", |story| {
        let call = Call::LeaseGrant(LeaseGrantRequest { id: 9, ttl: 10 });
        let response = LeaseGrantResponse {
            id: 9,
            ttl: 10,
            ..LeaseGrantResponse::default()
        };
        story.call(FIRST, &call, &Answer::LeaseGrant(response))
    }),
    ("C29", "refused as if it existed", |story| {
        refused(story, 8, 10, "etcdserver: lease already exists")
    }),
    ("C29", "refused as if its TTL were too long", |story| {
        refused(story, 8, 10, "etcdserver: too large lease TTL")
    }),
    ("C30", "a key on a lease that does not exist", |story| {
        story.propose(FIRST, put("x", 0))?;
        let mut events = story.apply();
        events[0].kv.lease = 99;
        story.publish_with(&events)
    }),
    ("C30", "a put with a lease that does not exist succeeds", |story| {
        put_answered(story, 99)
    }),
    ("C27", "a checkpoint has less than the time left", |story| {
        story.wait(3);
        story.commit(checkpoint(7, 4))
    }),
    ("C27", "a long lease has no checkpoint", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(400);
        story.commit(put("x", 0))
    }),
    ("C27", "a long lease has only one checkpoint", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(300);
        story.commit(checkpoint(8, 700))?;
        story.wait(400);
        story.commit(put("x", 0))
    }),
    ("C27", "a later leader makes no checkpoint", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(300);
        story.commit(checkpoint(8, 700))?;
        story.lead(SECOND)?;
        story.wait(400);
        story.commit(put("x", 0))
    }),
    ("C27", "a later leader gives the lease its whole TTL again", |story| {
        story.commit(grant(8, 1_000))?;
        story.wait(300);
        story.commit(checkpoint(8, 700))?;
        story.lead(SECOND)?;
        left_of(story, 8, 1_000, 1_000, None)
    }),
    ("C27", "it outlasts its checkpoint", |story| {
        story.commit(grant(8, 350))?;
        story.wait(300);
        story.commit(checkpoint(8, 50))?;
        story.lead(SECOND)?;
        story.wait(150);
        story.commit(put("x", 0))
    }),
    ("C31", "a member has an additional lease", |story| {
        let view = story.other_view(5, grant(8, 10));
        story.publish_as(SECOND, &view, &[])
    }),
    ("C31", "a member has another TTL", |story| {
        let view = story.other_view(2, grant(7, 11));
        story.publish_as(SECOND, &view, &[])
    }),
    ("C31", "a member starts without a key on its lease", |story| {
        let view = story.other_view(3, put("a", 0));
        story.start(SECOND, &view)
    }),
    ("C31", "a member ends with another key on its lease", |story| {
        let view = story.other_view(5, put("c", 7));
        story.start(SECOND, &story.view())?;
        story.publish_as(SECOND, &view, &[])?;
        story.see(&Observation::Finished)
    }),
    ("C31", "a lease is listed that never existed", |story| {
        let response = LeaseLeasesResponse {
            header: None,
            leases: vec![LeaseStatus { id: 70 }],
        };
        story.call(FIRST, &Call::LeaseLeases, &Answer::LeaseLeases(response))
    }),
];

#[test]
fn stories_in_which_all_is_well() {
    for (what, tale) in GOOD {
        assert_eq!(tale(&mut story()), Ok(()), "{what}");
    }
}

#[test]
fn stories_in_which_one_promise_is_broken() {
    for (number, what, tale) in BROKEN {
        let violation = tale(&mut story()).expect_err(what);
        assert_eq!(violation.checker, *number, "{what}: {}", violation.words);
    }
}

#[test]
fn every_promise_has_a_story_that_breaks_it() {
    for number in (24..=31).map(|number| format!("C{number}")) {
        assert!(BROKEN.iter().any(|(broken, _, _)| *broken == number), "{number}");
    }
}
