//! Linearizability of all requests, by the checker of `quoin-model`, with the outcomes that the watch shows.

use quoin_model::linear::kv::{Kv, Op, OpReply, Reply, Request};
use quoin_model::linear::{self, Operation, OperationOf, Verdict, explain};

use super::past::Group;
use super::writes::Claims;
use super::{Past, Violation};
use crate::histories::record::{History, Recorded};

const RULE: &str = "linearizable";
/// Steps of the search. A history of some thousand requests takes about one each.
const NODES_MAX: u64 = 2_000_000;
/// The client that stands for the expiry of leases.
const EXPIRY: u64 = u64::MAX;

pub(super) fn check(history: &History, past: &Past, claims: &Claims) -> Result<(), Violation> {
    let operations = operations(history, past, claims);
    match linear::check(&Kv, &operations, NODES_MAX) {
        Verdict::Linearizable { .. } => Ok(()),
        Verdict::Violation(violation) => {
            let stuck = violation
                .stuck
                .iter()
                .filter_map(|index| operations[*index].output.as_ref()?.revision());
            let revision = stuck.min();
            Err(Violation::new(RULE, revision, explain(&Kv, &operations, &violation)))
        }
        Verdict::GaveUp { nodes } => {
            let words = format!("undecided after {nodes} steps over {} requests", operations.len());
            Err(Violation::new(RULE, None, words))
        }
    }
}

fn operations(history: &History, past: &Past, claims: &Claims) -> Vec<OperationOf<Kv>> {
    let mut operations = Vec::new();
    let mut seen_at = vec![None; history.operations.len()];
    for (revision, owner) in claims {
        match (owner, past.group(*revision)) {
            (Some(owner), _) => seen_at[*owner] = Some(*revision),
            (None, Some(group)) => operations.push(end_of_leases(*revision, group)),
            (None, None) => {}
        }
    }
    for (operation, seen) in history.operations.iter().zip(seen_at) {
        let known = operation
            .reply
            .clone()
            .or_else(|| seen.and_then(|revision| happened(operation, revision, past)));
        // Every revision up to the end has its write, so a write without an answer and without a revision changed
        // nothing.
        let is_without_effect = is_read(&operation.request) || seen.is_none() && history.end.is_some();
        if operation.serializable || known.is_none() && is_without_effect {
            continue;
        }
        operations.push(Operation {
            client: operation.client,
            invoked: operation.invoked,
            returned: operation.returned,
            input: operation.request.clone(),
            output: known,
        });
    }
    operations
}

/// The answer of a request without one, if it follows from the request's revision.
fn happened(operation: &Recorded, revision: i64, past: &Past) -> Option<Reply> {
    match &operation.request {
        Request::One(Op::DeleteRange { .. }) => Some(Reply::One {
            revision,
            reply: OpReply::Deleted(past.group(revision)?.events.len()),
        }),
        Request::One(Op::Put { .. }) => Some(Reply::One {
            revision,
            reply: OpReply::Put,
        }),
        // Only the writing branch can have had a revision.
        Request::Txn { success, failure, .. } if failure.iter().all(is_range) => {
            let is_put = |op: &Op| matches!(op, Op::Put { .. });
            success.iter().all(is_put).then(|| Reply::Txn {
                revision,
                succeeded: true,
                replies: vec![OpReply::Put; success.len()],
            })
        }
        Request::Compact { .. } | Request::One(_) | Request::Txn { .. } => None,
    }
}

fn end_of_leases(revision: i64, group: &Group) -> OperationOf<Kv> {
    let delete = |key: &bytes::Bytes| Op::DeleteRange {
        key: key.clone(),
        end: None,
    };
    Operation {
        client: EXPIRY,
        invoked: 0,
        returned: Some(group.at),
        input: Request::Txn {
            compare: Vec::new(),
            success: group.events.iter().map(|event| delete(&event.key)).collect(),
            failure: Vec::new(),
        },
        output: Some(Reply::Txn {
            revision,
            succeeded: true,
            replies: vec![OpReply::Deleted(1); group.events.len()],
        }),
    }
}

fn is_read(request: &Request) -> bool {
    super::writes::branches(request).all(|ops| ops.iter().all(is_range))
}

fn is_range(op: &Op) -> bool {
    matches!(op, Op::Range { .. })
}
