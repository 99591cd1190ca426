//! What a script is made of. A step means the same on every server, and can be taken out of a script: the revisions it names
//! move with the writes that made them.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::TargetUnion;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{LeaseGrantRequest, RangeRequest, TxnRequest, WatchRequest};
use quoin_model::call::Call;

use super::bare::Bare;

/// Stands for the member's own id, which no two servers share, in requests and in what is made of answers.
pub const OWN_ID: u64 = 0xdecade;

/// One thing a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Asks something and waits for the answer.
    Ask(Call),
    /// Asks what is no call of the simulator's.
    Bare(Bare),
    /// Asks for a lease and, if it gets one, gives it back. Only here may the server choose the id, or the time be short.
    Brief(LeaseGrantRequest),
    /// Asks the member to tidy its files.
    Defragment,
    /// Makes a lease that is short, writes keys with it, and waits until they are gone.
    Expire {
        /// The lease.
        id: i64,
        /// Its time in seconds.
        ttl: i64,
        /// What is written with it; at least one key.
        keys: Vec<Bytes>,
    },
    /// Waits a moment; so every script ends.
    Pause,
    /// Breaks off a watch stream; the next request on it opens another.
    Reset(u8),
    /// Says something on a watch stream, opened if need be.
    Watch(u8, WatchRequest),
}

impl Step {
    /// The name it is counted under: that of the method in etcd's API, mostly.
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

    /// Whether it may be under way together with others of its kind: nothing anybody could tell depends on their order.
    #[must_use]
    pub fn goes_together(&self) -> bool {
        match self {
            // It may have to wait for a compaction, and leases are listed in the order in which they were kept alive.
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

    /// Every revision the step names.
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

/// What became of the revisions of a script in which steps were left out.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The revision that is now where each one was, for those that a kept step or the end of the history had.
    to: BTreeMap<i64, i64>,
}

impl Moves {
    /// Notes that after some step the revision was `before` in the whole script and is `now` in what is left of it.
    pub(super) fn note(&mut self, before: i64, now: i64) {
        self.to.insert(before, now);
    }

    /// Makes a step name the revisions that are now where those were that it named. Such as lie before all history, or are
    /// still to come, stay as far from it as they were.
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
    fn revisions_move_with_the_writes_that_made_them() {
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
