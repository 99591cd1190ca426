//! A store built from the rows of its table: after a restart, or from a snapshot.
//!
//! The order is in the types: `meta`, then leases, then keys, then the rest. Keys are attached to their leases while
//! they are read, so code that reads leases after keys does not compile:
//!
//! ```compile_fail,E0599
//! # use quoin_core::store::{Restore, StoreConfig};
//! let restore = Restore::begin(StoreConfig::default(), []).unwrap();
//! let restore = restore.kv([]).unwrap();
//! ```
//!
//! ```
//! # use quoin_core::store::{Restore, StoreConfig};
//! let restore = Restore::begin(StoreConfig::default(), []).unwrap();
//! let restore = restore.leases([]).unwrap();
//! let restore = restore.kv([]).unwrap();
//! let store = restore.finish([]).unwrap();
//! assert_eq!(store.consistent_index(), 0);
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::alarm::Alarms;
use super::cluster::Cluster;
use super::lease::{Lease, Leases};
use super::seal::{Account, Seal, Sums};
use super::{Store, StoreConfig, rows};
use crate::auth::Auth;
use crate::bug;
use crate::error::Fault;
use crate::mvcc::{FINISHED_COMPACT_ROW, Mvcc, SCHEDULED_COMPACT_ROW};
use crate::proto::raftpb::ConfState;
use crate::table::{Bucket, SEAL_ROW};

/// A row of a table: key and value.
pub type Row = (Bytes, Bytes);

/// A store that is being restored. `Stage` says which buckets were read.
pub struct Restore<Stage> {
    config: StoreConfig,
    meta: Meta,
    account: Account,
    stage: Stage,
}

/// The stage before leases.
pub struct Begin(());

/// The stage before keys.
pub struct LeasesDone {
    leases: Leases,
}

/// The stage before the small buckets.
pub struct KvDone {
    leases: Leases,
    kv: Mvcc,
}

/// Bucket `meta`.
#[derive(Default)]
struct Meta {
    consistent_index: u64,
    term: u64,
    conf_state: Option<ConfState>,
    scheduled_compact: Option<Bytes>,
    finished_compact: Option<Bytes>,
    seal: Option<Seal>,
}

/// Why the table cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// Its rows are not the state after any batch.
    Damaged {
        /// The contradiction.
        cause: String,
        /// The consistent index in the table, if it can be read; 0 otherwise.
        index: u64,
    },
    /// It could not be read, or has content that this version does not support.
    Fault(Fault),
}

impl Restore<Begin> {
    /// Begins with the rows of bucket `meta`.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the fault that `rows` returned.
    pub fn begin(config: StoreConfig, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Self, Fault> {
        let (mut meta, mut account) = (Meta::default(), Account::default());
        for row in rows {
            let (key, value) = row?;
            account.read(Bucket::Meta, &key, &value);
            match &key[..] {
                SEAL_ROW => {
                    let seal = Seal::from_row(&value);
                    meta.seal = Some(seal.ok_or_else(|| rows::corrupt(Bucket::Meta, SEAL_ROW, "it is no seal"))?);
                }
                rows::CONSISTENT_INDEX => meta.consistent_index = rows::read_number(rows::CONSISTENT_INDEX, &value)?,
                rows::TERM => meta.term = rows::read_number(rows::TERM, &value)?,
                rows::CONF_STATE => meta.conf_state = Some(rows::read_conf_state(&value)?),
                SCHEDULED_COMPACT_ROW => meta.scheduled_compact = Some(value),
                FINISHED_COMPACT_ROW => meta.finished_compact = Some(value),
                // The storage version follows the cluster version. Any other row is of a newer version.
                _ => {}
            }
        }
        Ok(Self {
            config,
            meta,
            account,
            stage: Begin(()),
        })
    }

    /// Reads the rows of bucket `lease`.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the fault that `rows` returned.
    pub fn leases(self, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Restore<LeasesDone>, Fault> {
        let Self {
            config,
            meta,
            mut account,
            stage: Begin(()),
        } = self;
        let mut leases = Leases::default();
        for row in rows {
            let (key, value) = row?;
            account.read(Bucket::Lease, &key, &value);
            let (id, stored) = rows::read_lease(&key, value)?;
            let ttl = stored.ttl.max(config.min_lease_ttl_seconds);
            leases.restore(id, Lease::new(ttl, stored.remaining_ttl));
        }
        Ok(Restore {
            config,
            meta,
            account,
            stage: LeasesDone { leases },
        })
    }

    /// Runs all stages in their order. `scan` returns the rows of a bucket.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the fault that `scan` returned.
    pub fn from_table<Rows>(config: StoreConfig, mut scan: impl FnMut(Bucket) -> Rows) -> Result<Store, Fault>
    where
        Rows: IntoIterator<Item = Result<Row, Fault>>,
    {
        let restore = Self::begin(config, scan(Bucket::Meta))?;
        Self::stages(restore, scan)
    }

    /// As [`Self::from_table`], for a table that the member will write to: its rows must match the seal of its last
    /// batch.
    ///
    /// A table without a seal is of an earlier version. It is accepted, and gets a seal with the next batch, unless it
    /// has rows and no consistent index, which no batch leaves.
    ///
    /// # Errors
    /// The damage of the table, or the fault that `scan` returned.
    pub fn from_sealed_table<Rows>(config: StoreConfig, mut scan: impl FnMut(Bucket) -> Rows) -> Result<Store, Unusable>
    where
        Rows: IntoIterator<Item = Result<Row, Fault>>,
    {
        let unusable = |index| {
            move |fault: Fault| match fault {
                Fault::Disk { .. } | Fault::ThreadLost { .. } => Unusable::Fault(fault),
                Fault::Corrupt { .. } | Fault::Inconsistent { .. } => Unusable::Damaged {
                    cause: fault.to_string(),
                    index,
                },
            }
        };
        let restore = Self::begin(config, scan(Bucket::Meta)).map_err(unusable(0))?;
        let seal = restore.meta.seal;
        // A seal has its own checksum, so its index is trusted before the row's.
        let index = seal.map_or(restore.meta.consistent_index, |seal| seal.index);
        let restored = Self::stages(restore, scan).map_err(unusable(index))?;
        let found = restored.seal();
        let cause = match seal {
            Some(seal) => seal.contradiction(&found),
            None if found.index == 0 && found.sums != Sums::default() => {
                Some("it has rows and no consistent index".to_owned())
            }
            None => None,
        };
        if let Some(cause) = cause
            && !bug!(IgnoresSeal)
        {
            return Err(Unusable::Damaged { cause, index });
        }
        Ok(restored)
    }

    fn stages<Rows>(restore: Self, mut scan: impl FnMut(Bucket) -> Rows) -> Result<Store, Fault>
    where
        Rows: IntoIterator<Item = Result<Row, Fault>>,
    {
        let restore = restore.leases(scan(Bucket::Lease))?.kv(scan(Bucket::Key))?;
        let small = [
            Bucket::Alarm,
            Bucket::Auth,
            Bucket::AuthRoles,
            Bucket::AuthUsers,
            Bucket::Cluster,
            Bucket::Members,
            Bucket::MembersRemoved,
        ];
        let rows = small.into_iter().flat_map(|bucket| {
            scan(bucket)
                .into_iter()
                .map(move |row| row.map(|(key, value)| (bucket, key, value)))
        });
        restore.finish(rows)
    }
}

impl Restore<LeasesDone> {
    /// Reads the rows of bucket `key` in their order and attaches keys to leases.
    ///
    /// As in etcd, a key of a lease that does not exist is attached to none, and stays until it is deleted.
    /// [`Store::compact_step`] continues a compaction that was in progress.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the fault that `rows` returned.
    pub fn kv(self, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Restore<KvDone>, Fault> {
        let Self {
            config,
            meta,
            account,
            stage: LeasesDone { mut leases },
        } = self;
        let mut restore = Mvcc::restore();
        for row in rows {
            let (key, value) = row?;
            restore.row(&key, &value)?;
        }
        let kv = restore.finish(meta.scheduled_compact.as_deref(), meta.finished_compact.as_deref())?;
        let view = kv.view();
        for (key, lease) in view.leased_keys() {
            leases.reattach(&Bytes::copy_from_slice(key), 0, lease);
        }
        Ok(Restore {
            config,
            meta,
            account,
            stage: KvDone { leases, kv },
        })
    }
}

impl Restore<KvDone> {
    /// Reads the rows of all other buckets, in any order.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the fault that `rows` returned.
    pub fn finish(self, rows: impl IntoIterator<Item = Result<(Bucket, Bytes, Bytes), Fault>>) -> Result<Store, Fault> {
        let Self {
            config,
            meta,
            mut account,
            stage: KvDone { leases, kv },
        } = self;
        let mut small = Small::default();
        for row in rows {
            let (bucket, key, value) = row?;
            account.read(bucket, &key, &value);
            small.row(bucket, key, &value)?;
        }
        let Small {
            alarms,
            auth,
            mut cluster,
        } = small;
        let stored = meta.conf_state.filter(|stored| is_of_members(stored, &cluster));
        cluster.conf_state = stored.unwrap_or_else(|| conf_state_of(&cluster));
        Ok(Store {
            config,
            kv,
            leases,
            alarms: Arc::new(alarms),
            auth: Arc::new(auth),
            cluster: Arc::new(cluster),
            consistent_index: meta.consistent_index,
            term: meta.term,
            account,
        })
    }
}

/// The content of the small buckets.
#[derive(Default)]
struct Small {
    alarms: Alarms,
    auth: Auth,
    cluster: Cluster,
}

impl Small {
    fn row(&mut self, bucket: Bucket, key: Bytes, value: &Bytes) -> Result<(), Fault> {
        let cluster = &mut self.cluster;
        match bucket {
            Bucket::Alarm => {
                self.alarms.activate(&rows::read_alarm(key)?);
            }
            Bucket::Auth | Bucket::AuthRoles | Bucket::AuthUsers => {
                let restored = self.auth.restore(bucket, &key, value);
                restored.map_err(|why| rows::corrupt(bucket, &key, &why))?;
            }
            Bucket::Cluster if key == rows::CLUSTER_VERSION => {
                cluster.version = Some(rows::read_cluster_version(value)?);
            }
            Bucket::Cluster if key == rows::DOWNGRADE => cluster.downgrade = Some(rows::read_downgrade(value)?),
            Bucket::Cluster => {}
            Bucket::Members => {
                let member = rows::read_member(&key, value)?;
                cluster.members.insert(member.id, member);
            }
            Bucket::MembersRemoved => {
                cluster.removed.insert(rows::read_member_id(bucket, &key)?);
            }
            Bucket::Key | Bucket::Lease | Bucket::Meta => {
                let cause = format!("rows of bucket {} belong to another stage", bucket.name());
                return Err(Fault::Inconsistent { cause });
            }
        }
        Ok(())
    }
}

/// Whether a configuration has exactly the members of the table, or the table has none. `etcdutl snapshot restore`
/// replaces the members, but leaves the configuration of the cluster that was backed up.
fn is_of_members(stored: &ConfState, cluster: &Cluster) -> bool {
    let mut ids: Vec<u64> = stored.voters.iter().chain(&stored.learners).copied().collect();
    ids.sort_unstable();
    let members = cluster.members().map(|member| member.id.0);
    cluster.members.is_empty() || ids.into_iter().eq(members)
}

/// The configuration that the member table implies, for tables without one of their own.
fn conf_state_of(cluster: &Cluster) -> ConfState {
    let ids = |learner| {
        cluster
            .members()
            .filter(move |member| member.is_learner == learner)
            .map(|member| member.id.0)
    };
    ConfState {
        voters: ids(false).collect(),
        learners: ids(true).collect(),
        ..ConfState::default()
    }
}

#[cfg(test)]
mod tests;
