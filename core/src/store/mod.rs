//! The applied state: keys with their history, leases, alarms, auth, and the members of the cluster.
//!
//! [`Store::apply`] turns one committed entry into its effects: answers, events and rows to write. Applying is
//! deterministic and cannot fail on valid input. Readers get a [`View`], which is O(1) to take and never changes. After
//! a restart, [`Restore`] builds the store from its rows, leases before keys.
//!
//! The store has no access to consensus, time or disks. Before a request is proposed, [`check`] finds the errors that
//! do not depend on the state.

mod alarm;
mod applied;
mod apply;
mod auth;
pub mod check;
mod cluster;
mod content;
mod counts;
mod lease;
mod legacy;
mod proposal;
mod read;
mod restore;
mod rows;
mod seal;
mod txn;
mod v2;
mod view;
mod view_rows;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub(crate) use content::Content;
pub(crate) use proposal::check_proposal;

pub use alarm::Alarms;
pub use applied::{Applied, ConfOutcome, LeaseChange, MemberChange, RequestId, Response, VersionChange};
pub use apply::ApplyContext;
pub use cluster::{Cluster, Downgrade};
pub use counts::{Counts, KeyCounts, Op};
pub use lease::{Lease, LeaseKeys, Leases};
pub use read::{TxnFound, TxnScan};
pub use restore::{Begin, KvDone, LeasesDone, Restore, Row, Unusable};
pub use seal::{Seal, Sums};
pub use view::View;

use crate::auth::Auth;
use crate::bug;
use crate::limits::MAX_LEARNERS;
use crate::mvcc::{CompactProgress, Mvcc};
use crate::proto::etcdserverpb::ResponseHeader;
use crate::proto::raftpb::ConfState;
use crate::table::{Bucket, SEAL_ROW, TableOp};

use seal::Account;

/// The applied state of one member. Only applied entries change what readers see.
pub struct Store {
    config: StoreConfig,
    kv: Mvcc,
    leases: Leases,
    alarms: Arc<Alarms>,
    auth: Arc<Auth>,
    cluster: Arc<Cluster>,
    consistent_index: u64,
    term: u64,
    /// The counts and digests of the table's rows once everything applied so far is written.
    account: Account,
}

/// Settings that should be equal on all members of a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreConfig {
    /// The shortest lease: one and a half election timeouts, rounded up.
    pub min_lease_ttl_seconds: i64,
    /// The largest number of learners in the cluster (`--max-learners`).
    pub max_learners: usize,
    /// Store checkpoints of leases even at a cluster version below 3.6.
    pub persist_lease_checkpoints: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            min_lease_ttl_seconds: 2,
            max_learners: MAX_LEARNERS,
            persist_lease_checkpoints: false,
        }
    }
}

impl Store {
    /// A store to which no entry was applied.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            kv: Mvcc::new(),
            leases: Leases::default(),
            alarms: Arc::default(),
            auth: Arc::default(),
            cluster: Arc::default(),
            consistent_index: 0,
            term: 0,
            account: Account::default(),
        }
    }

    /// Takes the changes of rows since the last call, to be written as one atomic batch: each row once, with its last
    /// value, in the order of bucket and key, together with the consistent index that covers them and the seal.
    pub fn take_ops(&mut self, applied: &mut Applied) -> Vec<TableOp> {
        let mut ops = applied.take_ops();
        if ops.is_empty() {
            return ops;
        }
        let before = self.seal();
        ops.iter().for_each(|op| self.account.note(op));
        let seal = if bug!(SealsStateBefore) { before } else { self.seal() };
        let (key, value) = seal.to_row();
        let place = ops.partition_point(|op| (op.bucket, &op.key[..]) < (Bucket::Meta, SEAL_ROW));
        ops.insert(place, TableOp::put(Bucket::Meta, key, value));
        ops
    }

    /// Continues the compaction in progress over at most `max_revisions` revisions. Appends the rows to delete to
    /// `out`.
    pub fn compact_step(&mut self, max_revisions: usize, out: &mut Applied) -> CompactProgress {
        let before = out.ops.len();
        let progress = self.kv.compact_step(max_revisions, &mut out.ops);
        let deleted = out.ops[before..].iter().filter(|op| op.value.is_none());
        out.counts.compacted_revisions += deleted.count() as u64;
        progress
    }

    /// An immutable view of the present state, for readers. O(1).
    #[must_use]
    pub fn view(&self) -> View {
        View {
            kv: self.kv.view(),
            leases: self.leases.clone(),
            alarms: Arc::clone(&self.alarms),
            auth: Arc::clone(&self.auth),
            cluster: Arc::clone(&self.cluster),
            applied_index: self.consistent_index,
            term: self.term,
            size_bytes: self.kv.size_bytes(),
        }
    }

    /// The index of the last applied entry. It never decreases.
    #[must_use]
    pub fn consistent_index(&self) -> u64 {
        self.consistent_index
    }

    /// The term of the last entry applied.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The configuration of consensus after the last entry applied.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        self.cluster.conf_state()
    }

    /// The bytes of all kept revisions.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.kv.size_bytes()
    }

    /// Asserts the invariants by a walk over everything; for tests and simulations.
    ///
    /// - A key that names a lease is attached to it, and no other key is; every lease that a key names exists.
    /// - Consensus is configured with exactly the members of the table.
    ///
    /// # Panics
    /// If one of these does not hold.
    pub fn check(&self) {
        let view = self.kv.view();
        let named: BTreeSet<(i64, &[u8])> = view.leased_keys().map(|(key, lease)| (lease, key)).collect();
        let attached = self
            .leases
            .iter()
            .flat_map(|(id, lease)| lease.keys().map(move |key| (id, &key[..])));
        assert_eq!(
            named,
            attached.collect(),
            "a key that names a lease is attached to it, and no other key is"
        );
        let ConfState { voters, learners, .. } = self.conf_state();
        let configured: BTreeSet<u64> = voters.iter().chain(learners).copied().collect();
        let members = self.cluster.members().map(|member| member.id.0).collect();
        assert_eq!(
            configured, members,
            "consensus is configured with exactly the members of the table"
        );
    }

    fn header(&self) -> Option<ResponseHeader> {
        applied::header(self.kv.revision())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("index", &self.consistent_index)
            .field("term", &self.term)
            .field("kv", &self.kv)
            .finish_non_exhaustive()
    }
}
