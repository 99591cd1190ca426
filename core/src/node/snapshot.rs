//! Snapshots between members: a leader sends its state to a follower that is far behind, and the follower replaces its
//! own state by it.

use crate::auth::TokenChange;
use crate::bug;
use crate::id::MemberId;
use crate::jobs::{PeerJob, SnapshotJob, TableJob, TableRows};
use crate::member::DropReason;
use crate::proto::raftpb::{Message, MessageType, Snapshot, SnapshotMetadata};
use crate::store::{Applied, Store};
use crate::time::Instant;

use super::{Effect, LateHeartbeat, Node};

impl Node {
    /// A snapshot from a peer, with its state. Snapshots of removed members are ignored. A snapshot whose state does
    /// not match its metadata is refused, and the refusal is logged: its sender will send it again and again.
    pub(super) fn snapshot(&mut self, now: Instant, from: MemberId, message: Message, store: Box<Store>) {
        if self.store.view().cluster.is_removed(from) {
            return;
        }
        if let Some(difference) = difference(&store, message.get_snapshot().get_metadata()) {
            return self.member.refuse(from, DropReason::Snapshot, difference);
        }
        if self.member.snapshot(now, from, message, &mut self.outputs) {
            self.received = Some(store);
        }
    }

    /// Sends messages. A snapshot is sent with the newest state and that state's index: consensus may have chosen an
    /// older index, because entries were applied since.
    pub(super) fn send(&mut self, now: Instant, to: MemberId, mut messages: Vec<Message>, out: &mut Vec<Effect>) {
        for message in &messages {
            if message.get_msg_type() == MessageType::MsgHeartbeat
                && let Some(exceeded) = self.member.heartbeat_sent(now, to)
            {
                self.tally.late_heartbeats.push(LateHeartbeat { to, exceeded });
            }
        }
        let is_snapshot = |message: &mut Message| message.get_msg_type() == MessageType::MsgSnapshot;
        let snapshots: Vec<Message> = messages.extract_if(.., is_snapshot).collect();
        if bug!(WritesToRemoved)
            && self.member.leads()
            && let Some(to) = self.store.view().cluster.removed().next()
        {
            let messages = messages.clone();
            out.push(Effect::Peer(PeerJob::Messages { to, messages }));
        }
        if !messages.is_empty() {
            out.push(Effect::Peer(PeerJob::Messages { to, messages }));
        }
        for mut message in snapshots {
            let view = self.store.view();
            let metadata = SnapshotMetadata {
                conf_state: Some(view.cluster.conf_state().clone()),
                index: view.applied_index,
                term: view.term,
            };
            message.snapshot = Some(Snapshot {
                data: view.cluster.v2_state().into(),
                metadata: Some(metadata),
            });
            out.push(Effect::Peer(PeerJob::Snapshot(Box::new(SnapshotJob {
                to,
                message,
                view,
            }))));
        }
    }

    /// The log continues after the received snapshot, so the snapshot's state replaces this member's. A proposal whose
    /// entry the snapshot covers times out, as in etcd.
    pub(super) fn adopt(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.store = *self
            .received
            .take()
            .expect("its state is kept while a snapshot is installed");
        let view = self.store.view();
        self.lessor.restored(view.lease_clocks());
        self.lessor.call_as(self.store.own_caller());
        // Users may have been deleted, or have got other passwords, by entries that this member does not see.
        self.tokens = vec![TokenChange::Cleared];
        self.unapplied.retain(|entry| entry.index > view.applied_index);
        // Drops the rows and events of the old state; its counts were not yet reported, so they stay.
        let counts = self.applied.counts;
        if !bug!(WritesOldRowsLater) {
            self.applied = Applied::default();
        }
        self.applied.counts = counts;
        self.events.clear();
        self.restored = true;
        self.compaction.restored(now, view.kv.compact_revision());
        out.push(Effect::Table(TableJob {
            batch: self.writes.replace(),
            index: view.applied_index,
            rows: TableRows::All(Box::new(view)),
        }));
    }
}

/// The difference between the state and the metadata of its snapshot, if there is one.
fn difference(store: &Store, snapshot: &SnapshotMetadata) -> Option<String> {
    let (index, term) = (store.consistent_index(), store.term());
    if bug!(TakesAnyState) {
        None
    } else if (index, term) != (snapshot.index, snapshot.term) {
        Some(format!(
            "its metadata name entry {} of term {}, but its state is at entry {index} of term {term}",
            snapshot.index, snapshot.term
        ))
    } else if snapshot.conf_state.as_ref() != Some(store.conf_state()) {
        Some(format!(
            "its metadata name the configuration {:?}, but its state has {:?}",
            snapshot.conf_state,
            store.conf_state()
        ))
    } else {
        None
    }
}
