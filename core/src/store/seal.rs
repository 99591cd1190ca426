//! The seal: a row that only Quoin has. Every batch writes it; it describes the content of the table after that batch.
//!
//! A table engine that lost a part of what was written may still open and read without an error. A start therefore
//! compares the rows that it reads with the seal: consistent index, term and revision, and for each bucket the number
//! of its rows and the sum of their digests. A sum does not depend on the order of the rows, so a change of a row costs
//! at most two digests.
//!
//! The seal is a row of bucket `meta`, with a name that no row of etcd has ([`crate::table::SEAL_ROW`]). It is not part
//! of a [`View`], so no hash, snapshot or backup contains it.
//!
//! ```text
//! form        1 byte    1
//! index       8 bytes   the consistent index, little endian, as all numbers
//! term        8 bytes   the term of the entry there
//! revision    8 bytes   of the key space
//! bucket      1 byte    number of the bucket in `Bucket::ALL`, from 1; buckets without rows are left out
//!             8 bytes   how many rows it has
//!             8 bytes   the sum of their digests, modulo 2^64
//! ...
//! check       8 bytes   digest of everything before
//! ```

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Buf, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use crate::table::{Bucket, RowSum, SEAL_ROW, TableOp, digest, is_own};

use super::{Store, View};

/// The number of the row's format that this version writes and reads.
const FORM: u8 = 1;
/// Form, index, term, revision.
const HEAD_BYTES: usize = 25;
/// Bucket, rows, digest.
const BUCKET_BYTES: usize = 17;
const CHECK_BYTES: usize = 8;

fn digest_of(bucket: Bucket, key: &[u8], value: &[u8]) -> u64 {
    digest(bucket, key.len(), &[key, value].concat())
}

/// The sums of all buckets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sums([RowSum; Bucket::ALL.len()]);

impl Sums {
    fn of_rows(rows: impl Iterator<Item = (Bucket, Bytes, Bytes)>) -> Self {
        let mut sums = Self::default();
        for (bucket, key, value) in rows {
            sums.0[bucket as usize].add(digest_of(bucket, &key, &value));
        }
        sums
    }
}

/// The content of the table after a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seal {
    /// The consistent index.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// The revision of the key space.
    pub revision: i64,
    /// The rows, except the seal itself.
    pub sums: Sums,
}

impl Seal {
    /// The seal of a table that holds exactly the rows of a view.
    #[must_use]
    pub fn of(view: &View) -> Self {
        Self {
            index: view.applied_index,
            term: view.term,
            revision: view.kv.revision(),
            sums: Sums::of_rows(view.all_rows()),
        }
    }

    /// The row.
    #[must_use]
    pub fn to_row(&self) -> (Bytes, Bytes) {
        let mut row = Vec::with_capacity(HEAD_BYTES + Bucket::ALL.len() * BUCKET_BYTES + CHECK_BYTES);
        row.push(FORM);
        row.extend_from_slice(&self.index.to_le_bytes());
        row.extend_from_slice(&self.term.to_le_bytes());
        row.extend_from_slice(&self.revision.to_le_bytes());
        for (bucket, sum) in Bucket::ALL.into_iter().zip(self.sums.0) {
            if sum != RowSum::default() {
                row.push(bucket as u8 + 1);
                row.extend_from_slice(&sum.rows.to_le_bytes());
                row.extend_from_slice(&sum.digest.to_le_bytes());
            }
        }
        let check = xxh3_64(&row);
        row.extend_from_slice(&check.to_le_bytes());
        (Bytes::from_static(SEAL_ROW), row.into())
    }

    /// Reads the row's value; `None` if it is damaged or of another format.
    pub(super) fn from_row(row: &[u8]) -> Option<Self> {
        let (mut rest, check) = row.split_last_chunk::<CHECK_BYTES>()?;
        if rest.first() != Some(&FORM) || xxh3_64(rest) != u64::from_le_bytes(*check) {
            return None;
        }
        rest.advance(1);
        let mut seal = Self {
            index: rest.try_get_u64_le().ok()?,
            term: rest.try_get_u64_le().ok()?,
            revision: rest.try_get_i64_le().ok()?,
            sums: Sums::default(),
        };
        while let Ok(number) = rest.try_get_u8() {
            let place = usize::from(number).checked_sub(1)?;
            *seal.sums.0.get_mut(place)? = RowSum {
                rows: rest.try_get_u64_le().ok()?,
                digest: rest.try_get_u64_le().ok()?,
            };
        }
        Some(seal)
    }

    /// The first difference between this seal and the rows that were `found`, as text; `None` if they agree.
    #[must_use]
    pub fn contradiction(&self, found: &Self) -> Option<String> {
        let number = |what: &str, sealed: &dyn fmt::Display, found: &dyn fmt::Display| {
            Some(format!("{what} is {sealed} in the seal, but {found} in the rows"))
        };
        if self.index != found.index {
            return number("the consistent index", &self.index, &found.index);
        }
        if self.term != found.term {
            return number("the term", &self.term, &found.term);
        }
        for (bucket, (sealed, read)) in Bucket::ALL.into_iter().zip(self.sums.0.into_iter().zip(found.sums.0)) {
            if sealed.rows != read.rows {
                return Some(format!(
                    "bucket {} has {} rows in the seal, but {} were read",
                    bucket.name(),
                    sealed.rows,
                    read.rows
                ));
            }
            if sealed.digest != read.digest {
                return Some(format!(
                    "bucket {} has as many rows as in the seal ({}), but different ones",
                    bucket.name(),
                    sealed.rows
                ));
            }
        }
        if self.revision != found.revision {
            return number("the revision", &self.revision, &found.revision);
        }
        None
    }
}

/// The sums of the table after the next batch, except bucket `key`: the key space counts its own rows.
#[derive(Default)]
pub(super) struct Account {
    sums: Sums,
    /// Digests of the leases' rows, to be subtracted when these change.
    leases: BTreeMap<i64, u64>,
    /// Digests of all other rows; there are few.
    rows: BTreeMap<(Bucket, Bytes), u64>,
}

impl Account {
    /// Counts one change of a row.
    pub(super) fn note(&mut self, op: &TableOp) {
        self.set(op.bucket, &op.key, op.value.as_deref());
    }

    /// Counts a row read from the table.
    pub(super) fn read(&mut self, bucket: Bucket, key: &Bytes, value: &[u8]) {
        self.set(bucket, key, Some(value));
    }

    fn set(&mut self, bucket: Bucket, key: &Bytes, value: Option<&[u8]>) {
        if bucket == Bucket::Key || is_own(bucket, key) {
            return;
        }
        let new = value.map(|value| digest_of(bucket, key, value));
        let lease = <[u8; 8]>::try_from(&key[..]).ok().filter(|_| bucket == Bucket::Lease);
        let old = match (lease.map(i64::from_be_bytes), new) {
            (Some(id), Some(new)) => self.leases.insert(id, new),
            (Some(id), None) => self.leases.remove(&id),
            (None, Some(new)) => self.rows.insert((bucket, key.clone()), new),
            (None, None) => self.rows.remove(&(bucket, key.clone())),
        };
        let sum = &mut self.sums.0[bucket as usize];
        if let Some(old) = old {
            sum.remove(old);
        }
        if let Some(new) = new {
            sum.add(new);
        }
    }
}

impl Store {
    /// The seal of a table that holds everything applied so far.
    #[must_use]
    pub fn seal(&self) -> Seal {
        let mut sums = self.account.sums;
        sums.0[Bucket::Key as usize] = self.kv.rows_sum();
        Seal {
            index: self.consistent_index,
            term: self.term,
            revision: self.kv.revision(),
            sums,
        }
    }

    /// Recounts the rows from this store's view, for a table that holds exactly these.
    pub(crate) fn recount(&mut self) {
        let mut account = Account::default();
        for (bucket, key, value) in self.view().all_rows() {
            account.read(bucket, &key, &value);
        }
        self.account = account;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        let mut sums = Sums::default();
        sums.0[Bucket::Key as usize].add(7);
        sums.0[Bucket::Meta as usize].add(u64::MAX);
        Seal {
            index: 9,
            term: 2,
            revision: 5,
            sums,
        }
    }

    #[test]
    fn a_seal_reads_back_and_every_flipped_bit_and_cut_of_it_is_seen() {
        let (_, row) = seal().to_row();
        assert_eq!(Seal::from_row(&row), Some(seal()));
        for bit in 0..row.len() * 8 {
            let mut damaged = row.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Seal::from_row(&damaged), None, "bit {bit}");
        }
        for length in 0..row.len() {
            assert_eq!(Seal::from_row(&row[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn an_account_equals_the_sums_of_the_rows_that_remain() {
        let lease = |id: i64| Bytes::copy_from_slice(&id.to_be_bytes());
        let put = |bucket, key: &Bytes, value: &'static str| TableOp::put(bucket, key.clone(), value);
        let (one, two, name) = (lease(1), lease(-2), Bytes::from_static(b"term"));
        let mut account = Account::default();
        for op in [
            put(Bucket::Lease, &one, "a"),
            put(Bucket::Lease, &two, "b"),
            put(Bucket::Meta, &name, "1"),
            put(Bucket::Lease, &one, "c"),
            TableOp::delete(Bucket::Lease, two.clone()),
            TableOp::delete(Bucket::Lease, two),
            put(Bucket::Meta, &name, "2"),
            put(Bucket::Meta, &Bytes::from_static(SEAL_ROW), "itself"),
        ] {
            account.note(&op);
        }
        let rows = [(Bucket::Meta, name, "2".into()), (Bucket::Lease, one, "c".into())];
        assert_eq!(account.sums, Sums::of_rows(rows.into_iter()));
    }

    #[test]
    fn a_row_is_its_bucket_its_key_and_its_value() {
        let digests = [
            digest_of(Bucket::Key, b"ab", b"c"),
            digest_of(Bucket::Key, b"a", b"bc"),
            digest_of(Bucket::Lease, b"ab", b"c"),
            digest_of(Bucket::Key, b"ab", b"d"),
        ];
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn a_contradiction_names_the_difference() {
        type Change = fn(&mut Seal);
        let cases: [(Change, &str); 5] = [
            (|_| {}, ""),
            (|found| found.index = 8, "the consistent index is 9"),
            (
                |found| found.sums.0[Bucket::Key as usize] = RowSum::default(),
                "bucket key has 1 rows in the seal, but 0 were read",
            ),
            (
                |found| found.sums.0[Bucket::Meta as usize].digest = 1,
                "bucket meta has as many rows as in the seal (1), but different ones",
            ),
            (|found| found.revision = 4, "the revision is 5"),
        ];
        for (change, expected) in cases {
            let mut found = seal();
            change(&mut found);
            let said = seal().contradiction(&found).unwrap_or_default();
            assert!(
                said.contains(expected) && said.is_empty() == expected.is_empty(),
                "{said}"
            );
        }
    }
}
