//! Simulated bugs of ours: the comparison finds each. No server is needed, because the model answers for both.

use quoin_conformance::diff::{
    Delivered, Difference, Expected, Generator, Met, Oracle, Parties, Planned, Seen, Settings, Step, compare,
};
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest, WatchRequest,
};
use quoin_model::call::{Answer, Call, Refusal};

/// The answers of a server that behaves like the model.
fn right(planned: &Planned) -> Seen {
    let reply = |expected: &Expected| match expected {
        Expected::Known(reply) => (**reply).clone(),
        Expected::Silent => Ok(Answer::Internal),
    };
    Seen {
        arrived: planned.due.as_ref().map(|due| due.deliveries.clone()),
        replies: planned.replies.iter().map(reply).collect(),
    }
}

/// The first difference that a simulated bug causes in a script.
fn found(planned: &[Planned], fault: impl Fn(&Planned, &mut Seen)) -> Option<Difference> {
    let mut differences = planned.iter().filter_map(|planned| {
        let real = right(planned);
        let mut ours = real.clone();
        fault(planned, &mut ours);
        compare(planned, &real, &ours, &mut Met::new())
    });
    differences.next()
}

/// Five keys, a watch of all, a range with a limit, a transaction of two writes, and leases.
fn script() -> Vec<Planned> {
    let mut oracle = Oracle::new(Settings::default());
    let put = |key: &'static str| PutRequest {
        key: key.into(),
        ..PutRequest::default()
    };
    let everything = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..WatchCreateRequest::default()
    };
    let request_union = Some(RequestUnion::CreateRequest(everything));
    let mut steps = vec![Step::Watch(0, WatchRequest { request_union })];
    steps.extend(["a", "b", "c", "d", "e"].map(|key| Step::Ask(Call::Put(put(key)))));
    let ops = ["f", "g"].map(|key| quoin_core::proto::etcdserverpb::RequestOp {
        request: Some(quoin_core::proto::etcdserverpb::request_op::Request::RequestPut(put(
            key,
        ))),
    });
    let lease = LeaseGrantRequest { ttl: 1000, id: 7 };
    steps.extend([
        Step::Ask(Call::Range(RangeRequest {
            key: "a".into(),
            range_end: "\0".into(),
            limit: 2,
            ..RangeRequest::default()
        })),
        Step::Ask(Call::Put(PutRequest::default())),
        Step::Ask(Call::Txn(TxnRequest {
            success: ops.to_vec(),
            ..TxnRequest::default()
        })),
        Step::Ask(Call::LeaseGrant(lease)),
        Step::Ask(Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys: false })),
        Step::Expire {
            id: 8,
            ttl: 2,
            keys: vec!["h".into()],
        },
    ]);
    let mut planned: Vec<_> = steps.into_iter().map(|step| oracle.plan(step)).collect();
    planned.push(Planned {
        step: Step::Pause,
        due: Some(oracle.finish()),
        replies: Vec::new(),
    });
    planned
}

fn ranges(seen: &mut Seen, change: impl Fn(&mut quoin_core::proto::etcdserverpb::RangeResponse)) {
    for reply in &mut seen.replies {
        if let Ok(Answer::Range(response)) = reply {
            change(response);
        }
    }
}

fn deliveries(seen: &mut Seen, change: impl Fn(&mut Vec<Delivered>)) {
    seen.arrived
        .iter_mut()
        .flat_map(|arrived| arrived.values_mut())
        .for_each(change);
}

#[track_caller]
fn assert_found(about: &str, fault: impl Fn(&Planned, &mut Seen)) {
    let difference = found(&script(), fault).expect("a difference");
    assert_eq!(difference.between, Parties::EtcdAndOurs);
    assert!(difference.about.starts_with(about), "{difference}");
}

#[test]
fn without_a_fault_there_is_no_difference() {
    assert_eq!(found(&script(), |_, _| {}), None);
    let mut generator = Generator::new(1);
    let planned: Vec<_> = (0..2_000).map(|_| generator.next_step()).collect();
    assert_eq!(found(&planned, |_, _| {}), None);
}

#[test]
fn a_wrong_more_flag() {
    assert_found("Range", |_, seen| ranges(seen, |response| response.more = false));
}

#[test]
fn a_count_taken_after_the_limit() {
    assert_found("Range", |_, seen| {
        ranges(seen, |response| response.count = response.kvs.len() as i64);
    });
}

#[test]
fn a_wrong_error_text() {
    assert_found("Put", |_, seen| {
        for reply in &mut seen.replies {
            if let Err(Refusal { message, .. }) = reply {
                *message = message.replace("is not provided", "not provided");
            }
        }
    });
}

#[test]
fn a_wrong_error_code() {
    assert_found("Put", |_, seen| {
        for reply in &mut seen.replies {
            if let Err(Refusal { code, .. }) = reply {
                *code = 2;
            }
        }
    });
}

#[test]
fn a_lost_watch_event() {
    assert_found("watch 0 on stream 0", |_, seen| {
        deliveries(seen, |responses| {
            responses.truncate(4);
        });
    });
}

#[test]
fn an_event_sent_twice() {
    assert_found("watch 0 on stream 0", |_, seen| {
        deliveries(seen, |responses| responses.extend(responses.last().cloned()));
    });
}

#[test]
fn an_event_split_from_its_revision() {
    assert_found("watch 0 on stream 0", |_, seen| {
        deliveries(seen, |responses| {
            let Some(at) = responses.iter().position(|told| told.response.events.len() > 1) else {
                return;
            };
            let mut rest = responses[at].clone();
            rest.response.events.remove(0);
            responses[at].response.events.truncate(1);
            responses.insert(at + 1, rest);
        });
    });
}

#[test]
fn a_lease_that_expires_early() {
    // It is gone when the client asks for it.
    assert_found("LeaseTimeToLive", |planned, seen| {
        if matches!(planned.step, Step::Ask(Call::LeaseTimeToLive(_))) {
            for reply in &mut seen.replies {
                if let Ok(Answer::LeaseTimeToLive(response)) = reply {
                    response.ttl = -1;
                }
            }
        }
    });
    // Its keys were gone before its TTL had passed, by the client's clock.
    assert_found("lease expiry", |planned, seen| {
        if matches!(planned.step, Step::Expire { .. }) {
            let measured = seen.replies.iter_mut().find(|reply| **reply == Ok(Answer::Internal));
            *measured.expect("it is measured") = Err(Refusal {
                code: -1,
                message: "the lease of 2s ended before its time".to_owned(),
            });
        }
    });
}

#[test]
fn an_answer_that_only_the_model_contradicts() {
    let difference = script().iter().find_map(|planned| {
        let mut both = right(planned);
        ranges(&mut both, |response| response.count += 1);
        compare(planned, &both, &both.clone(), &mut Met::new())
    });
    assert_eq!(
        difference.expect("the model says otherwise").between,
        Parties::EtcdAndModel
    );
}
