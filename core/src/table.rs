//! The applied state as rows: the buckets, and the change of a row.
//!
//! Core decides the changes; the table lane writes them.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A bucket of the backing table, named and keyed as etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Raised alarms: the key is the encoded `AlarmMember`.
    Alarm,
    /// Whether auth is on, and its revision.
    Auth,
    /// Roles by name.
    AuthRoles,
    /// Users by name.
    AuthUsers,
    /// Cluster version and downgrade job.
    Cluster,
    /// Every kept revision of every key, by revision.
    Key,
    /// Granted leases by id.
    Lease,
    /// Members by id.
    Members,
    /// Ids of removed members, which may never come back.
    MembersRemoved,
    /// Consistent index, term, raft configuration, compaction marks, storage version.
    Meta,
}

impl Bucket {
    /// Every bucket, in the order of the variants.
    pub const ALL: [Self; 10] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRoles,
        Self::AuthUsers,
        Self::Cluster,
        Self::Key,
        Self::Lease,
        Self::Members,
        Self::MembersRemoved,
        Self::Meta,
    ];

    /// The name etcd gives this bucket in its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRoles => "authRoles",
            Self::AuthUsers => "authUsers",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Lease => "lease",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }
}

/// The row of bucket `meta` in which every batch stores a summary of the table after it: see [`crate::store::Seal`].
pub const SEAL_ROW: &[u8] = b"\0quoin/seal";

/// Whether a row is Quoin's own. Such rows are in bucket `meta`, and their names begin with a zero byte, as none of
/// etcd's does. They belong to one table: they are not sent, exported, hashed or compared.
#[must_use]
pub fn is_own(bucket: Bucket, key: &[u8]) -> bool {
    bucket == Bucket::Meta && key.first() == Some(&0)
}

/// The rows of a bucket: how many there are, and the sum of their digests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RowSum {
    /// The number of rows.
    pub rows: u64,
    /// The sum of their digests, modulo 2^64.
    pub digest: u64,
}

impl RowSum {
    /// Adds a row.
    pub fn add(&mut self, digest: u64) {
        self.rows = self.rows.wrapping_add(1);
        self.digest = self.digest.wrapping_add(digest);
    }

    /// Removes a row.
    pub fn remove(&mut self, digest: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(digest);
    }
}

/// The digest of a row of a bucket. `row` is the row's key, `key_len` bytes, followed by its value.
#[must_use]
pub fn digest(bucket: Bucket, key_len: usize, row: &[u8]) -> u64 {
    xxh3_64_with_seed(row, (key_len as u64) << 8 | bucket as u64)
}

/// One change of one row; the ops of a batch are made durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOp {
    /// The row's bucket.
    pub bucket: Bucket,
    /// The row's key, never empty.
    pub key: Bytes,
    /// The row's new value; `None` deletes the row.
    pub value: Option<Bytes>,
}

impl TableOp {
    /// Writes a row.
    pub fn put(bucket: Bucket, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            bucket,
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// Deletes a row.
    pub fn delete(bucket: Bucket, key: impl Into<Bytes>) -> Self {
        Self {
            bucket,
            key: key.into(),
            value: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn bucket_names_are_distinct_and_all_is_complete() {
        let mut names: Vec<_> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 10);
        assert!(Bucket::ALL.is_sorted());
    }
}
