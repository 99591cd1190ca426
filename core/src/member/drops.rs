//! Counts messages of peers that were dropped because of their content, for the log. Each count has the text of its
//! first message's defect.
//!
//! Messages that are lost, late or for another member are not counted: consensus expects them.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::MemberId;

/// Messages of one peer that were dropped in one turn for one reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dropped {
    /// The peer.
    pub from: MemberId,
    /// Why.
    pub reason: DropReason,
    /// The number of messages; for [`DropReason::Proposal`] the number of entries.
    pub count: u64,
    /// The defect of the first of them.
    pub cause: String,
}

/// Why messages of a peer were dropped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DropReason {
    /// The leader has as many bytes of uncommitted entries as it may have.
    NoRoom,
    /// A forwarded entry could not be applied by every member.
    Proposal,
    /// The state sent beside a snapshot is not the state that the snapshot describes.
    Snapshot,
    /// The term is too far ahead to have been reached by elections.
    TermTooFar,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "a proposal for which the leader has no room",
            Self::Proposal => "a proposal that could not be applied",
            Self::Snapshot => "a snapshot that does not match the state sent with it",
            Self::TermTooFar => "a message with an implausible term",
        })
    }
}

/// The messages that were dropped since the last call of [`Drops::take`].
#[derive(Debug, Default)]
pub(crate) struct Drops(BTreeMap<(MemberId, DropReason), Dropped>);

impl Drops {
    /// Counts one more. `cause` is called only for the first one since [`Drops::take`].
    pub(crate) fn note(&mut self, from: MemberId, reason: DropReason, cause: impl FnOnce() -> String) {
        let dropped = self.0.entry((from, reason)).or_insert_with(|| Dropped {
            from,
            reason,
            count: 0,
            cause: cause(),
        });
        dropped.count += 1;
    }

    /// Takes what was counted, by peer and reason.
    pub(crate) fn take(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}
