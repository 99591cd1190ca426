//! The results of applying entries: answers, events, rows, and news for the member.

use crate::auth::TokenChange;
use crate::bug;
use crate::error::Error;
use crate::id::MemberId;
use crate::membership::Member;
use crate::mvcc::{Compacted, Event};
use crate::proto::etcdserverpb::{
    AlarmResponse, AuthEnableResponse, AuthenticateResponse, CompactionResponse, DeleteRangeResponse,
    LeaseCheckpointResponse, LeaseGrantResponse, LeaseRevokeResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse,
};
use crate::proto::raftpb::ConfChange;
use crate::table::{Bucket, TableOp};
use crate::version::Version;

use super::counts::Counts;
use super::rows;

/// The id in a proposal's header, by which its answer finds the request.
pub type RequestId = u64;

/// The consequences of applied entries. The caller passes one value to several calls of `Store::apply`, and each call
/// appends to it.
#[derive(Debug, Default)]
pub struct Applied {
    /// Answers to the requests that wait on this member, in order.
    pub results: Vec<(RequestId, Result<Response, Error>)>,
    /// Changes of keys in the order of their revisions. All changes of a revision are here together.
    pub events: Vec<Event>,
    /// Compactions that were requested while none was in progress. As in etcd, only their hashes are remembered.
    pub compacted: Vec<Compacted>,
    /// Changes of leases for the leader's lease clock, in order.
    pub leases: Vec<LeaseChange>,
    /// What becomes of users' tokens, in order.
    pub tokens: Vec<TokenChange>,
    /// Whether auth was enabled, disabled or changed.
    pub auth_changed: bool,
    /// Membership changes in order; each must be passed to consensus.
    pub conf_changes: Vec<ConfOutcome>,
    /// The term of the last empty entry applied. A new leader opens its term with an empty entry; once that is applied,
    /// so is everything committed in earlier terms. Consensus also replaces a membership change that it refuses by an
    /// empty entry, so a term may have several.
    pub term_opened: Option<u64>,
    /// The quota is exceeded and no alarm is active yet: propose one for this member. Repeated until an alarm is
    /// applied.
    pub raise_no_space: bool,
    /// The target of a downgrade that began; the last one, if there were several.
    pub downgrade_begun: Option<String>,
    /// The cluster version was lowered: write a marker, so that older members need not read newer entries.
    pub version_lowered: bool,
    /// The cluster version was set; the last change, if there were several.
    pub version_set: Option<VersionChange>,
    /// Counts of what was applied.
    pub counts: Counts,
    pub(super) ops: Vec<TableOp>,
    /// Index and term of the last entry applied.
    pub(super) progress: Option<(u64, u64)>,
}

impl Applied {
    /// The changes of rows collected so far: each row once, with its last value, in the order of bucket and key,
    /// together with the consistent index that covers them.
    pub(super) fn take_ops(&mut self) -> Vec<TableOp> {
        let compacts = || self.ops.iter().any(|op| op.bucket == Bucket::Key && op.value.is_none());
        if let Some((index, term)) = self.progress.take()
            && !(bug!(CompactsWithoutIndex) && compacts())
        {
            rows::progress(index, term, &mut self.ops);
        }
        let mut ops = std::mem::take(&mut self.ops);
        // The sort is stable: of several changes of one row the last is kept.
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

    /// Clears everything, but keeps the memory.
    pub fn clear(&mut self) {
        let Self {
            results,
            events,
            compacted,
            leases,
            tokens,
            auth_changed,
            conf_changes,
            term_opened,
            raise_no_space,
            downgrade_begun,
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
        tokens.clear();
        *auth_changed = false;
        conf_changes.clear();
        *term_opened = None;
        *raise_no_space = false;
        *downgrade_begun = None;
        *version_lowered = false;
        *version_set = None;
        *counts = Counts::default();
        ops.clear();
        *progress = None;
    }
}

/// A successful answer. Its header holds the revision; the host adds cluster, member and term.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To an alarm request.
    Alarm(AlarmResponse),
    /// To a change of auth. All of them are answered by a header in field 1, the form of this message.
    AuthChanged(AuthEnableResponse),
    /// To a user that gets a token.
    Authenticated(AuthenticateResponse),
    /// To a compaction; its space is not yet free.
    Compact(CompactionResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a request without an answer of its own: versions, attributes, downgrades.
    Empty,
    /// To a checkpoint of leases.
    LeaseCheckpoint(LeaseCheckpointResponse),
    /// To a new lease.
    LeaseGrant(LeaseGrantResponse),
    /// To the revocation of a lease.
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
    /// The header, if this kind of response has one.
    pub fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        let header = match self {
            Self::Alarm(response) => &mut response.header,
            Self::AuthChanged(response) => &mut response.header,
            Self::Authenticated(response) => &mut response.header,
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
    /// The version before, if one was set.
    pub from: Option<Version>,
    /// The new version.
    pub to: Version,
}

/// A change of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseChange {
    /// A checkpoint of the leader recorded its remaining time.
    Checkpointed {
        /// The lease.
        id: i64,
        /// The seconds left; 0 means all of them.
        remaining_ttl: i64,
    },
    /// It was granted.
    Granted {
        /// The lease.
        id: i64,
        /// The seconds granted.
        ttl: i64,
    },
    /// It and its keys were deleted.
    Revoked {
        /// The lease.
        id: i64,
    },
}

/// The result of a membership change in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfOutcome {
    /// The entry.
    pub index: u64,
    /// The change for consensus. A change that is invalid or does not concern consensus is about node 0.
    pub change: ConfChange,
    /// The effect on the table of members.
    pub effect: MemberChange,
}

/// The effect of a membership change on the table of members.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberChange {
    /// A new member.
    Added(Member),
    /// A learner that became a voter.
    Promoted(MemberId),
    /// None: the change is invalid. Every member decides this alike.
    Refused(Error),
    /// A member that was removed for good.
    Removed(MemberId),
    /// A member that got new peer URLs.
    Updated(Member),
}

/// A header with only a revision.
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
