//! How scripts print the consequences of an entry: one line each, in the words of the API.

use std::fmt::Write as _;

use prost::Message as _;
use quoin_core::error::Error;
use quoin_core::mvcc::{Event, EventKind, Revision};
use quoin_core::proto::etcdserverpb::response_op::Response as OpResponse;
use quoin_core::proto::etcdserverpb::{
    AlarmMember, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
};
use quoin_core::proto::leasepb;
use quoin_core::proto::mvccpb::KeyValue;
use quoin_core::store::{Applied, ConfOutcome, LeaseChange, Response};
use quoin_core::table::{Bucket, TableOp};

/// The consequences of one entry, except counts and finished compactions. A change of the cluster version shows by its
/// row.
pub(crate) fn applied(applied: &Applied, ops: &[TableOp]) -> String {
    let mut lines = Vec::new();
    lines.extend(applied.results.iter().map(|(_, result)| answer(result)));
    lines.extend(applied.term_opened.map(|term| format!("term {term} opened")));
    lines.extend(applied.events.iter().map(event));
    lines.extend(applied.leases.iter().map(lease_change));
    lines.extend(applied.conf_changes.iter().map(conf_change));
    if applied.raise_no_space {
        lines.push("raise NOSPACE".to_owned());
    }
    if applied.version_lowered {
        lines.push("version lowered".to_owned());
    }
    lines.extend(ops.iter().filter_map(row));
    lines.join("\n")
}

pub(crate) fn answer(result: &Result<Response, Error>) -> String {
    match result {
        Err(error) => format!("error {error}"),
        Ok(Response::Alarm(response)) => {
            let alarms: Vec<_> = response.alarms.iter().map(alarm).collect();
            format!("alarms{} [{}]", revision(&response.header), alarms.join(", "))
        }
        Ok(Response::Compact(response)) => format!("compact{}", revision(&response.header)),
        Ok(Response::DeleteRange(response)) => delete_range(response),
        Ok(Response::Empty) => "ok".to_owned(),
        Ok(Response::AuthChanged(response)) => format!("auth{}", revision(&response.header)),
        Ok(Response::Authenticated(response)) => format!("token {}", response.token),
        Ok(Response::LeaseCheckpoint(response)) => format!("checkpoint{}", revision(&response.header)),
        Ok(Response::LeaseGrant(response)) => {
            format!(
                "grant{} id={} ttl={}",
                revision(&response.header),
                response.id,
                response.ttl
            )
        }
        Ok(Response::LeaseRevoke(response)) => format!("revoke{}", revision(&response.header)),
        Ok(Response::Members(members)) => {
            let members: Vec<_> = members
                .iter()
                .map(|m| String::from_utf8(m.to_json()).unwrap())
                .collect();
            format!("members {}", members.join(" "))
        }
        Ok(Response::Put(response)) => put(response),
        Ok(Response::Range(response)) => range(response),
        Ok(Response::Txn(response)) => txn(response),
    }
}

pub(crate) fn range(response: &RangeResponse) -> String {
    let mut text = format!("range{} count={}", revision(&response.header), response.count);
    if response.more {
        text.push_str(" more");
    }
    for kv in &response.kvs {
        write!(text, " {}", pair(kv)).unwrap();
    }
    text
}

pub(crate) fn txn(response: &TxnResponse) -> String {
    let outcome = if response.succeeded { "then" } else { "else" };
    let mut text = format!("txn{} {outcome}", revision(&response.header));
    for op in &response.responses {
        let op = match &op.response {
            None => "nothing".to_owned(),
            Some(OpResponse::ResponseDeleteRange(response)) => delete_range(response),
            Some(OpResponse::ResponsePut(response)) => put(response),
            Some(OpResponse::ResponseRange(response)) => range(response),
            Some(OpResponse::ResponseTxn(response)) => txn(response),
        };
        write!(text, " ({op})").unwrap();
    }
    text
}

fn put(response: &PutResponse) -> String {
    let prev = response
        .prev_kv
        .as_ref()
        .map_or(String::new(), |kv| format!(" prev {}", pair(kv)));
    format!("put{}{prev}", revision(&response.header))
}

fn delete_range(response: &DeleteRangeResponse) -> String {
    let mut text = format!("del{} deleted={}", revision(&response.header), response.deleted);
    for kv in &response.prev_kvs {
        write!(text, " prev {}", pair(kv)).unwrap();
    }
    text
}

fn revision(header: &Option<ResponseHeader>) -> String {
    header
        .as_ref()
        .map_or(" headless".to_owned(), |header| format!(" rev={}", header.revision))
}

/// `key=value@c..,m..,v..,l..`: the creation revision, modification revision, version and lease (left out if none). A
/// long value is shown by its length.
fn pair(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 {
        String::new()
    } else {
        format!(",l{}", kv.lease)
    };
    let KeyValue {
        create_revision,
        mod_revision,
        version,
        ..
    } = kv;
    let value = match kv.value.len() {
        0..40 => kv.value.escape_ascii().to_string(),
        long => format!("<{long} bytes>"),
    };
    let key = kv.key.escape_ascii();
    format!("{key}={value}@c{create_revision},m{mod_revision},v{version}{lease}")
}

fn event(event: &Event) -> String {
    let prev = event
        .prev_kv
        .as_ref()
        .map_or(String::new(), |kv| format!(" was {}", pair(kv)));
    match event.kind {
        EventKind::Put => format!("event PUT {}{prev}", pair(&event.kv)),
        EventKind::Delete => format!(
            "event DELETE {} @m{}{prev}",
            event.kv.key.escape_ascii(),
            event.kv.mod_revision
        ),
    }
}

fn lease_change(change: &LeaseChange) -> String {
    match change {
        LeaseChange::Checkpointed { id, remaining_ttl } => format!("lease {id} has {remaining_ttl}s left"),
        LeaseChange::Granted { id, ttl } => format!("lease {id} granted for {ttl}s"),
        LeaseChange::Revoked { id } => format!("lease {id} revoked"),
    }
}

fn conf_change(outcome: &ConfOutcome) -> String {
    let change = &outcome.change;
    format!(
        "consensus: type {} node {:x}; effect: {:?}",
        change.change_type, change.node_id, outcome.effect
    )
}

pub(crate) fn alarm(alarm: &AlarmMember) -> String {
    format!("{:?} of {:x}", alarm.alarm(), alarm.member_id)
}

/// A row; `None` for the rows of the consistent index and its term.
pub(crate) fn row(op: &TableOp) -> Option<String> {
    let key = match op.bucket {
        Bucket::Meta if [&b"consistent_index"[..], b"term"].contains(&&op.key[..]) => return None,
        Bucket::Key => revision_of(&op.key),
        Bucket::Lease => i64::from_be_bytes(op.key[..].try_into().unwrap()).to_string(),
        Bucket::Alarm => alarm(&AlarmMember::decode(op.key.clone()).unwrap()),
        _ => op.key.escape_ascii().to_string(),
    };
    let value = match (&op.value, op.bucket) {
        (None, _) => "gone".to_owned(),
        (Some(value), Bucket::Key) => {
            let kv = KeyValue::decode(value.clone()).unwrap();
            if op.key.ends_with(b"t") {
                format!("{} deleted", kv.key.escape_ascii())
            } else {
                pair(&kv)
            }
        }
        (Some(value), Bucket::Lease) => {
            let leasepb::Lease { ttl, remaining_ttl, .. } = leasepb::Lease::decode(value.clone()).unwrap();
            format!("{ttl}s, {remaining_ttl}s remaining")
        }
        (Some(value), Bucket::Meta) if value.len() == 17 => revision_of(value),
        (Some(value), _) => String::from_utf8(value.to_vec()).unwrap(),
    };
    Some(format!("row {} {key}: {value}", op.bucket.name()))
}

fn revision_of(key: &[u8]) -> String {
    let (Revision { main, sub }, tombstone) = Revision::from_row_key(key).unwrap();
    format!("{main}.{sub}{}", if tombstone { "t" } else { "" })
}
