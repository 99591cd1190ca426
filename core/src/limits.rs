//! Every bound of the product, with its unit, and how the bounds depend on each other.

use std::time::Duration;

/// Largest proposal, and with [`GRPC_OVERHEAD_BYTES`] the largest request received (`--max-request-bytes`).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// How much larger than its proposal a request may be on the wire.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Largest number of operations at one level of a transaction (`--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;

/// How deep transactions may be nested. A decoder accepts 100 levels; each transaction takes two and the entry around
/// the request one. An entry that a member proposed must always decode when it is applied.
pub const MAX_TXN_DEPTH: usize = 40;

/// Compares and operations of a transaction and all transactions nested in it. The bound is three times `--max-txn-ops`
/// if that is more.
pub const MAX_TXN_TOTAL_OPS: usize = 4_096;

/// Rows that the compares and ranges of a writing transaction may look at. They are read while the entry is applied,
/// and the member does nothing else meanwhile.
pub const MAX_TXN_ROWS: usize = 20_000;

/// Rows of a read that the worker of its connection looks at; a longer read continues on the compute thread.
pub const READ_INLINE_ROWS: usize = 1_024;

/// Rows that a long read looks at before the next computation has its turn.
pub const READ_SLICE_ROWS: usize = 4_096;

/// Long reads and other computations that run at the same time, in turns.
pub const COMPUTE_RUNNING_JOBS: usize = 16;

/// Computations that may wait until a running one has finished.
pub const COMPUTE_WAITING_JOBS: usize = 1_024;

/// Bytes of a message that is sent whole; a longer one is encoded piece by piece, as the client reads it.
pub const WHOLE_MESSAGE_BYTES: usize = 256 * 1024;

/// Bytes of one such piece, not counting the last pair in it.
pub const MESSAGE_PIECE_BYTES: usize = 64 * 1024;

/// Largest message sent, as in etcd; a larger one is an error.
pub const MAX_SEND_BYTES: usize = i32::MAX as usize;

/// Largest message, in bytes, that is compressed for a client that asks for compression.
pub const MAX_COMPRESS_BYTES: usize = 128 * 1024;

/// Simple tokens that a member keeps. Beyond that, those that are unused for longest end.
pub const MAX_SIMPLE_TOKENS: usize = 100_000;

/// Passwords found right that a member remembers, so that it need not compare them again.
pub const REMEMBERED_PASSWORDS: usize = 4_096;

/// Passwords that may wait to be hashed or compared.
pub const PASSWORD_WAITING_JOBS: usize = 1_024;

/// The least time between two renderings of the metrics, in milliseconds.
pub const METRICS_INTERVAL_MS: u64 = 100;

/// Rows from which a write counts as heavy. Heavy writes are proposed one at a time, so that other writes are applied
/// between them.
pub const HEAVY_WRITE_ROWS: usize = 1_024;

/// Size at which a write-ahead log file is cut; decimal, as in etcd.
pub const WAL_SEGMENT_BYTES: u64 = 64_000_000;

/// Largest part of one record of the log; a longer length word is damage.
pub const MAX_WAL_RECORD_BYTES: u64 = 512 * 1024 * 1024;

/// Write-ahead log files kept beyond those still needed (`--max-wals`).
pub const MAX_WAL_FILES: usize = 5;

/// Snapshot files kept (`--max-snapshots`).
pub const MAX_SNAPSHOT_FILES: usize = 5;

/// Calls of the lock and the election service that wait or observe, each with a watch; further ones are refused.
pub const RECIPE_WATCHES: usize = 10_000;

/// Longest lease.
pub const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;

/// Leases revoked in one pass over the expired ones.
pub const LEASE_EXPIRE_BATCH_LEASES: usize = 500;

/// Revocations that are proposed but not yet applied.
pub const LEASE_REVOKE_INFLIGHT_REQUESTS: usize = 16;

/// Leases whose remaining time is written to the log by one request.
pub const LEASE_CHECKPOINT_BATCH_LEASES: usize = 1_000;

/// Learners in a cluster (`--max-learners`).
pub const MAX_LEARNERS: usize = 1;

/// Number of committed entries not yet applied at which new proposals are refused.
pub const APPLY_GAP_MAX_ENTRIES: u64 = 5_000;

/// Responses queued for one watch stream before its watchers count as slow.
pub const WATCH_STREAM_QUEUE_RESPONSES: usize = 128;

/// Distinct revisions in one response to a watcher that catches up.
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

/// Applied entries between two markers in the log (`--snapshot-count`).
pub const SNAPSHOT_COUNT_ENTRIES: u64 = 10_000;

/// Applied entries kept in memory for slow followers (`--snapshot-catchup-entries`).
pub const SNAPSHOT_CATCHUP_ENTRIES: u64 = 5_000;

/// Bytes of applied entries kept in memory for slow followers, whatever the number of entries.
pub const LOG_TAIL_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of applied entries kept in memory for followers that receive a snapshot. If more bytes are written before the
/// snapshot has arrived, its follower needs another one.
pub const LOG_PINNED_BYTES: usize = 256 * 1024 * 1024;

/// Buckets of a database file that is read; etcd has ten.
pub const MAX_DATABASE_BUCKETS: usize = 1_024;

/// Levels of a tree of a database file that is read. A tree of 32 levels would have billions of pages.
pub const MAX_DATABASE_DEPTH: usize = 32;

/// Bytes of a node of a database file that is read: two of the largest rows, each no larger than a record of the log.
pub const MAX_DATABASE_NODE_BYTES: usize = 1024 * 1024 * 1024;

/// Bytes of a snapshot that are made in one step, not counting the last row.
pub const SNAPSHOT_STEP_BYTES: usize = 256 * 1024;

/// Bytes of one part of a snapshot sent to a client.
pub const BACKUP_CHUNK_BYTES: usize = 32 * 1024;

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

/// Messages queued for a stream to a peer. Further ones are dropped; raft sends again.
pub const PEER_STREAM_QUEUE_MESSAGES: usize = 4_096;

/// Bytes of messages queued for a stream to a peer; a message that begins below it is still taken.
pub const PEER_STREAM_QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Messages queued for the short-lived connections to a peer.
pub const PEER_PIPELINE_QUEUE_MESSAGES: usize = 64;

/// Short-lived connections to a peer at the same time.
pub const PEER_PIPELINE_CONNECTIONS: usize = 4;

/// Messages from peers waiting for the member.
pub const PEER_RECEIVE_QUEUE_MESSAGES: usize = 4_096;

/// Largest raft message posted by a peer: an append or a proposal with entries as large as another member's
/// `--max-request-bytes` allows.
pub const PEER_PIPELINE_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Senders outside the table of members that a member can answer at the same time.
pub const PEER_REMOTES: usize = 64;

/// Different refusals, of a peer or to a peer, that are logged until the next success.
pub const PEER_REFUSALS_LOGGED: usize = 8;

/// Bytes of the largest answer of a peer to a request, other than a stream.
pub const MAX_PEER_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of messages that are encoded for a stream at a time, not counting the last message.
pub const PEER_WRITE_BYTES: usize = 1024 * 1024;

/// Time between two heartbeats of a stream between members, a third of [`PEER_READ_PATIENCE`].
pub const PEER_LINK_BEAT: Duration = Duration::from_millis(1_667);

/// How long the body of a peer's request or answer may pause.
pub const PEER_READ_PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection to a peer may take to be made, in addition to an election timeout.
pub const PEER_DIAL_PATIENCE: Duration = Duration::from_secs(1);

/// Time between the loss of a stream and the next attempt to open it.
pub const PEER_REDIAL_PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take to read and answer a posted message.
pub const PEER_POST_PATIENCE: Duration = Duration::from_secs(30);

/// How long a snapshot may take from one part of its file to the next, and from the last part to the answer.
pub const PEER_SNAPSHOT_PATIENCE: Duration = Duration::from_secs(120);

/// Host names of peers that are looked up at the same time, each on a thread.
pub const PEER_NAME_LOOKUPS: usize = 16;

/// How long a start waits for other members to say whether this one is already running.
pub const TWIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a start waits for the members of the cluster that it joins.
pub const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a member that does not lead waits before it forwards a request again.
pub const FORWARD_PAUSE: Duration = Duration::from_millis(50);

/// How long a request of another member about a lease may wait until this member has applied enough entries.
pub const PEER_APPLY_PATIENCE: Duration = Duration::from_secs(1);

/// Time between two questions for a peer's version.
pub const PEER_VERSION_INTERVAL: Duration = Duration::from_secs(4);

/// Inputs queued for the peer machine above which messages of the node are dropped.
pub const PEER_QUEUE_INPUTS: usize = 8_192;

/// Bytes of one body on their way to the peer machine, or from it to a snapshot's file, above which no more are read.
pub const PEER_BODY_WINDOW_BYTES: usize = 1024 * 1024;

/// Snapshots that are received at the same time.
pub const PEER_SNAPSHOTS_ARRIVING: usize = 1;

/// Time between two lines of the log about dropped messages of peers.
pub const PEER_DROP_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Largest body of a lease or promote request posted by a peer.
pub const MAX_PEER_POST_BYTES: usize = 64 * 1024;

/// Terms that a message may be ahead of its receiver's. A member that lost a thousand elections in each second would
/// need more than 30 years for as many.
pub const MAX_TERM_STEP: u64 = 1 << 40;

/// The largest term that is accepted in a message. Above it there are still more terms than elections can use up.
pub const MAX_TERM: u64 = u64::MAX / 2;

/// The largest index of a snapshot that is accepted. Above it there are still more indexes than a log can use up.
pub const MAX_LOG_INDEX: u64 = u64::MAX / 2;

/// Inputs waiting for the member, of all kinds.
pub const MEMBER_QUEUE_INPUTS: usize = 8_192;

/// Rows changed by the entries applied in one turn, before its effects are carried out. Each entry counts as at least
/// one row; a single entry may exceed the bound.
pub const APPLY_TURN_ROWS: usize = 10_000;

/// Batches handed to the table lane and not yet written; rows that come meanwhile join the next batch.
pub const STORE_OUTSTANDING_BATCHES: usize = 2;

/// Bytes applied but not yet handed to the table lane at which new proposals are refused.
pub const STORE_PENDING_BYTES: usize = 64 * 1024 * 1024;

/// Jobs waiting for the log lane.
pub const WAL_LANE_QUEUE_JOBS: usize = 256;

/// Seconds that the table's engine may take to open its files. After that it is taken to hang on a damaged file.
pub const TABLE_OPEN_SECONDS: u64 = 900;

/// Seconds that the engine of a damaged table may take to end its threads, before a new table replaces it.
pub const TABLE_CLOSE_SECONDS: u64 = 10;

/// Rows of several jobs at which the table lane writes them as one batch; the job that reaches the bound is included.
pub const TABLE_MERGE_ROWS: usize = 4_096;

/// Jobs waiting for the table lane.
pub const STORE_LANE_QUEUE_JOBS: usize = 256;

/// A thread that has been at one piece of work for this long is stuck: `/health` and `/readyz` fail.
pub const STUCK_NOT_READY: Duration = Duration::from_secs(5);

/// After this long `/livez` fails too, and a supervisor may kill the process.
pub const STUCK_NOT_ALIVE: Duration = Duration::from_secs(10);

/// Time between two log lines that say what a start waits for and how far it is.
pub const START_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How long a start waits for another process' lock before it logs that.
pub const LOCK_REPORT_AFTER: Duration = Duration::from_secs(1);

/// How long a start waits for the lock before it also logs etcd's message, as etcd does.
pub const LOCK_REPORT_ETCD: Duration = Duration::from_secs(10);

/// How long a process waits for the end of a failed member. The process itself ends within a second.
pub const FAILED_STOP_PATIENCE: Duration = Duration::from_millis(500);

/// How long a stop waits for the member's threads after its clients are gone.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How long a caller waits for the node's reply after the deadline of its request.
pub const NODE_REPLY_GRACE: Duration = Duration::from_secs(1);

/// Client requests in flight in one member.
pub const MAX_INFLIGHT_REQUESTS: usize = 16_384;

/// Requests of watch streams waiting for the watch thread.
pub const WATCH_LANE_QUEUE_INPUTS: usize = 8_192;

/// File descriptors of the process that client connections never get: the member's own files, its listeners, its
/// threads' pollers, and connections on ports that serve no clients. A process whose limit is no higher is refused, as
/// in etcd.
pub const RESERVED_DESCRIPTORS: u64 = 150;

/// File descriptors that client connections do not get either, where the limit of the process is high enough:
/// connections with peers, from both sides. If the limit is low, peers and clients get half each of the descriptors
/// that it leaves.
pub const PEER_DESCRIPTORS: u64 = 160;

/// Connections at a time on the ports for metrics, out of [`RESERVED_DESCRIPTORS`].
pub const METRICS_CONNECTIONS: usize = 16;

/// Connections at a time on the ports for peers, out of [`PEER_DESCRIPTORS`].
pub const PEER_CONNECTIONS: usize = 96;

/// Files of the table that are kept open for reading, out of [`RESERVED_DESCRIPTORS`].
pub const TABLE_OPEN_FILES: usize = 48;

/// Descriptors of [`RESERVED_DESCRIPTORS`] for everything else: log files, journals, compactions, listeners, pollers.
pub const OTHER_DESCRIPTORS: usize = 64;

/// Connections that the kernel queues for a listener until it accepts them; the kernel's own bound
/// (`net.core.somaxconn`) applies if it is lower.
pub const LISTEN_BACKLOG_CONNECTIONS: i32 = 65_535;

/// Bytes of a Unix socket's path: the kernel has 108 for it, with a zero at the end.
pub const UNIX_PATH_BYTES: usize = 107;

/// Seconds without a byte after which the kernel probes whether a client is still there.
pub const TCP_KEEPALIVE_IDLE_SECONDS: u64 = 30;

/// Seconds between two probes.
pub const TCP_KEEPALIVE_INTERVAL_SECONDS: u64 = 15;

/// Unanswered probes after which the connection is closed.
pub const TCP_KEEPALIVE_PROBES: u32 = 9;

/// Bytes that a client may send on one HTTP/2 stream before the server reads them.
pub const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Bytes that a client may send on all streams of a connection before the server reads them.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// Bytes of incomplete messages that the calls of one connection hold. Above it only the oldest call with such a
/// message reads on; the data of the others stays in their windows.
pub const CONNECTION_PARTIAL_BYTES: usize = 8 * 1024 * 1024;

/// Seconds that a call waits for room under [`CONNECTION_PARTIAL_BYTES`] before it fails.
pub const PARTIAL_PATIENCE_SECONDS: u64 = 10;

/// Bytes that one turn of a connection's task reads, so that a busy connection does not keep its worker from the
/// others.
pub const TURN_READ_BYTES: usize = 64 * 1024;

/// Least bytes of a call that its client makes and cancels: frames with headers, a message, and the reset.
pub const CANCELLED_CALL_BYTES: usize = (9 + 6) + (9 + 5 + 3) + (9 + 4);

/// Streams of one connection that its client reset before the server accepted them; one more ends the connection. A
/// turn reads fewer cancelled calls than this, so a real client never reaches it; a flood of resets without messages
/// does.
pub const RESET_BEFORE_ACCEPT_STREAMS: usize = 1_536;

/// Streams that the server reset for protocol errors, over the connection's whole life; one more ends it. Frames of a
/// call that was answered early count, so a long-lived client may have many.
pub const PROTOCOL_ERROR_STREAMS: usize = 16_384;

/// Streams of one connection at the same time, whatever the configuration allows (`--max-concurrent-streams`).
pub const CONNECTION_STREAMS: u32 = 65_536;

/// Bytes of the largest list of headers of an HTTP/2 request: room for tokens.
pub const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Bytes of the largest head of an HTTP/1 request, and with some slack its buffer.
pub const HTTP1_HEAD_BYTES: usize = 64 * 1024;

/// Bytes that wait on one stream for a slow client before more is encoded.
pub const STREAM_SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Seconds a connection may take to send its first bytes, and an HTTP/1 request its head.
pub const HEAD_PATIENCE_SECONDS: u64 = 30;

/// Seconds that a TLS handshake may take, as in etcd since 3.6.
pub const HANDSHAKE_PATIENCE_SECONDS: u64 = 10;

/// TLS handshakes in progress on the ports for clients, and as many on those for metrics. At one more, the oldest one is
/// cut.
pub const HANDSHAKES: usize = 2_048;

/// Computations of handshakes that may wait. Each handshake has at most one.
pub const HANDSHAKE_JOBS: usize = 2 * HANDSHAKES + PEER_CONNECTIONS;

/// Lines a second about connections that were rejected at the handshake, for each kind of port.
pub const REJECTIONS_LOGGED: u32 = 10;

/// Largest configuration file (`--config-file`).
pub const MAX_CONFIG_FILE_BYTES: usize = 4 * 1024 * 1024;

/// Lists and maps inside each other in a configuration file, in levels; etcd's own settings need four.
pub const MAX_CONFIG_FILE_DEPTH: usize = 100;

const _: () = {
    assert!(GRPC_OVERHEAD_BYTES < MAX_REQUEST_BYTES);
    assert!(
        MAX_REQUEST_BYTES as u64 * 2 < WAL_SEGMENT_BYTES,
        "a segment holds many of the largest entries"
    );
    assert!(
        MAX_APPEND_BYTES + MAX_REQUEST_BYTES < MAX_PEER_MESSAGE_BYTES,
        "an append may exceed its bound by one entry"
    );
    assert!(
        MAX_PEER_MESSAGE_BYTES as u64 <= MAX_WAL_RECORD_BYTES,
        "a message that a peer may send fits in the log"
    );
    assert!(
        MAX_REQUEST_BYTES * 8 <= MAX_UNCOMMITTED_BYTES,
        "a few large requests do not make the leader refuse more"
    );
    assert!(SNAPSHOT_CATCHUP_ENTRIES <= SNAPSHOT_COUNT_ENTRIES);
    assert!(
        MAX_DATABASE_NODE_BYTES as u64 >= 2 * MAX_WAL_RECORD_BYTES,
        "a database that was written can be read"
    );
    assert!(
        APPLY_GAP_MAX_ENTRIES >= MAX_BATCH_ENTRIES as u64,
        "one batch alone is no overload"
    );
    assert!(LEASE_REVOKE_INFLIGHT_REQUESTS <= LEASE_EXPIRE_BATCH_LEASES);
    assert!(
        STUCK_NOT_READY.as_nanos() < STUCK_NOT_ALIVE.as_nanos(),
        "the readiness check fails before the liveness check"
    );
    assert!(LOCK_REPORT_AFTER.as_nanos() < LOCK_REPORT_ETCD.as_nanos());
    assert!(STORE_OUTSTANDING_BATCHES <= STORE_LANE_QUEUE_JOBS);
    assert!(
        PEER_RECEIVE_QUEUE_MESSAGES <= MEMBER_QUEUE_INPUTS,
        "peers alone cannot fill the member's queue"
    );
    assert!(PEER_PIPELINE_QUEUE_MESSAGES <= PEER_STREAM_QUEUE_MESSAGES);
    assert!(
        PEER_CONNECTIONS + 8 * (PEER_PIPELINE_CONNECTIONS + 4) <= PEER_DESCRIPTORS as usize,
        "the connections of peers, and those to eight peers: two streams, a question, a snapshot, and posted messages"
    );
    assert!(
        MAX_APPEND_BYTES + MAX_REQUEST_BYTES < PEER_PIPELINE_MESSAGE_BYTES,
        "a posted append may exceed its bound by one entry"
    );
    assert!(PEER_PIPELINE_MESSAGE_BYTES <= MAX_PEER_MESSAGE_BYTES);
    assert!(
        (MAX_APPEND_BYTES + MAX_REQUEST_BYTES) * 8 <= PEER_STREAM_QUEUE_BYTES,
        "a few large appends do not fill a stream"
    );
    assert!(
        PEER_LINK_BEAT.as_nanos() * 2 < PEER_READ_PATIENCE.as_nanos(),
        "a lost heartbeat does not end a stream"
    );
    assert!(LOG_TAIL_BYTES <= LOG_PINNED_BYTES);
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
    assert!(MAX_TXN_OPS <= MAX_TXN_TOTAL_OPS && MAX_TXN_TOTAL_OPS <= MAX_TXN_ROWS);
    assert!(
        READ_INLINE_ROWS <= READ_SLICE_ROWS,
        "a worker looks at no more rows at a time than the compute thread"
    );
    assert!(
        MESSAGE_PIECE_BYTES <= WHOLE_MESSAGE_BYTES && WHOLE_MESSAGE_BYTES <= MAX_SEND_BYTES,
        "a message sent in pieces has several"
    );
    assert!(HEAVY_WRITE_ROWS <= MAX_TXN_ROWS);
    assert!(
        METRICS_CONNECTIONS + TABLE_OPEN_FILES + OTHER_DESCRIPTORS <= RESERVED_DESCRIPTORS as usize,
        "the reserved descriptors are enough for all their uses"
    );
    assert!(
        CONNECTION_PARTIAL_BYTES >= 2 * (MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES),
        "a client can send a few of the largest requests at once"
    );
    assert!(
        TURN_READ_BYTES / CANCELLED_CALL_BYTES < RESET_BEFORE_ACCEPT_STREAMS,
        "no burst of cancelled calls ends its connection"
    );
    assert!(
        STREAM_WINDOW_BYTES as u64 * 512 <= CONNECTION_WINDOW_BYTES as u64,
        "hundreds of waiting calls leave room in the connection's window for the oldest"
    );
    assert!(
        MAX_LEASE_TTL_SECONDS < i64::MAX / 1_000_000_000,
        "a lease's end fits an Instant"
    );
};
