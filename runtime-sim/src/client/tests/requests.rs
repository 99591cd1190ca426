//! How single requests are sent: to which member, how often, and with which outcome.

use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest, WatchRequest,
};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::bench::Bench;
use super::mock::refuse;
use crate::client::line::{Desk, Line, Names, Outcome, Rota};
use crate::client::mind::Mind;
use crate::client::plan::Plan;
use crate::cluster::ports::{Act, Clients as _, Endpoint, Endpoints, Returned};
use crate::observe::ClientId;
use quoin_model::call::{Answer, Call};

/// Sends one request, gives it `results` one after another, and returns which members got it and when, and the outcome.
fn story(call: &Call, results: &[Returned]) -> String {
    let world = Endpoints {
        members: (1..4)
            .map(|id| Endpoint {
                id: MemberId(id),
                is_started: true,
                is_learner: false,
            })
            .collect(),
    };
    let (mut mind, plan, mut names) = (Mind::default(), Plan::draw(1), Names::default());
    // The client asks the first of three members and stays with it.
    let mut rota = Rota::new(&mut Prng::new(1), false);
    let mut acts = Vec::new();
    let mut line = Line::default();
    let mut desk = Desk {
        now: Instant::ZERO,
        world: &world,
        mind: &mut mind,
        plan: &plan,
        names: &mut names,
        acts: &mut acts,
        client: ClientId(0),
    };
    assert!(line.ask(&mut desk, &mut rota, call.clone(), Duration::from_secs(1)));
    let mut end = "under way".to_owned();
    for result in results {
        desk.now = desk.now + Duration::from_millis(400);
        match line.returned(&mut desk, &mut rota, result.clone()) {
            Some(Outcome::Answered(_)) => end = "answered".to_owned(),
            Some(Outcome::Refused(refusal)) => end = refusal.message,
            Some(Outcome::Lost) => end = "lost".to_owned(),
            None => {
                desk.now = line.wakes_at().expect("it will be asked again");
                assert_eq!(line.wake(&mut desk, &mut rota), None);
            }
        }
    }
    let first = acts.first().map(|act| match act {
        Act::Ask { member, .. } => member.0,
        other => panic!("{other:?}"),
    });
    let asked: Vec<String> = acts
        .iter()
        .map(|act| match act {
            Act::Ask { member, .. } => format!("+{}", (member.0 + 3 - first.unwrap()) % 3),
            other => panic!("{other:?}"),
        })
        .collect();
    format!("{}: {end}", asked.join(" "))
}

#[test]
fn reads_and_grants_are_repeated_and_writes_are_not() {
    let range = Call::Range(RangeRequest::default());
    let put = Call::Put(PutRequest::default());
    let txn = Call::Txn(TxnRequest::default());
    let grant = Call::LeaseGrant(LeaseGrantRequest::default());
    let done = || Some(Ok(Answer::Range(RangeResponse::default())));
    let no_leader = || Some(refuse(14, "etcdserver: no leader"));
    let compacted = || Some(refuse(11, "etcdserver: mvcc: required revision has been compacted"));
    let table = [
        (&range, vec![done()], "+0: answered"),
        (&range, vec![no_leader(), done()], "+0 +1: answered"),
        (&range, vec![None, no_leader(), done()], "+0 +1 +2: answered"),
        (
            &range,
            vec![compacted()],
            "+0: etcdserver: mvcc: required revision has been compacted",
        ),
        // After the deadline nothing is sent.
        (
            &range,
            vec![no_leader(), no_leader(), no_leader()],
            "+0 +1 +2: etcdserver: no leader",
        ),
        (&put, vec![no_leader()], "+0: etcdserver: no leader"),
        (&put, vec![None], "+0: lost"),
        (&txn, vec![None], "+0: lost"),
        (&grant, vec![None, done()], "+0 +1: answered"),
    ];
    for (call, results, expected) in table {
        assert_eq!(story(call, &results), expected, "{call:?} {results:?}");
    }
}

#[test]
fn a_client_with_one_lane_waits_for_the_answer() {
    for seed in 0..20 {
        let mut plan = Plan::draw(seed);
        (plan.lanes, plan.watchers, plan.leaseholders, plan.lockers) = (1, 0, 0, 0);
        let mut bench = Bench::new(seed, plan);
        bench.run(Duration::from_secs(60), 400);
        let mut asked_at = std::collections::BTreeMap::new();
        for (at, act) in &bench.acts {
            if let Act::Ask { client, .. } = act
                && let Some(before) = asked_at.insert(client.0, *at)
            {
                assert!(*at > before, "seed {seed}: {client:?} asks twice at {at}");
            }
        }
        assert!(!bench.acts.is_empty());
    }
}

#[test]
fn after_healing_traffic_is_gentle_and_goes_on() {
    for seed in 0..40 {
        let mut bench = Bench::new(seed, Plan::draw(seed));
        bench.breaks_percent = 3;
        bench.run(Duration::from_secs(20), 3_000);
        bench.crowd.quiet();
        bench.breaks_percent = 0;
        // Pending requests end.
        bench.run(Duration::from_secs(20), usize::MAX);
        let (told, acts) = (bench.told.len(), bench.acts.len());
        bench.run(Duration::from_secs(60), usize::MAX);
        let plan = bench.crowd.plan().clone();
        let (mut puts, mut gets) = (0, 0);
        for (_, act) in &bench.acts[acts..] {
            match act {
                Act::Ask { client, call, .. } if client.0 < plan.callers => match call {
                    Call::Put(_) => puts += 1,
                    Call::Range(range) if !range.serializable && range.revision == 0 => gets += 1,
                    other => panic!("seed {seed}: {other:?}"),
                },
                // Lock clients continue; no other client opens or leaves streams.
                Act::Ask { call, .. } => {
                    assert!(
                        !matches!(call, Call::Compact(_) | Call::LeaseRevoke(_)),
                        "seed {seed}: {call:?}"
                    );
                }
                Act::Open { client, .. } => {
                    assert!(
                        client.0 >= plan.callers + plan.watchers,
                        "seed {seed}: {client:?} opens a stream"
                    );
                }
                Act::Watch {
                    request:
                        WatchRequest {
                            request_union: Some(RequestUnion::CancelRequest(_)),
                        },
                    ..
                }
                | Act::GiveUp { .. }
                | Act::Identify { .. }
                | Act::Pause { .. } => panic!("seed {seed}: {act:?}"),
                Act::Watch { .. } | Act::CloseStream { .. } => {}
            }
        }
        let expected = 55 * plan.callers..=62 * plan.callers;
        assert!(
            expected.contains(&puts) && expected.contains(&gets),
            "seed {seed}: {puts} {gets}"
        );
        assert!(plan.watchers == 0 || bench.told.len() >= told, "seed {seed}");
    }
}
