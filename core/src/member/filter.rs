//! Checks messages from peers before consensus sees them. The `raft` crate trusts its peers and panics on some messages
//! that a broken or hostile one could send. Such a message is dropped here, or ends in a fault if it proves that this
//! member lost entries it had acknowledged.

use crate::error::Fault;
use crate::id::MemberId;
use crate::limits::{MAX_LOG_INDEX, MAX_TERM, MAX_TERM_STEP};
use crate::proto::raftpb::{Message, MessageType};
use crate::store;

use super::drops::{DropReason, Drops};

/// The part of this member's state that the checks depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) me: MemberId,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) leads: bool,
    /// Every entry of the log is on disk.
    pub(crate) all_persisted: bool,
    /// The last entry that the sender acknowledged to this member; `None` if this member does not lead.
    pub(crate) matched: Option<u64>,
}

/// Largest id of a linearizable read, in bytes; etcd's ids have eight.
const READ_ID_MAX_BYTES: usize = 64;

/// Prepares `message` for consensus; false means drop it. A message that is wrong, and not only late, is counted in
/// `drops`.
///
/// # Errors
/// A fault if the leader relies on entries that this member no longer has.
pub(crate) fn admit(
    message: &mut Message,
    from: MemberId,
    standing: Standing,
    drops: &mut Drops,
) -> Result<bool, Fault> {
    let Ok(kind) = MessageType::try_from(message.msg_type) else {
        return Ok(false);
    };
    // A follower forwards these messages to the leader with their sender. The sender of a transfer is the member to
    // which leadership moves. The sender of a proposal or a read is the member that asks; it may have taken the
    // follower for the leader.
    let keeps_sender = [
        MessageType::MsgTransferLeader,
        MessageType::MsgPropose,
        MessageType::MsgReadIndex,
    ];
    let sender_is_named = message.from == from.0 || keeps_sender.contains(&kind);
    if !sender_is_named || !is_for(message, from, standing) {
        return Ok(false);
    }
    clear_foreign_fields(message, kind);
    let is_request = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
    if is_request {
        message.term = 0;
    } else if message.term == 0 || !is_term_plausible(message.term, from, standing, drops) {
        return Ok(false);
    }
    match kind {
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => Ok(false),
        MessageType::MsgAppend => Ok(follows(message)),
        MessageType::MsgAppendResponse => Ok(answers_append(message, standing)),
        MessageType::MsgHeartbeat => heartbeat(message, standing),
        MessageType::MsgPropose => Ok(keep_proposable(message, from, drops)),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => Ok(is_read(message)),
        // A snapshot arrives as its own input, with its data.
        MessageType::MsgSnapshot => Ok(false),
        MessageType::MsgTimeoutNow => Ok(standing.all_persisted),
        MessageType::MsgTransferLeader => Ok(standing.leads),
        MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgHeartbeatResponse => Ok(true),
    }
}

/// Prepares the message of a snapshot for consensus; false means drop it. Its configuration is checked by `can_become`
/// (`installation.rs`).
pub(crate) fn admit_snapshot(message: &mut Message, from: MemberId, standing: Standing, drops: &mut Drops) -> bool {
    let is_snapshot = message.msg_type == MessageType::MsgSnapshot as i32 && message.from == from.0;
    if !is_snapshot || !is_for(message, from, standing) || !is_term_plausible(message.term, from, standing, drops) {
        return false;
    }
    clear_foreign_fields(message, MessageType::MsgSnapshot);
    let metadata = message.get_snapshot().get_metadata();
    let has_index = (1..=MAX_LOG_INDEX).contains(&metadata.index);
    has_index && metadata.term > 0 && metadata.term <= message.term && metadata.conf_state.is_some()
}

/// Whether the message comes from another member and is addressed to this one.
fn is_for(message: &Message, from: MemberId, standing: Standing) -> bool {
    message.to == standing.me.0 && message.from != 0 && from != standing.me && from.0 != 0
}

/// Whether elections can have led to this term. Consensus adopts any higher term and counts on from there, so a single
/// message with the highest possible term would cause an overflow on every member.
fn is_term_plausible(term: u64, from: MemberId, standing: Standing, drops: &mut Drops) -> bool {
    let is_plausible = term <= standing.term.saturating_add(MAX_TERM_STEP).min(MAX_TERM);
    if !is_plausible {
        drops.note(from, DropReason::TermTooFar, || {
            format!("term {term}, where this member is in term {}", standing.term)
        });
    }
    is_plausible
}

/// Clears fields that only the `raft` crate has, and that Quoin never uses. Some of them would let a vote move the
/// commit index; in etcd only appends and heartbeats have a commit index.
pub(crate) fn clear_foreign_fields(message: &mut Message, kind: MessageType) {
    message.request_snapshot = 0;
    message.priority = 0;
    message.deprecated_priority = 0;
    message.commit_term = 0;
    if !matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat) {
        message.commit = 0;
    }
}

/// Whether consensus can use an answer to an append. An acknowledgement must name an entry that exists. A refusal of
/// entries that its sender has acknowledged since is stale: it would make the `raft` crate go back to before entries
/// that are known to match, perhaps so far that it sends a snapshot.
fn answers_append(message: &mut Message, standing: Standing) -> bool {
    if !message.reject {
        return message.index <= standing.last_index;
    }
    // Versions before 3.5 put their last index here, which may be any number, and the crate adds one to it.
    message.reject_hint = message.reject_hint.min(message.index);
    let is_stale = standing.matched.is_some_and(|matched| message.index <= matched);
    !(is_stale && message.term == standing.term)
}

/// Checks a heartbeat. A leader sends a follower a commit index only up to the entries that this follower acknowledged,
/// so a higher one means that acknowledged entries are lost here.
fn heartbeat(message: &Message, standing: Standing) -> Result<bool, Fault> {
    if message.term >= standing.term && message.commit > standing.last_index {
        let cause = format!(
            "the leader {} counts on entry {} of this member's log, which ends at {}: the log was truncated or lost",
            MemberId(message.from),
            message.commit,
            standing.last_index
        );
        return Err(Fault::Inconsistent { cause });
    }
    Ok(true)
}

/// Whether the entries continue the log after `message.index` without a gap, with terms that do not decrease.
fn follows(message: &Message) -> bool {
    let mut last = (message.index, message.log_term);
    for entry in &message.entries {
        if Some(entry.index) != last.0.checked_add(1) || entry.term < last.1 || entry.term > message.term {
            return false;
        }
        last = (entry.index, entry.term);
    }
    true
}

/// Removes from a proposal the entries that some member could not apply. Returns whether any are left.
fn keep_proposable(message: &mut Message, from: MemberId, drops: &mut Drops) -> bool {
    message.entries.retain_mut(|entry| {
        entry.context.clear();
        let checked = store::check_proposal(entry);
        if let Err(fault) = &checked {
            drops.note(from, DropReason::Proposal, || fault.to_string());
        }
        checked.is_ok()
    });
    !message.entries.is_empty()
}

fn is_read(message: &Message) -> bool {
    matches!(&message.entries[..], [entry] if entry.data.len() <= READ_ID_MAX_BYTES)
}

#[cfg(test)]
mod tests;
