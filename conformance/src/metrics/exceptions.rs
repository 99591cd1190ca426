//! The intended differences from etcd's metrics, with reasons. An exception that no longer applies is an error.

/// A family, or the beginning of several names followed by `*`, and the reason.
pub type Exception = (&'static str, &'static str);

/// Families of etcd that Quoin does not have.
pub const MISSING: &[Exception] = &[
    (
        "etcd_debugging_disk_backend_commit_*",
        "phases of a commit in bbolt, which the table does not have",
    ),
    (
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "index and table are compacted in the same steps, whose pauses are counted",
    ),
    (
        "etcd_debugging_mvcc_range_total",
        "an older name of etcd_mvcc_range_total, gone in 3.6",
    ),
    ("etcd_debugging_store_*", "the store of API v2, which is not served"),
    ("etcd_grpc_proxy_*", "a separate proxy, which is not part of the server"),
    (
        "etcd_mvcc_db_open_read_transactions",
        "reads use an immutable view and open no transaction",
    ),
    ("etcd_server_go_version", "Quoin contains no Go"),
    ("go_*", "Go's own runtime"),
];

/// Families that change as in etcd, by amounts that depend on time, on the machine or on storage. Only whether they
/// change is compared.
pub const VARIES: &[Exception] = &[
    ("etcd_debugging_mvcc_db_compaction_last", "a time of day"),
    (
        "etcd_debugging_snap_save_*",
        "a snapshot waits until the table is durably past its index, which takes up to a second",
    ),
    (
        "etcd_snap_fsync_duration_seconds",
        "its count is the number of snapshots",
    ),
    (
        "etcd_disk_backend_commit_duration_seconds",
        "both write behind, in a number of batches that depends on time",
    ),
    (
        "etcd_disk_wal_fsync_duration_seconds",
        "everything that waits for the log is synced together",
    ),
    (
        "etcd_disk_wal_write_bytes_total",
        "each batch begins with a record that etcd does not write",
    ),
    (
        "etcd_disk_wal_write_duration_seconds",
        "etcd counts each record, here each batch is one write",
    ),
    ("etcd_mvcc_db_total_size_*", "another storage engine"),
    (
        "etcd_network_client_grpc_sent_bytes_total",
        "headers contain ids of random length, and versions",
    ),
    ("os_fd_*", "other files and sockets"),
    ("process_*", "another process"),
    (
        "promhttp_metric_handler_requests_total",
        "the test scrapes until the metrics are at rest",
    ),
];

/// Families that differ by a known amount.
pub const DIFFERS: &[Exception] = &[(
    "etcd_debugging_mvcc_pending_events_total",
    "etcd counts an event that a watch's filter leaves out as pending for ever",
)];
