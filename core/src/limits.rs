//! Every bound of the product in one place, with its unit, and how the bounds depend on each other.

/// Largest proposal, and with [`GRPC_OVERHEAD_BYTES`] the largest request received (`--max-request-bytes`).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// What a request may be larger than its proposal on the wire.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Largest number of operations at one level of a transaction (`--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;

/// How deep transactions may be nested. A message is decoded to a depth of 100, two of which each level takes and one the
/// entry around the request; what a member proposes must never fail to decode when it is applied.
pub const MAX_TXN_DEPTH: usize = 40;

/// Keys that a compare over a range reads at a time.
pub const COMPARE_PAGE_KEYS: i64 = 1_024;

/// Size at which a write-ahead log file is cut; decimal, as in etcd.
pub const WAL_SEGMENT_BYTES: u64 = 64_000_000;

/// Largest part of one record of the log; a longer length word is damage.
pub const MAX_WAL_RECORD_BYTES: u64 = 512 * 1024 * 1024;

/// Write-ahead log files kept beyond those still needed (`--max-wals`).
pub const MAX_WAL_FILES: usize = 5;

/// Snapshot files kept (`--max-snapshots`).
pub const MAX_SNAPSHOT_FILES: usize = 5;

/// Longest lease.
pub const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;

/// Leases revoked in one pass over the expired ones.
pub const LEASE_EXPIRE_BATCH_LEASES: usize = 500;

/// Revocations proposed and not yet applied.
pub const LEASE_REVOKE_INFLIGHT_REQUESTS: usize = 16;

/// Leases whose remaining time is written to the log by one request.
pub const LEASE_CHECKPOINT_BATCH_LEASES: usize = 1_000;

/// Learners in a cluster (`--max-learners`).
pub const MAX_LEARNERS: usize = 1;

/// Entries committed and not yet applied at which new proposals are refused.
pub const APPLY_GAP_MAX_ENTRIES: u64 = 5_000;

/// Responses queued for one watch stream before its watchers count as slow.
pub const WATCH_STREAM_QUEUE_RESPONSES: usize = 128;

/// Distinct revisions a watcher that catches up is sent in one response.
pub const WATCH_CATCHUP_REVISIONS: usize = 1_000;

/// Watchers caught up in one pass.
pub const WATCH_SYNC_BATCH_WATCHERS: usize = 512;

/// Bytes of events queued for one watch stream before its watchers count as slow.
pub const WATCH_STREAM_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of keys and values from which a watcher that catches up gets no further revision in one response.
pub const WATCH_CATCHUP_BYTES: usize = 16 * 1024 * 1024;

/// Revisions of history read in one pass over watchers that catch up.
pub const WATCH_PASS_REVISIONS: usize = 4_096;

/// Bytes of keys and values from which such a pass reads no further revision.
pub const WATCH_PASS_BYTES: usize = 32 * 1024 * 1024;

/// Deliveries (an event to a watcher) from which such a pass reads no further revision.
pub const WATCH_PASS_DELIVERIES: usize = 128 * 1024;

/// Inputs a watch hub takes before it lets slow watchers catch up even though more inputs wait.
pub const WATCH_PATIENCE_INPUTS: usize = 64;

/// Revisions deleted in one step of a compaction (`--compaction-batch-limit`).
pub const COMPACTION_BATCH_REVISIONS: usize = 1_000;

/// Applied entries between two snapshots (`--snapshot-count`).
pub const SNAPSHOT_COUNT_ENTRIES: u64 = 10_000;

/// Entries kept behind the snapshot for slow followers (`--snapshot-catchup-entries`).
pub const SNAPSHOT_CATCHUP_ENTRIES: u64 = 5_000;

/// Bytes of applied entries kept in memory for slow followers, however few entries that are.
pub const LOG_TAIL_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of one part of a snapshot sent to a client.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;

/// Entries proposed, appended or applied as one batch.
pub const MAX_BATCH_ENTRIES: usize = 1_024;

/// Bytes of entries in one append message.
pub const MAX_APPEND_BYTES: usize = 1024 * 1024;

/// Append messages sent to a follower and not yet answered.
pub const MAX_INFLIGHT_APPENDS: usize = 512;

/// Bytes of entries waiting for commit before the leader refuses more.
pub const MAX_UNCOMMITTED_BYTES: usize = 64 * 1024 * 1024;

/// Largest raft message accepted from a stream or as the head of a snapshot.
pub const MAX_PEER_MESSAGE_BYTES: usize = 512 * 1024 * 1024;

/// Messages queued for a stream to a peer; more are dropped, which raft survives.
pub const PEER_STREAM_QUEUE_MESSAGES: usize = 4_096;

/// Messages queued for the short-lived connections to a peer.
pub const PEER_PIPELINE_QUEUE_MESSAGES: usize = 64;

/// Short-lived connections to a peer at the same time.
pub const PEER_PIPELINE_CONNECTIONS: usize = 4;

/// Messages from peers waiting for the member.
pub const PEER_RECEIVE_QUEUE_MESSAGES: usize = 4_096;

/// Largest body of a raft message, lease or promote request posted by a peer.
pub const MAX_PEER_POST_BYTES: usize = 64 * 1024;

/// Inputs waiting for the member, of all kinds.
pub const MEMBER_QUEUE_INPUTS: usize = 8_192;

/// Inputs the member takes before its effects are carried out.
pub const MEMBER_TURN_INPUTS: usize = 256;

/// Entries applied before the effects of a turn are carried out.
pub const APPLY_TURN_ENTRIES: usize = 10_000;

/// Batches handed to the store's lane and not yet written; what comes meanwhile joins the next.
pub const STORE_OUTSTANDING_BATCHES: usize = 2;

/// Bytes applied and not yet handed to the store's lane at which new proposals are refused.
pub const STORE_PENDING_BYTES: usize = 64 * 1024 * 1024;

/// Jobs waiting for the log's lane.
pub const WAL_LANE_QUEUE_JOBS: usize = 256;

/// Jobs waiting for the store's lane.
pub const STORE_LANE_QUEUE_JOBS: usize = 256;

/// Password checks and hashes waiting for their lane.
pub const PASSWORD_LANE_QUEUE_JOBS: usize = 64;

/// Client requests under way in one member.
pub const MAX_INFLIGHT_REQUESTS: usize = 16_384;

/// Requests of watch streams waiting for the watch thread.
pub const WATCH_LANE_QUEUE_INPUTS: usize = 8_192;

/// Largest configuration file (`--config-file`).
pub const MAX_CONFIG_FILE_BYTES: usize = 1024 * 1024;

/// Opening brackets and braces in a configuration file: the time to read YAML grows with the square of its depth.
pub const MAX_CONFIG_FILE_BRACKETS: usize = 1_000;

const _: () = {
    assert!(GRPC_OVERHEAD_BYTES < MAX_REQUEST_BYTES);
    assert!(
        MAX_REQUEST_BYTES as u64 * 2 < WAL_SEGMENT_BYTES,
        "a file takes many of the largest entries"
    );
    assert!(
        MAX_APPEND_BYTES + MAX_REQUEST_BYTES < MAX_PEER_MESSAGE_BYTES,
        "an append may hold one entry too many"
    );
    assert!(
        MAX_PEER_MESSAGE_BYTES as u64 <= MAX_WAL_RECORD_BYTES,
        "what a peer may send can be logged"
    );
    assert!(
        MAX_REQUEST_BYTES * 8 <= MAX_UNCOMMITTED_BYTES,
        "a few large requests do not stop the leader"
    );
    assert!(SNAPSHOT_CATCHUP_ENTRIES <= SNAPSHOT_COUNT_ENTRIES);
    assert!(
        APPLY_GAP_MAX_ENTRIES >= MAX_BATCH_ENTRIES as u64,
        "one batch alone does not look like overload"
    );
    assert!(LEASE_REVOKE_INFLIGHT_REQUESTS <= LEASE_EXPIRE_BATCH_LEASES);
    assert!(STORE_OUTSTANDING_BATCHES <= STORE_LANE_QUEUE_JOBS);
    assert!(MEMBER_TURN_INPUTS <= MEMBER_QUEUE_INPUTS);
    assert!(
        PEER_RECEIVE_QUEUE_MESSAGES <= MEMBER_QUEUE_INPUTS,
        "peers alone cannot fill the member's queue"
    );
    assert!(PEER_PIPELINE_QUEUE_MESSAGES <= PEER_STREAM_QUEUE_MESSAGES);
    assert!(
        WATCH_CATCHUP_REVISIONS <= WATCH_PASS_REVISIONS,
        "one pass can fill a response"
    );
    assert!(
        WATCH_CATCHUP_BYTES <= WATCH_PASS_BYTES && WATCH_CATCHUP_REVISIONS <= WATCH_PASS_DELIVERIES,
        "one pass can fill a response"
    );
    assert!(
        MAX_REQUEST_BYTES * 8 <= WATCH_STREAM_QUEUE_BYTES,
        "a few large events do not make a watcher slow"
    );
    assert!(
        MAX_LEASE_TTL_SECONDS < i64::MAX / 1_000_000_000,
        "a lease's end fits in nanoseconds"
    );
};
