//! What a member says of itself, for readers on other threads and for metrics.

use crate::id::MemberId;

/// What a member says of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Which member this is.
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
    /// Proposals under way.
    pub proposals_pending: u64,
    /// Proposals that ran out of time.
    pub proposals_failed: u64,
    /// How often linearizable reads ran out of time; those that gave up together count once.
    pub reads_slow: u64,
    /// How often a change of leader made void what linearizable reads had asked, so that they asked again.
    pub reads_failed: u64,
    /// How often a leader was seen that was not the one before.
    pub leader_changes: u64,
    /// Whether a snapshot that a leader sent is about to replace the state.
    pub is_installing: bool,
}

impl Status {
    /// Whether a reader must see the difference at once; counters may wait for the next tick.
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
