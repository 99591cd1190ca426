//! Simulated clients use the product's front door: its answers to them, without faults and checkers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use quoin_core::limits::MAX_LEASE_TTL_SECONDS;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, HashKvRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest,
    RangeRequest, WatchResponse,
};
use quoin_core::time::Instant;

use super::ports::{Act, Clients, Endpoints, Observer, Returned};
use super::{Options, Run};
use crate::observe::{ClientId, Observation, OpId, StreamId, Verdict};
use quoin_model::call::{Answer, Call};

/// A client that sends one request after another.
#[derive(Default)]
struct Script {
    calls: VecDeque<Call>,
    asked: u64,
    waits: bool,
    results: Vec<Returned>,
}

#[derive(Clone)]
struct Scripted(Rc<RefCell<Script>>);

impl Clients for Scripted {
    fn wakes_at(&self) -> Option<Instant> {
        let script = self.0.borrow();
        let at = Instant::ZERO + Duration::from_secs(2);
        (!script.waits && !script.calls.is_empty()).then_some(at)
    }

    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        let Some(call) = script.calls.pop_front() else { return };
        script.asked += 1;
        script.waits = true;
        acts.push(Act::Ask {
            op: OpId(script.asked),
            client: ClientId(1),
            member: world.members[0].id,
            call,
            deadline: now + Duration::from_secs(5),
        });
    }

    fn returned(&mut self, _: Instant, _: OpId, result: Returned, _: &mut Vec<Act>) {
        let mut script = self.0.borrow_mut();
        script.waits = false;
        script.results.push(result);
    }

    fn watched(&mut self, _: Instant, _: StreamId, _: WatchResponse, _: &mut Vec<Act>) {}

    fn closed(&mut self, _: Instant, _: StreamId, _: &mut Vec<Act>) {}

    fn quiet(&mut self) {}
}

struct Blind;

impl Observer for Blind {
    fn see(&mut self, _: Instant, _: &Observation<'_>) -> Verdict {
        Ok(())
    }
}

/// The answer of a member of one: the message, or the code and text of the error.
fn answers(calls: impl IntoIterator<Item = Call>) -> Vec<Result<Answer, (i32, String)>> {
    let script = Scripted(Rc::new(RefCell::new(Script {
        calls: calls.into_iter().collect(),
        ..Script::default()
    })));
    let options = Options {
        members: Some(1),
        faults: Some(Vec::new()),
        ..Options::default()
    };
    let clients = script.clone();
    let run = Run::new(1, options, |_, _| Box::new(clients)).run(&mut Blind);
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let results = std::mem::take(&mut script.0.borrow_mut().results);
    let told = |result: Returned| {
        let result = result.expect("without faults every call is answered");
        result.map_err(|refusal| (refusal.code, refusal.message))
    };
    results.into_iter().map(told).collect()
}

fn grant(ttl: i64) -> Call {
    Call::LeaseGrant(LeaseGrantRequest { id: 7, ttl })
}

#[test]
fn a_lease_time_is_too_long_only_once_alarms_have_been_looked_at() {
    let alarm = |action: AlarmAction| {
        Call::Alarm(AlarmRequest {
            action: action.into(),
            member_id: 1,
            alarm: AlarmType::Nospace.into(),
        })
    };
    let too_long = || grant(MAX_LEASE_TTL_SECONDS + 1);
    let answers = answers([
        too_long(),
        alarm(AlarmAction::Activate),
        too_long(),
        alarm(AlarmAction::Deactivate),
        grant(MAX_LEASE_TTL_SECONDS),
    ]);
    let refusal = |at: usize| answers[at].as_ref().map_err(|(code, text)| (*code, text.as_str()));
    assert_eq!(refusal(0), Err((11, "etcdserver: too large lease TTL")));
    assert_eq!(refusal(2), Err((8, "etcdserver: mvcc: database space exceeded")));
    assert!(answers[4].is_ok());
}

#[test]
fn every_kind_of_answer_arrives() {
    let put = |key: &'static str| {
        Call::Put(PutRequest {
            key: key.into(),
            lease: 7,
            ..PutRequest::default()
        })
    };
    let answers = answers([
        grant(60),
        put("a"),
        put("b"),
        put("c"),
        put("d"),
        Call::Range(RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit: 3,
            ..RangeRequest::default()
        }),
        Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys: true }),
        Call::LeaseKeepAlive { id: 7 },
        Call::LeaseLeases,
        Call::HashKv(HashKvRequest { revision: 0 }),
        Call::MemberList(MemberListRequest { linearizable: true }),
        Call::Status,
    ]);
    let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
    let [.., range, time, renewed, leases, hash, members, status] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(matches!(range, Answer::Range(range) if range.kvs.len() == 3 && range.more && range.count == 4));
    assert!(matches!(time, Answer::LeaseTimeToLive(time) if time.keys.len() == 4 && time.granted_ttl == 60));
    assert!(matches!(renewed, Answer::LeaseKeepAlive(renewed) if renewed.ttl == 60));
    assert!(matches!(leases, Answer::LeaseLeases(leases) if leases.leases.len() == 1));
    assert!(matches!(hash, Answer::HashKv(hash) if hash.hash_revision == 5));
    assert!(matches!(members, Answer::MemberList(members) if members.members.len() == 1));
    assert!(matches!(status, Answer::Status(status) if status.errors.is_empty()));
}
