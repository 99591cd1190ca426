//! Work that leaves the core: for the log on disk, for the table, for peers. Each kind of work is one type, from the
//! decision to its execution. A host forwards the jobs to their lane unchanged and in order, and the lane reports by
//! [`Done`](crate::node::Done).

use crate::id::MemberId;
use crate::member::BatchId;
use crate::proto::raftpb::Message;
use crate::store::View;
use crate::table::TableOp;
use crate::wal::Save;

/// Append to the log on disk. A job with `sync` is reported as [`Done::Persisted`](crate::node::Done::Persisted) once
/// it, and every job before it, is durable.
///
/// If the save has a marker, the marker's own file (`*.snap`) is written and made durable first. After that, the lane
/// may remove segments and files that no start needs any more.
#[derive(Clone, Debug, PartialEq)]
pub struct LogJob {
    /// Its number.
    pub batch: BatchId,
    /// What to append.
    pub save: Save,
    /// Whether the lane must make the job durable and report it.
    pub sync: bool,
}

/// Write rows to the table as one atomic batch, and report it as [`Done::Stored`](crate::node::Done::Stored).
#[derive(Clone, Debug)]
pub struct TableJob {
    /// Its number.
    pub batch: BatchId,
    /// The last log entry whose effects the table holds afterwards.
    pub index: u64,
    /// What to write.
    pub rows: TableRows,
}

/// What a batch of the table writes.
#[derive(Clone, Debug)]
pub enum TableRows {
    /// These rows. They need not be durable yet.
    Changed(Vec<TableOp>),
    /// Exactly the rows of this view ([`View::rows`]) in place of all others, durable before the job is reported.
    /// Received snapshots up to the job's index may be removed afterwards.
    All(Box<View>),
}

/// Send to a peer.
#[derive(Clone, Debug)]
pub enum PeerJob {
    /// Messages, in order. They may be lost.
    Messages {
        /// The peer.
        to: MemberId,
        /// The messages.
        messages: Vec<Message>,
    },
    /// A snapshot.
    Snapshot(Box<SnapshotJob>),
}

/// Send a snapshot to a peer: the message, and with it the rows of the view ([`View::rows`]). The outcome is reported
/// once, by [`PeerEvent::Snapshot`](crate::node::PeerEvent::Snapshot).
#[derive(Clone, Debug)]
pub struct SnapshotJob {
    /// The peer.
    pub to: MemberId,
    /// The `MsgSnapshot`; its data is the state of etcd's v2 store. Its index, term and configuration are exactly the
    /// view's.
    pub message: Message,
    /// The state.
    pub view: View,
}
