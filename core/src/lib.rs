//! Quoin's pure state machine: every decision of an etcd v3 member, no I/O.
//!
//! No code here opens a file or a socket, reads a clock or an environment variable, starts a thread or draws from the
//! operating system's randomness. Time, seeds, bytes from disks and peers come in as arguments; bytes to write or send,
//! and answers, go out as values. A run repeats byte for byte when its inputs do.
//!
//! There are three machines, because consensus never reads the applied state, and watchers never write:
//!
//! - `Member`: consensus, confirmation of linearizable reads, membership rules, and which entries the log must keep.
//! - `Store`: the applied state, namely keys with their history, leases, alarms and members. Applying an entry is
//!   deterministic and cannot fail on valid input.
//! - the watch `Hub`: which watcher gets which event, once, in order, whole revisions at a time.
//!
//! [`node`] composes the first two with the lessor, the compactor and the keeper of the cluster version. [`boot`]
//! decides how a member starts.
//!
//! Around them: the messages ([`proto`]), the bytes of log and snapshot files ([`wal`], [`snap`], [`snapshot`]), the
//! limits that bound every queue ([`limits`]), and the two kinds of failure ([`error`]).

pub mod api;
pub mod auth;
pub mod bbolt;
pub mod boot;
pub mod config;
pub mod corruption;
pub mod error;
pub mod id;
pub mod jobs;
pub mod limits;
pub mod member;
pub mod membership;
pub mod mutant;
pub mod mvcc;
pub mod node;
pub mod peer;
pub mod proto;
pub mod random;
pub mod snap;
pub mod snapshot;
pub mod store;
pub mod table;
pub mod time;
pub mod version;
pub mod wal;
pub mod watch;
