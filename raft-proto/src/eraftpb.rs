//! The messages: names and accessors as the `raft` crate expects them, numbers as etcd's `raftpb` has them.

use bytes::Bytes;

use crate::accessors::accessors;

/// The kinds of log entries.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum EntryType {
    /// Data for the state machine, or no data: the first entry of a leader's term.
    EntryNormal = 0,
    /// A [`ConfChange`].
    EntryConfChange = 1,
    /// A [`ConfChangeV2`]; etcd never writes one and cannot apply it.
    EntryConfChangeV2 = 2,
}

/// The types of messages.
///
/// etcd has further types (storage threads, forget-leader) that are never sent to another member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum MessageType {
    /// Local: start an election.
    MsgHup = 0,
    /// Local: send heartbeats.
    MsgBeat = 1,
    /// A proposal for the leader's log.
    MsgPropose = 2,
    /// Entries from the leader.
    MsgAppend = 3,
    /// Whether they were appended.
    MsgAppendResponse = 4,
    /// A candidate asks for a vote.
    MsgRequestVote = 5,
    /// The vote.
    MsgRequestVoteResponse = 6,
    /// A snapshot from the leader.
    MsgSnapshot = 7,
    /// The leader's heartbeat.
    MsgHeartbeat = 8,
    /// The follower's answer to it.
    MsgHeartbeatResponse = 9,
    /// Local: a message could not be delivered.
    MsgUnreachable = 10,
    /// Local: whether a snapshot was sent.
    MsgSnapStatus = 11,
    /// Local: check that a quorum still answers.
    MsgCheckQuorum = 12,
    /// Hand leadership over.
    MsgTransferLeader = 13,
    /// Start an election at once.
    MsgTimeoutNow = 14,
    /// A question for the index that a linearizable read must wait for.
    MsgReadIndex = 15,
    /// That index.
    MsgReadIndexResp = 16,
    /// A question whether the receiver would vote for the sender.
    MsgRequestPreVote = 17,
    /// The answer to it.
    MsgRequestPreVoteResponse = 18,
}

/// How a configuration change is carried out.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeTransition {
    /// Directly if possible, else as `Implicit`.
    Auto = 0,
    /// Through a joint configuration that is left automatically.
    Implicit = 1,
    /// Through a joint configuration that an empty change leaves.
    Explicit = 2,
}

/// The changes that consensus has, with etcd's numbers.
///
/// etcd's number 2, [`ConfChange::UPDATE_NODE`], is not among them: it concerns only the applied state, and the `raft`
/// crate matches on exactly these three.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeType {
    /// Make the node a voter.
    AddNode = 0,
    /// Remove the node.
    RemoveNode = 1,
    /// Make the node a learner.
    AddLearnerNode = 3,
}

/// One entry of the log.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct Entry {
    /// An [`EntryType`].
    #[prost(enumeration = "EntryType", tag = "1")]
    pub entry_type: i32,
    /// The term of the leader that proposed it.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Its index in the log, from 1.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// The data for the state machine.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// A field of the `raft` crate only; leave it empty, etcd does not have it.
    #[prost(bytes = "bytes", tag = "1006")]
    pub context: Bytes,
    /// An unused field of the `raft` crate only.
    #[prost(bool, tag = "1005")]
    pub sync_log: bool,
}

accessors!(Entry {
    enumeration entry_type: EntryType => get_entry_type;
    scalar term: u64 => get_term set_term;
    scalar index: u64 => get_index set_index;
    bytes data: Bytes => get_data set_data take_data;
    bytes context: Bytes => get_context set_context take_context;
    scalar sync_log: bool => get_sync_log set_sync_log;
});

/// The metadata of a snapshot.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct SnapshotMetadata {
    /// The configuration as of `index`.
    #[prost(message, optional, tag = "1")]
    pub conf_state: Option<ConfState>,
    /// The last index applied to it.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The term of that index.
    #[prost(uint64, tag = "3")]
    pub term: u64,
}

accessors!(SnapshotMetadata {
    message conf_state: ConfState => get_conf_state set_conf_state take_conf_state mut_conf_state has_conf_state clear_conf_state;
    scalar index: u64 => get_index set_index;
    scalar term: u64 => get_term set_term;
});

/// The state machine as of one index.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct Snapshot {
    /// etcd up to 3.7 puts its v2 store here; the v3 store is sent beside the message.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Its metadata.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SnapshotMetadata>,
}

accessors!(Snapshot {
    bytes data: Bytes => get_data set_data take_data;
    message metadata: SnapshotMetadata => get_metadata set_metadata take_metadata mut_metadata has_metadata clear_metadata;
});

impl Snapshot {
    /// Whether it is empty; etcd up to 3.5 sends an empty one in every message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.get_metadata().index == 0
    }
}

/// A message between members.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct Message {
    /// A [`MessageType`].
    #[prost(enumeration = "MessageType", tag = "1")]
    pub msg_type: i32,
    /// The receiver.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// The sender.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// The sender's term; 0 in messages that a follower forwards to its leader.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// The term of the entry at `index`.
    #[prost(uint64, tag = "5")]
    pub log_term: u64,
    /// The entry before `entries`, or the one the message is about.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// Entries to append or propose.
    #[prost(message, repeated, tag = "7")]
    pub entries: Vec<Entry>,
    /// The sender's commit index.
    #[prost(uint64, tag = "8")]
    pub commit: u64,
    /// A field of the `raft` crate only: the term of the entry at `commit`.
    #[prost(uint64, tag = "1015")]
    pub commit_term: u64,
    /// The snapshot of a `MsgSnapshot`.
    #[prost(message, optional, tag = "9")]
    pub snapshot: Option<Snapshot>,
    /// A field of the `raft` crate only: leave it 0.
    #[prost(uint64, tag = "1013")]
    pub request_snapshot: u64,
    /// Whether the request is refused.
    #[prost(bool, tag = "10")]
    pub reject: bool,
    /// With a refusal: the index to try next.
    #[prost(uint64, tag = "11")]
    pub reject_hint: u64,
    /// Returned unchanged in answers to heartbeats; marks elections that follow a transfer.
    #[prost(bytes = "bytes", tag = "12")]
    pub context: Bytes,
    /// A field of the `raft` crate only: leave it 0.
    #[prost(uint64, tag = "1014")]
    pub deprecated_priority: u64,
    /// A field of the `raft` crate only: leave it 0.
    #[prost(int64, tag = "1016")]
    pub priority: i64,
}

accessors!(Message {
    scalar to: u64 => get_to set_to;
    scalar from: u64 => get_from set_from;
    scalar term: u64 => get_term set_term;
    scalar log_term: u64 => get_log_term set_log_term;
    scalar index: u64 => get_index set_index;
    repeated entries: Entry => get_entries set_entries take_entries mut_entries;
    scalar commit: u64 => get_commit set_commit;
    scalar commit_term: u64 => get_commit_term set_commit_term;
    message snapshot: Snapshot => get_snapshot set_snapshot take_snapshot mut_snapshot has_snapshot clear_snapshot;
    scalar request_snapshot: u64 => get_request_snapshot set_request_snapshot;
    scalar reject: bool => get_reject set_reject;
    scalar reject_hint: u64 => get_reject_hint set_reject_hint;
    bytes context: Bytes => get_context set_context take_context;
    scalar deprecated_priority: u64 => get_deprecated_priority set_deprecated_priority;
    scalar priority: i64 => get_priority set_priority;
});

impl Message {
    /// The type of the message.
    ///
    /// A number without a type here reads as `MsgHup`: a local type, which `RawNode::step` refuses from outside.
    #[inline]
    #[must_use]
    pub fn get_msg_type(&self) -> MessageType {
        MessageType::try_from(self.msg_type).unwrap_or(MessageType::MsgHup)
    }
}

/// The durable state of a member's term.
#[derive(Clone, Copy, Eq, Hash, PartialEq, prost::Message)]
pub struct HardState {
    /// The latest term seen.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The candidate voted for in it, or 0.
    #[prost(uint64, tag = "2")]
    pub vote: u64,
    /// The highest index known to be committed.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

accessors!(HardState {
    scalar term: u64 => get_term set_term;
    scalar vote: u64 => get_vote set_vote;
    scalar commit: u64 => get_commit set_commit;
});

/// The members of a configuration.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct ConfState {
    /// Members that vote.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub voters: Vec<u64>,
    /// Members that only follow.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
    /// The voters being left, while the configuration is joint.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when the joint configuration is left.
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub learners_next: Vec<u64>,
    /// Whether the joint configuration is left automatically.
    #[prost(bool, tag = "5")]
    pub auto_leave: bool,
}

accessors!(ConfState {
    repeated voters: u64 => get_voters set_voters take_voters mut_voters;
    repeated learners: u64 => get_learners set_learners take_learners mut_learners;
    repeated voters_outgoing: u64 => get_voters_outgoing set_voters_outgoing take_voters_outgoing mut_voters_outgoing;
    repeated learners_next: u64 => get_learners_next set_learners_next take_learners_next mut_learners_next;
    scalar auto_leave: bool => get_auto_leave set_auto_leave;
});

/// A membership change, in the form etcd's log has it.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct ConfChange {
    /// Identifies the change for its proposer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// A [`ConfChangeType`] or [`ConfChange::UPDATE_NODE`].
    #[prost(enumeration = "ConfChangeType", tag = "2")]
    pub change_type: i32,
    /// The member to change; 0 makes the change a no-op.
    #[prost(uint64, tag = "3")]
    pub node_id: u64,
    /// The member as JSON.
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
}

accessors!(ConfChange {
    scalar id: u64 => get_id set_id;
    enumeration change_type: ConfChangeType => get_change_type;
    scalar node_id: u64 => get_node_id set_node_id;
    bytes context: Bytes => get_context set_context take_context;
});

impl ConfChange {
    /// etcd's change of a member's addresses: applied to the member table, ignored by consensus.
    pub const UPDATE_NODE: i32 = 2;
}

/// One of several changes made together.
#[derive(Clone, Copy, Eq, Hash, PartialEq, prost::Message)]
pub struct ConfChangeSingle {
    /// A [`ConfChangeType`].
    #[prost(enumeration = "ConfChangeType", tag = "1")]
    pub change_type: i32,
    /// The member to change; 0 makes the change a no-op.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
}

accessors!(ConfChangeSingle {
    enumeration change_type: ConfChangeType => get_change_type;
    scalar node_id: u64 => get_node_id set_node_id;
});

/// Several membership changes made together; consensus uses this form.
#[derive(Clone, Eq, Hash, PartialEq, prost::Message)]
pub struct ConfChangeV2 {
    /// A [`ConfChangeTransition`].
    #[prost(enumeration = "ConfChangeTransition", tag = "1")]
    pub transition: i32,
    /// The changes.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<ConfChangeSingle>,
    /// Not used by consensus; returned when the change is applied.
    #[prost(bytes = "bytes", tag = "3")]
    pub context: Bytes,
}

accessors!(ConfChangeV2 {
    enumeration transition: ConfChangeTransition => get_transition;
    repeated changes: ConfChangeSingle => get_changes set_changes take_changes mut_changes;
    bytes context: Bytes => get_context set_context take_context;
});
