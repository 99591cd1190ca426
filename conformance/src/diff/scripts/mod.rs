//! Hand-written scripts: every possible answer of every method once, and cases that are rare or once showed a
//! difference.

mod answers;
mod apart;
mod tales;

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest,
};
use quoin_model::call::Call;

use super::step::{OWN_ID, Step};

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its subject.
    pub name: &'static str,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The script is played to ours only and compared with the model, because etcd 3.5 crashes or ends in another
    /// state.
    pub is_ours_alone: bool,
}

/// All scripts.
#[must_use]
pub fn all() -> Vec<Script> {
    let with_etcd = answers::all().into_iter().chain(tales::all());
    let with_etcd = with_etcd.map(|(name, steps)| Script {
        name,
        steps,
        is_ours_alone: false,
    });
    let alone = apart::all().into_iter().map(|(name, steps)| Script {
        name,
        steps,
        is_ours_alone: true,
    });
    with_etcd.chain(alone).collect()
}

type Named = (&'static str, Vec<Step>);

fn ask(call: Call) -> Step {
    Step::Ask(call)
}

fn put_request(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        ..PutRequest::default()
    }
}

fn put(key: &'static str) -> Step {
    ask(Call::Put(put_request(key)))
}

fn leased(key: &'static str, lease: i64) -> Step {
    ask(Call::Put(PutRequest {
        lease,
        ..put_request(key)
    }))
}

fn range_request(key: &'static str, revision: i64) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        revision,
        ..RangeRequest::default()
    }
}

fn range(key: &'static str, revision: i64) -> Step {
    ask(Call::Range(range_request(key, revision)))
}

fn delete_request(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: true,
    }
}

fn delete(key: &'static str, range_end: &'static str) -> Step {
    ask(Call::DeleteRange(delete_request(key, range_end)))
}

fn txn_request(ops: impl IntoIterator<Item = Op>) -> TxnRequest {
    TxnRequest {
        success: ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect(),
        ..TxnRequest::default()
    }
}

fn txn(ops: impl IntoIterator<Item = Op>) -> Step {
    ask(Call::Txn(txn_request(ops)))
}

fn compact(revision: i64) -> Step {
    ask(Call::Compact(CompactionRequest {
        revision,
        physical: true,
    }))
}

fn hash_kv(revision: i64) -> Step {
    ask(Call::HashKv(HashKvRequest { revision }))
}

fn grant(id: i64, ttl: i64) -> Step {
    ask(Call::LeaseGrant(LeaseGrantRequest { ttl, id }))
}

fn revoke(id: i64) -> Step {
    ask(Call::LeaseRevoke(LeaseRevokeRequest { id }))
}

fn alarm(action: AlarmAction, alarm: AlarmType) -> Step {
    ask(Call::Alarm(AlarmRequest {
        action: action as i32,
        member_id: OWN_ID,
        alarm: alarm as i32,
    }))
}

fn say(union: RequestUnion) -> Step {
    let request_union = Some(union);
    Step::Watch(0, WatchRequest { request_union })
}

fn watch_all(create: WatchCreateRequest) -> Step {
    say(RequestUnion::CreateRequest(WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..create
    }))
}

fn watch_from(start_revision: i64) -> Step {
    watch_all(WatchCreateRequest {
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    })
}

fn progress() -> Step {
    say(RequestUnion::ProgressRequest(WatchProgressRequest {}))
}
