//! Installs a snapshot from a leader: from the arrival of its message until the log continues after it.
//!
//! Consensus takes the snapshot at once, but its output is not taken until the snapshot is on disk. So its reply to the
//! leader waits. The member casts no vote meanwhile, which is safe.

use crate::id::MemberId;
use crate::proto::raftpb::{ConfState, HardState, Message};
use crate::time::Instant;
use crate::wal::Marker;

use super::{BatchId, Member, Output, Phase, check_configuration, filter};

/// A received snapshot that is being written to disk.
#[derive(Debug)]
pub(super) struct Installation {
    batch: BatchId,
    index: u64,
    term: u64,
    conf_state: ConfState,
    /// The log on disk continues after it.
    durable: bool,
}

impl Member {
    /// A snapshot from a peer. Returns whether consensus takes it. One snapshot is installed at a time; others are
    /// treated as lost.
    pub(crate) fn snapshot(
        &mut self,
        now: Instant,
        from: MemberId,
        mut message: Message,
        out: &mut Vec<Output>,
    ) -> bool {
        let (fits, standing) = (
            self.phase < Phase::Removed && !self.is_installing(),
            self.standing(from),
        );
        if !fits || !filter::admit_snapshot(&mut message, from, standing, &mut self.drops) || !self.can_become(&message)
        {
            return false;
        }
        // A message that consensus refuses is treated as lost.
        let _refused = self.raft.step(message);
        self.observe(now, out);
        self.raft.snap().is_some()
    }

    /// Whether a received snapshot is being written to disk.
    pub(super) fn is_installing(&self) -> bool {
        self.installation.is_some() || self.raft.snap().is_some()
    }

    /// Whether consensus must wait until a received snapshot is on disk. Begins to write it if that has not begun.
    pub(super) fn waits_for_installation(&mut self, out: &mut Vec<Output>) -> bool {
        if self.installation.is_none() {
            self.begin_installation(out);
        }
        self.installation.as_ref().is_some_and(|begun| !begun.durable)
    }

    /// A batch, and every one before it, is durable.
    pub(super) fn installation_persisted(&mut self, batch: BatchId) {
        if let Some(begun) = &mut self.installation {
            begun.durable |= begun.batch <= batch;
        }
    }

    /// Lets the log in memory continue after the snapshot, as the log on disk does.
    pub(super) fn begin_log_anew(&mut self) {
        if let Some(begun) = &self.installation {
            let conf_state = begun.conf_state.clone();
            self.raft.mut_store().install(begun.index, begun.term, conf_state);
        }
    }

    /// Consensus has handed the snapshot over: its state becomes the applied one.
    pub(super) fn installed(&mut self, out: &mut Vec<Output>) {
        let Some(begun) = self.installation.take() else { return };
        self.raft.raft.on_persist_snap(begun.index);
        self.raft.advance_apply_to(begun.index);
        self.markers.installed(begun.index, begun.term, begun.conf_state);
        out.push(Output::Installed);
    }

    /// Whether consensus can continue from the snapshot: its configuration must be possible, and a snapshot at this
    /// member's commit index must have the term of the entry there.
    fn can_become(&self, message: &Message) -> bool {
        let metadata = message.get_snapshot().get_metadata();
        let contradicts =
            metadata.index == self.commit_index() && self.raft.raft.raft_log.term(metadata.index) != Ok(metadata.term);
        let conf_state = metadata.get_conf_state();
        !contradicts && !conf_state.voters.is_empty() && check_configuration(&self.config, conf_state).is_ok()
    }

    fn begin_installation(&mut self, out: &mut Vec<Output>) {
        let Some(snapshot) = self.raft.snap() else { return };
        let metadata = snapshot.get_metadata();
        let (index, term, conf_state) = (metadata.index, metadata.term, metadata.get_conf_state().clone());
        // Entries committed after the snapshot are not on disk yet.
        let hard_state = HardState {
            commit: index,
            ..self.raft.raft.hard_state()
        };
        let marker = Marker {
            index,
            term,
            conf_state: Some(conf_state.clone()),
        };
        let batch = self.promises.install(marker, hard_state, out);
        self.installation = Some(Installation {
            batch,
            index,
            term,
            conf_state,
            durable: false,
        });
    }
}
