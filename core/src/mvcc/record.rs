//! One revision of one key, kept as the row of the table it is, and read from there.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use prost::encoding::decode_varint;

use crate::proto::mvccpb::KeyValue;

use super::tree::Live;
use super::{Revision, cell};

/// A put or a tombstone.
#[derive(Debug)]
pub(super) struct Record {
    /// The encoded `mvccpb.KeyValue`; a tombstone's has only the key.
    row: Bytes,
    revision: Revision,
    tombstone: bool,
}

impl Record {
    /// The record of a put; `kv.mod_revision` is `revision.main`.
    pub(super) fn put(revision: Revision, kv: &KeyValue) -> Self {
        Self {
            row: encoded(kv),
            revision,
            tombstone: false,
        }
    }

    /// The record of a deletion.
    pub(super) fn tombstone(revision: Revision, key: Bytes) -> Self {
        let row = encoded(&KeyValue {
            key,
            ..KeyValue::default()
        });
        Self {
            row,
            revision,
            tombstone: true,
        }
    }

    /// Takes a row of the table; what is wrong with it comes back as text.
    pub(super) fn from_row(revision: Revision, tombstone: bool, row: &[u8]) -> Result<Self, String> {
        let pair = Pair::read(row).ok_or("is no key-value pair")?;
        // `etcdutl snapshot restore --bump-revision` adds an empty row; every other one has a key and its revision.
        if !tombstone && !pair.key.is_empty() && pair.mod_revision != revision.main {
            return Err(format!("has modification revision {}", pair.mod_revision));
        }
        // A copy, so that the row keeps no block of the table's cache alive.
        let row = cell::filled(row.len(), |room| room.copy_from_slice(row));
        Ok(Self {
            row,
            revision,
            tombstone,
        })
    }

    /// What the row says.
    pub(super) fn pair(&self) -> Pair<'_> {
        Pair::read(&self.row).expect("a row was written by us, or read when the record was made of it")
    }

    pub(super) fn key(&self) -> &[u8] {
        self.pair().key
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

    /// The pair as clients see it; a tombstone's has key and modification revision.
    pub(super) fn key_value(&self) -> KeyValue {
        let pair = self.pair();
        KeyValue {
            value: self.slice(pair.value),
            ..self.without_value(&pair)
        }
    }

    /// The pair without its value.
    pub(super) fn key_only(&self) -> KeyValue {
        self.without_value(&self.pair())
    }

    fn without_value(&self, pair: &Pair<'_>) -> KeyValue {
        KeyValue {
            key: self.slice(pair.key),
            create_revision: pair.create_revision,
            mod_revision: self.revision.main,
            version: pair.version,
            value: Bytes::new(),
            lease: pair.lease,
        }
    }

    fn slice(&self, part: &[u8]) -> Bytes {
        self.row.slice_ref(part)
    }

    /// How many more keys there are after this change than before it.
    pub(super) fn live_change(&self) -> i64 {
        match (self.tombstone, self.pair().version) {
            (true, _) => -1,
            (false, 1) => 1,
            (false, _) => 0,
        }
    }
}

impl Live for Arc<Record> {
    fn is_live(&self) -> bool {
        !self.tombstone
    }
}

fn encoded(kv: &KeyValue) -> Bytes {
    cell::filled(kv.encoded_len(), |mut room| {
        kv.encode(&mut room).expect("there is room for what was measured");
    })
}

/// A key-value pair read where it lies.
///
/// Rows outnumber everything else in memory, so nothing of them is kept beside them; reading one takes nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) value: &'a [u8],
    pub(super) lease: i64,
}

impl<'a> Pair<'a> {
    /// Reads an encoded `mvccpb.KeyValue`; `None` when it is none, or has fields nobody knows.
    fn read(mut row: &'a [u8]) -> Option<Self> {
        let mut pair = Self::default();
        while let Some((tag, rest)) = row.split_first() {
            row = rest;
            let number = decode_varint(&mut row).ok()?;
            match tag {
                0x0a => pair.key = take(&mut row, number)?,
                0x10 => pair.create_revision = number.cast_signed(),
                0x18 => pair.mod_revision = number.cast_signed(),
                0x20 => pair.version = number.cast_signed(),
                0x2a => pair.value = take(&mut row, number)?,
                0x30 => pair.lease = number.cast_signed(),
                _ => return None,
            }
        }
        Some(pair)
    }
}

/// Cuts off the first `len` bytes.
fn take<'a>(row: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (part, rest) = row.split_at_checked(usize::try_from(len).ok()?)?;
    *row = rest;
    Some(part)
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
            assert_eq!(
                read.key_only(),
                KeyValue {
                    value: Bytes::new(),
                    ..kv
                }
            );
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
        let table = [
            (300, row[..row.len() - 1].to_vec(), "is no key-value pair"),
            (300, [&row[..], b"\x3a\x01x"].concat(), "is no key-value pair"),
            (301, row, "has modification revision 300"),
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
