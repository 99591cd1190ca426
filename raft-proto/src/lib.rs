//! raft-proto's public API on prost 0.14, with etcd's numbers and without protoc.
//!
//! The `raft` crate is written against the crate `raft-proto`, whose published form needs `protoc` at build time and
//! an old prost. This crate takes its place through `[patch.crates-io]`. What differs, on purpose:
//!
//! - Field and enum numbers are those of etcd's `raftpb`, so a message can be sent to an etcd member unchanged. Fields
//!   that only the `raft` crate has are numbered from 1005 up, where etcd will not define any.
//! - `Entry.data`, `Entry.context`, `Message.context`, `Snapshot.data` and the conf change contexts are
//!   [`bytes::Bytes`]: cloning a log entry copies no payload.
//! - No number out of range causes a panic. See [`eraftpb::Message::get_msg_type`] and [`ConfChangeI::into_v2`].
//!
//! The crate makes no decision; consensus is in the `raft` crate.

mod accessors;
mod conf_change;
mod conf_state;
pub mod eraftpb;
mod protobuf_message;

pub use conf_change::{ConfChangeI, new_conf_change_single, parse_conf_change, stringify_conf_change};
pub use conf_state::conf_state_eq;

/// The messages most callers want, in one import.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
        HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Conversions; the `raft` crate imports this module by name.
pub mod util {
    use crate::eraftpb::ConfState;

    impl<Voters, Learners> From<(Voters, Learners)> for ConfState
    where
        Voters: IntoIterator<Item = u64>,
        Learners: IntoIterator<Item = u64>,
    {
        fn from((voters, learners): (Voters, Learners)) -> Self {
            Self {
                voters: voters.into_iter().collect(),
                learners: learners.into_iter().collect(),
                ..Self::default()
            }
        }
    }
}
