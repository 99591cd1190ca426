//! The steps of a script. A step means the same on every server. It can be removed from a script: then the revisions
//! that later steps name are adjusted.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::TargetUnion;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{LeaseGrantRequest, RangeRequest, TxnRequest, WatchRequest};
use quoin_model::call::Call;

use super::bare::Bare;

/// Stands for the member's own id, which differs between servers, in requests and in normalised answers.
pub const OWN_ID: u64 = 0xdecade;

/// One action of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes a request and waits for the answer.
    Ask(Call),
    /// Makes a request for which the model has no `Call`.
    Bare(Bare),
    /// Grants a lease and, if that succeeds, revokes it. Only here may the server choose the id, or the TTL be short.
    Brief(LeaseGrantRequest),
    /// Defragments.
    Defragment,
    /// Grants a lease with a short TTL, writes keys with it, and waits until they are gone.
    Expire {
        /// The lease.
        id: i64,
        /// Its TTL in seconds.
        ttl: i64,
        /// The writes with it; at least one key.
        keys: Vec<Bytes>,
    },
    /// Waits a moment; every script ends with this.
    Pause,
    /// Cancels a watch stream; the next request on it opens another.
    Reset(u8),
    /// Sends a request on a watch stream, which is opened if necessary.
    Watch(u8, WatchRequest),
}

impl Step {
    /// The name in the counts: usually the method in etcd's API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ask(call) => call.name(),
            Self::Bare(bare) => bare.name(),
            Self::Brief(_) => "LeaseGrant and LeaseRevoke",
            Self::Defragment => "Defragment",
            Self::Expire { .. } => "lease expiry",
            Self::Pause => "pause",
            Self::Reset(_) => "Watch reset",
            Self::Watch(_, request) => match request.request_union {
                Some(RequestUnion::CreateRequest(_)) => "Watch create",
                Some(RequestUnion::CancelRequest(_)) => "Watch cancel",
                Some(RequestUnion::ProgressRequest(_)) => "Watch progress",
                None => "Watch nothing",
            },
        }
    }

    /// How many requests it sends.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match self {
            Self::Ask(_) | Self::Bare(_) | Self::Defragment | Self::Watch(..) => 1,
            Self::Brief(_) => 2,
            Self::Expire { keys, .. } => 2 + keys.len() as u64,
            Self::Pause | Self::Reset(_) => 0,
        }
    }

    /// Whether it may be in flight together with others of its kind, because no answer depends on their order.
    #[must_use]
    pub fn goes_together(&self) -> bool {
        match self {
            // A hash may have to wait for a compaction. A renewal changes the order of the list of leases.
            Self::Ask(Call::HashKv(_) | Call::LeaseKeepAlive { .. }) => false,
            Self::Ask(call) => call.is_read(),
            Self::Bare(_)
            | Self::Brief(_)
            | Self::Defragment
            | Self::Expire { .. }
            | Self::Pause
            | Self::Reset(_)
            | Self::Watch(..) => false,
        }
    }

    /// All revisions that the step names.
    pub fn revisions(&mut self, visit: &mut impl FnMut(&mut i64)) {
        match self {
            Self::Ask(Call::Compact(request)) => visit(&mut request.revision),
            Self::Ask(Call::HashKv(request)) => visit(&mut request.revision),
            Self::Ask(Call::Range(request)) => range(request, visit),
            Self::Ask(Call::Txn(request)) => txn(request, visit),
            Self::Watch(_, request) => {
                if let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union {
                    visit(&mut create.start_revision);
                }
            }
            Self::Ask(_)
            | Self::Bare(_)
            | Self::Brief(_)
            | Self::Defragment
            | Self::Expire { .. }
            | Self::Pause
            | Self::Reset(_) => {}
        }
    }
}

fn range(request: &mut RangeRequest, visit: &mut impl FnMut(&mut i64)) {
    visit(&mut request.revision);
    visit(&mut request.min_mod_revision);
    visit(&mut request.max_mod_revision);
    visit(&mut request.min_create_revision);
    visit(&mut request.max_create_revision);
}

fn txn(request: &mut TxnRequest, visit: &mut impl FnMut(&mut i64)) {
    for compare in &mut request.compare {
        if let Some(TargetUnion::ModRevision(revision) | TargetUnion::CreateRevision(revision)) =
            &mut compare.target_union
        {
            visit(revision);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Op::RequestRange(request)) => range(request, visit),
            Some(Op::RequestTxn(request)) => txn(request, visit),
            Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) | None => {}
        }
    }
}

/// How the revisions of a script change when steps are left out.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// By the revision of the whole script after a step: the revision of the shortened script after the same step.
    to: BTreeMap<i64, i64>,
}

impl Moves {
    /// Records that after some step the revision was `before` in the whole script and is `now` in the rest of it.
    pub(super) fn note(&mut self, before: i64, now: i64) {
        self.to.insert(before, now);
    }

    /// Adjusts the revisions that a step names. Revisions up to 0 stay; a future revision keeps its distance from the
    /// last one.
    pub(super) fn apply(&self, step: &mut Step) {
        step.revisions(&mut |revision| {
            if *revision > 0
                && let Some((before, now)) = self.to.range(..=*revision).next_back()
            {
                let is_known = self.to.range(*revision..).next().is_some();
                let beyond = if is_known { 0 } else { *revision - before };
                *revision = now.saturating_add(beyond);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::proto::etcdserverpb::CompactionRequest;

    use super::*;

    #[test]
    fn revisions_are_adjusted_with_the_writes_that_made_them() {
        let mut moves = Moves::default();
        // Revisions 3 and 4 are made by a step that was left out.
        for (before, now) in [(1, 1), (2, 2), (4, 2), (5, 3)] {
            moves.note(before, now);
        }
        let table = [
            (-7, -7),
            (0, 0),
            (2, 2),
            (3, 2),
            (4, 2),
            (5, 3),
            (9, 7),
            (i64::MAX, i64::MAX - 2),
        ];
        for (named, expected) in table {
            let mut step = Step::Ask(Call::Compact(CompactionRequest {
                revision: named,
                physical: false,
            }));
            moves.apply(&mut step);
            step.revisions(&mut |revision| assert_eq!(*revision, expected, "{named}"));
        }
    }
}
