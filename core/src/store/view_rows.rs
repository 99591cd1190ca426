//! A view as the rows of the table that holds exactly it: what a leader sends with a snapshot, and what a follower that
//! received one puts in the place of its own rows. [`super::Restore`] makes the state of them again.

use bytes::Bytes;

use super::{Row, View, rows};
use crate::proto::etcdserverpb::AlarmType;
use crate::table::{Bucket, TableOp};

impl View {
    /// The rows of one bucket in the order of their keys.
    ///
    /// Auth has none: this version runs without, and does not start where it is on.
    pub fn rows(&self, bucket: Bucket) -> Box<dyn Iterator<Item = Row> + '_> {
        let ops = match bucket {
            Bucket::Key => return Box::new(self.kv.rows()),
            Bucket::Meta => return Box::new(self.meta_rows().into_iter()),
            Bucket::Alarm => {
                let alarms = self.alarms.list(AlarmType::None);
                alarms.map(|alarm| rows::alarm(&alarm, true)).collect()
            }
            Bucket::Cluster => self.cluster_ops(),
            Bucket::Lease => self.leases.iter().map(|(id, lease)| rows::lease(id, lease)).collect(),
            Bucket::Members => self.cluster.members().map(rows::member).collect(),
            Bucket::MembersRemoved => {
                let mut ops = Vec::new();
                self.cluster.removed().for_each(|id| rows::member_removed(id, &mut ops));
                ops
            }
            Bucket::Auth | Bucket::AuthRoles | Bucket::AuthUsers => Vec::new(),
        };
        Box::new(sorted_rows(ops, bucket).into_iter())
    }

    /// The rows of all buckets, bucket by bucket.
    pub fn all_rows(&self) -> impl Iterator<Item = (Bucket, Bytes, Bytes)> {
        Bucket::ALL
            .into_iter()
            .flat_map(|bucket| self.rows(bucket).map(move |(key, value)| (bucket, key, value)))
    }

    fn cluster_ops(&self) -> Vec<TableOp> {
        let mut ops = Vec::new();
        if let Some(version) = self.cluster.version() {
            rows::cluster_version(version, &mut ops);
        }
        ops.extend(self.cluster.downgrade().map(rows::downgrade));
        ops
    }

    fn meta_rows(&self) -> Vec<Row> {
        let mut ops = Vec::new();
        if self.applied_index > 0 {
            rows::progress(self.applied_index, self.term, &mut ops);
        }
        // The configuration is written with the first change of membership.
        if self.cluster.members().next().is_some() || self.cluster.removed().next().is_some() {
            ops.push(rows::conf_state(self.cluster.conf_state()));
        }
        // The storage version goes with the cluster version.
        ops.append(&mut self.cluster_ops());
        let mut meta = sorted_rows(ops, Bucket::Meta);
        meta.extend(self.kv.compaction_rows());
        meta.sort();
        meta
    }
}

/// What `ops` put into one bucket.
fn sorted_rows(ops: Vec<TableOp>, bucket: Bucket) -> Vec<Row> {
    let of_bucket = ops.into_iter().filter(|op| op.bucket == bucket);
    let mut rows: Vec<Row> = of_bucket.filter_map(|op| Some((op.key, op.value?))).collect();
    rows.sort();
    rows
}
