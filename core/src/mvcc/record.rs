//! One revision of one key, kept as the row of the table it is: key and value are slices of the row.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use prost::encoding::encoded_len_varint;

use crate::proto::mvccpb::KeyValue;

use super::Revision;
use super::tree::Live;

/// A put or a tombstone.
#[derive(Debug)]
pub(super) struct Record {
    /// The encoded `mvccpb.KeyValue`; a tombstone's has only the key.
    row: Bytes,
    revision: Revision,
    create_revision: i64,
    version: i64,
    lease: i64,
    key_len: u32,
    value_at: u32,
    value_len: u32,
    key_at: u8,
    tombstone: bool,
}

impl Record {
    /// The record of a put; `kv.mod_revision` is `revision.main`.
    pub(super) fn put(revision: Revision, kv: &KeyValue) -> Self {
        Self::of(revision, false, kv, Bytes::from(kv.encode_to_vec()))
    }

    /// The record of a deletion.
    pub(super) fn tombstone(revision: Revision, key: Bytes) -> Self {
        let kv = KeyValue {
            key,
            ..KeyValue::default()
        };
        let row = Bytes::from(kv.encode_to_vec());
        Self::of(revision, true, &kv, row)
    }

    /// Reads a row of the table; what is wrong with it comes back as text.
    pub(super) fn from_row(revision: Revision, tombstone: bool, row: &[u8]) -> Result<Self, String> {
        if u32::try_from(row.len()).is_err() {
            return Err(format!("is {} bytes long", row.len()));
        }
        // A copy, so that the row keeps no block of the table's cache alive.
        let row = Bytes::copy_from_slice(row);
        let kv = KeyValue::decode(row.clone()).map_err(|error| format!("is no key-value pair: {error}"))?;
        // `etcdutl snapshot restore --bump-revision` adds an empty row; every other one has a key and its revision.
        if !tombstone && !kv.key.is_empty() && kv.mod_revision != revision.main {
            return Err(format!("has modification revision {}", kv.mod_revision));
        }
        let record = Self::of(revision, tombstone, &kv, row);
        let as_written = record.row.get(record.key_range()) == Some(&kv.key[..])
            && record.row.get(record.value_range()) == Some(&kv.value[..]);
        as_written
            .then_some(record)
            .ok_or_else(|| "does not hold its fields in order".to_owned())
    }

    /// Finds key and value in a row whose fields are in order, each at most once.
    fn of(revision: Revision, tombstone: bool, kv: &KeyValue, row: Bytes) -> Self {
        let head_len = |len: usize| {
            if len == 0 {
                0
            } else {
                1 + encoded_len_varint(len as u64)
            }
        };
        let number_len = |number: i64| {
            if number == 0 {
                0
            } else {
                1 + encoded_len_varint(number.cast_unsigned())
            }
        };
        let key_at = head_len(kv.key.len());
        let numbers: usize = [kv.create_revision, kv.mod_revision, kv.version]
            .map(number_len)
            .iter()
            .sum();
        let value_at = key_at + kv.key.len() + numbers + head_len(kv.value.len());
        let short = |len: usize| {
            u32::try_from(len).expect("no row is as long as 4 GiB: requests and restored rows are bounded")
        };
        Self {
            row,
            revision,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            key_len: short(kv.key.len()),
            value_at: short(value_at),
            value_len: short(kv.value.len()),
            key_at: key_at as u8,
            tombstone,
        }
    }

    fn key_range(&self) -> Range<usize> {
        let at = usize::from(self.key_at);
        at..at + self.key_len as usize
    }

    fn value_range(&self) -> Range<usize> {
        let at = self.value_at as usize;
        at..at + self.value_len as usize
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.row[self.key_range()]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.row[self.value_range()]
    }

    /// The value of the table's row.
    pub(super) const fn row(&self) -> &Bytes {
        &self.row
    }

    /// The key of the table's row.
    pub(super) fn row_key(&self) -> Bytes {
        self.revision.to_row_key(self.tombstone)
    }

    /// Bytes of the table's row.
    pub(super) fn size_bytes(&self) -> u64 {
        (Revision::row_key_len(self.tombstone) + self.row.len()) as u64
    }

    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) const fn is_tombstone(&self) -> bool {
        self.tombstone
    }

    pub(super) const fn create_revision(&self) -> i64 {
        self.create_revision
    }

    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    pub(super) const fn lease(&self) -> i64 {
        self.lease
    }

    /// The pair as clients see it; a tombstone's has key and modification revision.
    pub(super) fn key_value(&self) -> KeyValue {
        KeyValue {
            value: self.row.slice(self.value_range()),
            ..self.key_only()
        }
    }

    /// The pair without its value.
    pub(super) fn key_only(&self) -> KeyValue {
        KeyValue {
            key: self.row.slice(self.key_range()),
            create_revision: self.create_revision,
            mod_revision: self.revision.main,
            version: self.version,
            value: Bytes::new(),
            lease: self.lease,
        }
    }

    /// How many more keys there are after this change than before it.
    pub(super) const fn live_change(&self) -> i64 {
        match (self.tombstone, self.version) {
            (true, _) => -1,
            (false, 1) => 1,
            (false, _) => 0,
        }
    }
}

impl Live for std::sync::Arc<Record> {
    fn is_live(&self) -> bool {
        !self.tombstone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static [u8], value: &'static [u8], lease: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(key),
            create_revision: 3,
            mod_revision: 300,
            version: 2,
            value: Bytes::from_static(value),
            lease,
        }
    }

    #[test]
    fn a_record_is_small() {
        assert!(
            size_of::<Record>() <= 88,
            "with the counts of its Arc it fills a 112-byte cell"
        );
    }

    #[test]
    fn a_put_is_what_was_put_and_reads_back_from_its_row() {
        let long: &'static [u8] = &[7; 300];
        for kv in [
            pair(b"a", b"b", 0),
            pair(b"a", b"", 5),
            pair(long, long, -1),
            pair(b"k", long, i64::MAX),
        ] {
            let revision = Revision::new(300, 4);
            let record = Record::put(revision, &kv);
            assert_eq!(record.key_value(), kv);
            let read = Record::from_row(revision, false, record.row()).unwrap();
            assert_eq!(read.key_value(), kv);
            assert_eq!((read.key(), read.value()), (&kv.key[..], &kv.value[..]));
        }
    }

    #[test]
    fn a_tombstone_has_key_and_revision_only() {
        let record = Record::tombstone(Revision::new(9, 1), Bytes::from_static(b"gone"));
        assert_eq!(&record.row()[..], b"\x0a\x04gone");
        let expected = KeyValue {
            key: Bytes::from_static(b"gone"),
            mod_revision: 9,
            ..KeyValue::default()
        };
        assert_eq!(record.key_value(), expected);
    }

    #[test]
    fn damaged_rows_are_refused_with_a_reason() {
        let kv = pair(b"key", b"value", 0);
        let row = kv.encode_to_vec();
        let swapped = [&row[row.len() - 7..], &row[..row.len() - 7]].concat();
        let table = [
            (300, row[..row.len() - 1].to_vec(), "is no key-value pair"),
            (301, row, "has modification revision 300"),
            (300, swapped, "does not hold its fields in order"),
        ];
        for (main, row, reason) in table {
            let refused = Record::from_row(Revision::first_of(main), false, &row).unwrap_err();
            assert!(refused.starts_with(reason), "{refused}");
        }
    }

    #[test]
    fn the_empty_row_of_a_bumped_snapshot_is_accepted() {
        let record = Record::from_row(Revision::first_of(1_000), false, b"").unwrap();
        assert_eq!((record.key(), record.revision().main), (&b""[..], 1_000));
    }
}
