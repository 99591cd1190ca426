//! A view as rows of the table. A leader sends these rows as a snapshot. A follower replaces its own rows by them, and
//! [`super::Restore`] builds its state from them.

use bytes::Bytes;

use super::{Row, View, rows};
use crate::mvcc::Revision;
use crate::proto::etcdserverpb::AlarmType;
use crate::table::{Bucket, TableOp};

impl View {
    /// The rows of one bucket in the order of their keys.
    pub fn rows(&self, bucket: Bucket) -> Box<dyn Iterator<Item = Row> + '_> {
        let ops = match bucket {
            Bucket::Key => return Box::new(self.kv.rows()),
            Bucket::Lease => return Box::new(self.lease_rows(0)),
            Bucket::Meta => return Box::new(self.meta_rows().into_iter()),
            Bucket::Alarm => {
                let alarms = self.alarms.list(AlarmType::None);
                alarms.map(|alarm| rows::alarm(&alarm, true)).collect()
            }
            Bucket::Cluster => self.cluster_ops(),
            Bucket::Members => self.cluster.members().map(rows::member).collect(),
            Bucket::MembersRemoved => {
                let mut ops = Vec::new();
                self.cluster.removed().for_each(|id| rows::member_removed(id, &mut ops));
                ops
            }
            Bucket::Auth | Bucket::AuthRoles | Bucket::AuthUsers => self.auth.ops(),
        };
        Box::new(sorted_rows(ops, bucket).into_iter())
    }

    /// The rows of one bucket after the row with the key `after`, which exists; all of them if it is `None`.
    pub fn rows_after(&self, bucket: Bucket, after: Option<&[u8]>) -> Box<dyn Iterator<Item = Row> + '_> {
        let Some(after) = after else {
            return self.rows(bucket);
        };
        match bucket {
            Bucket::Key => {
                let (last, _) = Revision::from_row_key(after).expect("rows of this bucket have revisions for keys");
                Box::new(self.kv.rows_from(Revision::new(last.main, last.sub + 1)))
            }
            Bucket::Lease => {
                let last = after.try_into().map(u64::from_be_bytes);
                let next = last.expect("rows of this bucket have ids for keys").checked_add(1);
                Box::new(next.into_iter().flat_map(|next| self.lease_rows(next)))
            }
            _ => {
                let after = Bytes::copy_from_slice(after);
                Box::new(self.rows(bucket).skip_while(move |(key, _)| *key <= after))
            }
        }
    }

    /// The rows of leases from an id on. The order of rows is that of unsigned numbers.
    fn lease_rows(&self, from: u64) -> impl Iterator<Item = Row> {
        let leases = self.leases.iter_as_rows(from);
        leases.filter_map(|(id, lease)| {
            let op = rows::lease(id, lease);
            Some((op.key, op.value?))
        })
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
        // The storage version is written with the cluster version.
        ops.append(&mut self.cluster_ops());
        let mut meta = sorted_rows(ops, Bucket::Meta);
        meta.extend(self.kv.compaction_rows());
        meta.sort();
        meta
    }
}

/// The rows that `ops` put into one bucket.
fn sorted_rows(ops: Vec<TableOp>, bucket: Bucket) -> Vec<Row> {
    let of_bucket = ops.into_iter().filter(|op| op.bucket == bucket);
    let mut rows: Vec<Row> = of_bucket.filter_map(|op| Some((op.key, op.value?))).collect();
    rows.sort();
    rows
}
