//! What applying entries leads to: answers, events, rows, and news for the member.

use crate::bug;
use crate::error::Error;
use crate::id::MemberId;
use crate::membership::Member;
use crate::mvcc::{Compacted, Event};
use crate::proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseCheckpointResponse, LeaseGrantResponse,
    LeaseRevokeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
};
use crate::proto::raftpb::ConfChange;
use crate::table::{Bucket, TableOp};
use crate::version::Version;

use super::counts::Counts;
use super::rows;

/// What routes a result back to who asked: the id in the proposal's header.
pub type RequestId = u64;

/// The consequences of applying entries, lent by the caller and appended to entry by entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// Answers to the requests somebody on this member waits for, in order.
    pub results: Vec<(RequestId, Result<Response, Error>)>,
    /// Changes of keys in order, whole revisions.
    pub events: Vec<Event>,
    /// Compactions that found the one before finished: those are the ones whose hash etcd remembers.
    pub compacted: Vec<Compacted>,
    /// What the leader's lease clock must know, in order.
    pub leases: Vec<LeaseChange>,
    /// Membership changes in order; consensus must be given each.
    pub conf_changes: Vec<ConfOutcome>,
    /// The last term whose opening entry was applied: its leader now knows everything committed before. Consensus puts
    /// such an entry also in the place of a membership change it refuses, so a term may open more than once.
    pub term_opened: Option<u64>,
    /// The quota is used up and no alarm says so yet: propose one for this member. Asked for until one is applied.
    pub raise_no_space: bool,
    /// The cluster version went down: write a snapshot, so that older members need not read newer entries.
    pub version_lowered: bool,
    /// The cluster version was set; the last time, if more than once.
    pub version_set: Option<VersionChange>,
    /// What was applied, in numbers.
    pub counts: Counts,
    pub(super) ops: Vec<TableOp>,
    /// Index and term of the last entry applied.
    pub(super) progress: Option<(u64, u64)>,
}

impl Applied {
    /// The changes of rows collected so far, every row once, with its last value, by bucket and key, together with the
    /// consistent index that covers them.
    pub(super) fn take_ops(&mut self) -> Vec<TableOp> {
        let compacts = || self.ops.iter().any(|op| op.bucket == Bucket::Key && op.value.is_none());
        if let Some((index, term)) = self.progress.take()
            && !(bug!(CompactsWithoutIndex) && compacts())
        {
            rows::progress(index, term, &mut self.ops);
        }
        let mut ops = std::mem::take(&mut self.ops);
        // The sort is stable: of several changes of one row the last is the one to keep.
        ops.sort_by(|a, b| (a.bucket, &a.key).cmp(&(b.bucket, &b.key)));
        let mut kept = Vec::<TableOp>::with_capacity(ops.len());
        for op in ops {
            match kept.last_mut() {
                Some(last) if last.bucket == op.bucket && last.key == op.key => *last = op,
                _ => kept.push(op),
            }
        }
        kept
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        let Self {
            results,
            events,
            compacted,
            leases,
            conf_changes,
            term_opened,
            raise_no_space,
            version_lowered,
            version_set,
            counts,
            ops,
            progress,
        } = self;
        results.clear();
        events.clear();
        compacted.clear();
        leases.clear();
        conf_changes.clear();
        *term_opened = None;
        *raise_no_space = false;
        *version_lowered = false;
        *version_set = None;
        *counts = Counts::default();
        ops.clear();
        *progress = None;
    }
}

/// A successful answer. Headers hold the revision; the host adds what it knows of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To an alarm request.
    Alarm(AlarmResponse),
    /// To a compaction; its space is not yet free.
    Compact(CompactionResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To what nobody asks an answer of: versions, attributes, downgrades.
    Empty,
    /// To a checkpoint of leases.
    LeaseCheckpoint(LeaseCheckpointResponse),
    /// To a new lease.
    LeaseGrant(LeaseGrantResponse),
    /// To the end of a lease.
    LeaseRevoke(LeaseRevokeResponse),
    /// To a membership change: all members after it, by id.
    Members(Vec<Member>),
    /// To a write.
    Put(PutResponse),
    /// To a read that went through the log.
    Range(RangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
}

impl Response {
    /// The header, where this kind of response has one.
    pub fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        let header = match self {
            Self::Alarm(response) => &mut response.header,
            Self::Compact(response) => &mut response.header,
            Self::DeleteRange(response) => &mut response.header,
            Self::LeaseCheckpoint(response) => &mut response.header,
            Self::LeaseGrant(response) => &mut response.header,
            Self::LeaseRevoke(response) => &mut response.header,
            Self::Put(response) => &mut response.header,
            Self::Range(response) => &mut response.header,
            Self::Txn(response) => &mut response.header,
            Self::Empty | Self::Members(_) => return None,
        };
        header.as_mut()
    }
}

/// The cluster version was set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionChange {
    /// What it was, if it had been set before.
    pub from: Option<Version>,
    /// What it is.
    pub to: Version,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseChange {
    /// How many seconds it had left, by its leader's clock.
    Checkpointed {
        /// The lease.
        id: i64,
        /// The seconds left; 0 means all of them.
        remaining_ttl: i64,
    },
    /// It exists from here on.
    Granted {
        /// The lease.
        id: i64,
        /// The seconds granted.
        ttl: i64,
    },
    /// It and its keys are gone.
    Revoked {
        /// The lease.
        id: i64,
    },
}

/// What a membership change in the log came to.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfOutcome {
    /// The entry.
    pub index: u64,
    /// What consensus must be given; a change that does not concern it, or is not valid, is about node 0.
    pub change: ConfChange,
    /// What it did to the member table.
    pub effect: MemberChange,
}

/// What a membership change did to the member table.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberChange {
    /// A new member.
    Added(Member),
    /// A learner that votes from here on.
    Promoted(MemberId),
    /// Nothing: it is not valid, as every member finds.
    Refused(Error),
    /// A member that is gone for good.
    Removed(MemberId),
    /// A member with new peer URLs.
    Updated(Member),
}

/// A header with nothing but a revision.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::table::Bucket;

    #[test]
    fn of_several_changes_of_a_row_the_last_is_written() {
        let op = |bucket, key: &'static str, value: Option<&'static str>| TableOp {
            bucket,
            key: Bytes::from(key),
            value: value.map(Bytes::from),
        };
        let mut applied = Applied {
            ops: vec![
                op(Bucket::Lease, "a", Some("1")),
                op(Bucket::Key, "b", Some("1")),
                op(Bucket::Key, "a", Some("1")),
                op(Bucket::Lease, "a", None),
                op(Bucket::Key, "a", Some("2")),
            ],
            ..Applied::default()
        };
        let expected = [
            op(Bucket::Key, "a", Some("2")),
            op(Bucket::Key, "b", Some("1")),
            op(Bucket::Lease, "a", None),
        ];
        assert_eq!(applied.take_ops(), expected);
        assert_eq!(applied.take_ops(), []);
    }
}
