//! The status of a member, for readers on other threads and for metrics.

use crate::id::MemberId;

/// The status of a member.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// The member's id.
    pub member: MemberId,
    /// The leader, or none.
    pub leader: MemberId,
    /// The current term.
    pub term: u64,
    /// Whether this member leads.
    pub leads: bool,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Whether the member has published itself, so that clients may be served.
    pub published: bool,
    /// The last entry known to be committed.
    pub commit_index: u64,
    /// The last entry applied.
    pub applied_index: u64,
    /// Everything up to here is durable in the table.
    pub durable_index: u64,
    /// Pending proposals.
    pub proposals_pending: u64,
    /// Proposals that reached their deadline or were cancelled.
    pub proposals_failed: u64,
    /// How often linearizable reads reached their deadline; reads of one batch count once.
    pub reads_slow: u64,
    /// How often a change of leader voided a question for a read index, so that it was asked again.
    pub reads_failed: u64,
    /// How often a new leader was seen.
    pub leader_changes: u64,
    /// Whether a snapshot from the leader is about to replace the state.
    pub is_installing: bool,
}

impl Status {
    /// Whether readers must see the difference at once; counters may wait for the next tick.
    #[must_use]
    pub(crate) fn is_news_after(&self, before: &Self) -> bool {
        let visible = |of: &Self| {
            (
                of.leader,
                of.term,
                of.leads,
                of.is_learner,
                of.published,
                of.applied_index,
                of.is_installing,
            )
        };
        visible(self) != visible(before)
    }
}
