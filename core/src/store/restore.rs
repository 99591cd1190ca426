//! A store built from the rows of its table: after a restart, or from a snapshot.
//!
//! The order is in the types: `meta`, then leases, then keys, then the rest. Keys find their leases while they are read,
//! so leases that come after keys do not compile:
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
use super::{Store, StoreConfig, rows};
use crate::error::Fault;
use crate::mvcc::{FINISHED_COMPACT_ROW, Mvcc, SCHEDULED_COMPACT_ROW};
use crate::proto::raftpb::ConfState;
use crate::table::Bucket;

/// A row of a table: key and value.
pub type Row = (Bytes, Bytes);

/// A store on its way back, at one stage of it.
pub struct Restore<Stage> {
    config: StoreConfig,
    meta: Meta,
    stage: Stage,
}

/// Leases come next.
pub struct Begin(());

/// Keys come next.
pub struct LeasesDone {
    leases: Leases,
}

/// The small buckets come next.
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
}

impl Restore<Begin> {
    /// Starts with the rows of bucket `meta`.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the one that `rows` gave.
    pub fn begin(config: StoreConfig, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Self, Fault> {
        let mut meta = Meta::default();
        for row in rows {
            let (key, value) = row?;
            match &key[..] {
                rows::CONSISTENT_INDEX => meta.consistent_index = rows::read_number(rows::CONSISTENT_INDEX, &value)?,
                rows::TERM => meta.term = rows::read_number(rows::TERM, &value)?,
                rows::CONF_STATE => meta.conf_state = Some(rows::read_conf_state(&value)?),
                SCHEDULED_COMPACT_ROW => meta.scheduled_compact = Some(value),
                FINISHED_COMPACT_ROW => meta.finished_compact = Some(value),
                // The storage version follows the cluster version; what else there may be is a newer version's.
                _ => {}
            }
        }
        Ok(Self {
            config,
            meta,
            stage: Begin(()),
        })
    }

    /// Reads the rows of bucket `lease`.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the one that `rows` gave.
    pub fn leases(self, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Restore<LeasesDone>, Fault> {
        let Self {
            config,
            meta,
            stage: Begin(()),
        } = self;
        let mut leases = Leases::default();
        for row in rows {
            let (key, value) = row?;
            let (id, stored) = rows::read_lease(&key, value)?;
            let ttl = stored.ttl.max(config.min_lease_ttl_seconds);
            leases.restore(id, Lease::new(ttl, stored.remaining_ttl));
        }
        Ok(Restore {
            config,
            meta,
            stage: LeasesDone { leases },
        })
    }

    /// All stages in their order, each from what `scan` reads of a bucket.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the one that `scan` gave.
    pub fn from_table<Rows>(config: StoreConfig, mut scan: impl FnMut(Bucket) -> Rows) -> Result<Store, Fault>
    where
        Rows: IntoIterator<Item = Result<Row, Fault>>,
    {
        let restore = Self::begin(config, scan(Bucket::Meta))?
            .leases(scan(Bucket::Lease))?
            .kv(scan(Bucket::Key))?;
        let small = [
            Bucket::Alarm,
            Bucket::Auth,
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
    /// A key of a lease that does not exist is attached to none, as in etcd: it stays until it is deleted. A compaction
    /// that had begun goes on with the next step.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, or the one that `rows` gave.
    pub fn kv(self, rows: impl IntoIterator<Item = Result<Row, Fault>>) -> Result<Restore<KvDone>, Fault> {
        let Self {
            config,
            meta,
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
            stage: KvDone { leases, kv },
        })
    }
}

impl Restore<KvDone> {
    /// Reads the rows of all other buckets, in any order.
    ///
    /// # Errors
    /// A [`Fault`] that names a broken row, the one that `rows` gave, or that auth is on, which this version does not have.
    pub fn finish(self, rows: impl IntoIterator<Item = Result<(Bucket, Bytes, Bytes), Fault>>) -> Result<Store, Fault> {
        let Self {
            config,
            meta,
            stage: KvDone { leases, kv },
        } = self;
        let (mut alarms, mut cluster) = (Alarms::default(), Cluster::default());
        for row in rows {
            let (bucket, key, value) = row?;
            restore_row(&mut alarms, &mut cluster, bucket, key, &value)?;
        }
        cluster.conf_state = meta.conf_state.unwrap_or_else(|| conf_state_of(&cluster));
        Ok(Store {
            config,
            kv,
            leases,
            alarms: Arc::new(alarms),
            cluster: Arc::new(cluster),
            consistent_index: meta.consistent_index,
            term: meta.term,
        })
    }
}

fn restore_row(
    alarms: &mut Alarms,
    cluster: &mut Cluster,
    bucket: Bucket,
    key: Bytes,
    value: &[u8],
) -> Result<(), Fault> {
    match bucket {
        Bucket::Alarm => {
            alarms.activate(&rows::read_alarm(key)?);
        }
        Bucket::Auth if key == rows::AUTH_ENABLED && value == [1] => {
            // Serving on without asking who is asking would open the store to everyone.
            let cause = "auth is on, and this version has no auth".to_owned();
            return Err(Fault::Inconsistent { cause });
        }
        Bucket::Cluster if key == rows::CLUSTER_VERSION => cluster.version = Some(rows::read_cluster_version(value)?),
        Bucket::Cluster if key == rows::DOWNGRADE => cluster.downgrade = Some(rows::read_downgrade(value)?),
        Bucket::Members => {
            let member = rows::read_member(&key, value)?;
            cluster.members.insert(member.id, member);
        }
        Bucket::MembersRemoved => {
            cluster.removed.insert(rows::read_member_id(bucket, &key)?);
        }
        Bucket::Auth | Bucket::AuthRoles | Bucket::AuthUsers | Bucket::Cluster => {}
        Bucket::Key | Bucket::Lease | Bucket::Meta => {
            let cause = format!("rows of bucket {} belong to another stage", bucket.name());
            return Err(Fault::Inconsistent { cause });
        }
    }
    Ok(())
}

/// The configuration that the member table implies, for tables whose writer did not store it.
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
