//! The write behind each revision: every acknowledged write is the whole of its revision, and every revision is the
//! whole of a requested write, or the expiry of leases.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quoin_model::linear::kv::{Op, OpReply, Reply, Request};

use super::{Past, Violation};
use crate::histories::clients::LEASE_KEYS;
use crate::histories::record::{Event, History, Recorded};

/// For each revision the index of its operation, or `None` for the expiry of leases.
pub(super) type Claims = BTreeMap<i64, Option<usize>>;

/// A key and its new value.
type Change = (Bytes, Option<Bytes>);

pub(super) fn check(history: &History, past: &Past) -> Result<Claims, Violation> {
    let mut claims = Claims::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let Some((revision, ops)) = told(operation) else {
            continue;
        };
        let expected = effect(ops, past, revision);
        let seen = past
            .group(revision)
            .map(|group| changes(&group.events))
            .unwrap_or_default();
        if seen != expected {
            let words = format!(
                "client {} got an answer to {:?} at revision {revision}, which changed {seen:?} instead of {expected:?}",
                operation.client, operation.request
            );
            return Err(Violation::new("no acknowledged write lost", revision, words));
        }
        if let Some(other) = claims.insert(revision, Some(index)) {
            let words = format!("revision {revision} is in the answers to operations {other:?} and {index}");
            return Err(Violation::new("one write, one revision", revision, words));
        }
    }
    claim_the_rest(history, past, &mut claims)?;
    Ok(claims)
}

/// Finds the cause of each revision that is in no answer: a write without an answer, or the expiry of leases.
fn claim_the_rest(history: &History, past: &Past, claims: &mut Claims) -> Result<(), Violation> {
    let mut open: BTreeSet<usize> = (0..history.operations.len())
        .filter(|index| history.operations[*index].reply.is_none())
        .collect();
    for (revision, group) in past.groups() {
        if claims.contains_key(&revision) {
            continue;
        }
        let seen = changes(&group.events);
        let is_end_of_leases = |(key, set): &Change| set.is_none() && key.starts_with(LEASE_KEYS);
        let owner = open.iter().copied().find(|index| {
            let operation = &history.operations[*index];
            operation.invoked <= group.at && branches(&operation.request).any(|ops| effect(ops, past, revision) == seen)
        });
        if let Some(owner) = owner {
            open.remove(&owner);
        } else if !seen.iter().all(is_end_of_leases) {
            let words = format!("revision {revision} changed {seen:?}, which is not the whole effect of any request");
            return Err(Violation::new("all or nothing", revision, words));
        }
        claims.insert(revision, owner);
    }
    Ok(())
}

/// The revision of an acknowledged write, and its changes.
fn told(operation: &Recorded) -> Option<(i64, &[Op])> {
    let wrote = |reply: &OpReply| !matches!(reply, OpReply::Range(_) | OpReply::Deleted(0));
    match (operation.reply.as_ref()?, &operation.request) {
        (Reply::One { revision, reply }, Request::One(op)) if wrote(reply) => {
            Some((*revision, std::slice::from_ref(op)))
        }
        (
            Reply::Txn {
                revision,
                succeeded,
                replies,
            },
            Request::Txn { success, failure, .. },
        ) if replies.iter().any(wrote) => Some((*revision, if *succeeded { success } else { failure })),
        _ => None,
    }
}

/// The possible operations of a request, depending on its compares.
pub(super) fn branches(request: &Request) -> impl Iterator<Item = &[Op]> {
    let (one, other): (Option<&[Op]>, Option<&[Op]>) = match request {
        Request::Compact { .. } => (None, None),
        Request::One(op) => (Some(std::slice::from_ref(op)), None),
        Request::Txn { success, failure, .. } => (Some(success), Some(failure)),
    };
    one.into_iter().chain(other)
}

/// The changes of these operations at a revision.
fn effect(ops: &[Op], past: &Past, revision: i64) -> Vec<Change> {
    let change = |op: &Op| match op {
        Op::DeleteRange { key, end } => {
            let there = past.range(key, end.as_deref(), revision - 1);
            there.into_iter().map(|found| (found.key, None)).collect()
        }
        Op::Put { key, value } => vec![(key.clone(), Some(value.clone()))],
        Op::Range { .. } => Vec::new(),
    };
    ops.iter().flat_map(change).collect()
}

fn changes(events: &[Event]) -> Vec<Change> {
    let change = |event: &Event| (event.key.clone(), event.set.as_ref().map(|set| set.value.clone()));
    events.iter().map(change).collect()
}
