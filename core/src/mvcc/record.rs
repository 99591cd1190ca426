//! One revision of one key, kept as the table's row: the row's key followed by the row's value, in one block of memory.
//! There is one for each revision, so nothing is stored that can be decoded from the row.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::proto::mvccpb::KeyValue;
use crate::table::{Bucket, digest};

use super::Revision;
use super::tree::Live;

/// A record of up to this many bytes is built on the stack.
const SHORT_BYTES: usize = 512;

/// A put or a tombstone; a clone shares the block.
#[derive(Clone, Debug)]
pub(super) struct Record(Arc<[u8]>);

impl Record {
    /// The record of a put; `kv.mod_revision` is `revision.main`.
    pub(super) fn put(revision: Revision, kv: &KeyValue) -> Self {
        Self::of(revision, false, kv)
    }

    /// The record of a deletion: of the pair it has only the key.
    pub(super) fn tombstone(revision: Revision, key: Bytes) -> Self {
        let kv = KeyValue {
            key,
            ..KeyValue::default()
        };
        Self::of(revision, true, &kv)
    }

    fn of(revision: Revision, tombstone: bool, kv: &KeyValue) -> Self {
        let row_key = revision.row_key(tombstone);
        let row_key = row_key.as_slice();
        let length = row_key.len() + kv.encoded_len();
        if let Some(block) = [0; SHORT_BYTES].get_mut(..length) {
            // The only allocation is that of the finished block.
            block[..row_key.len()].copy_from_slice(row_key);
            let mut row = &mut block[row_key.len()..];
            kv.encode(&mut row).expect("the row has its length");
            return Self(Arc::from(&*block));
        }
        let mut block = Vec::with_capacity(length);
        block.extend_from_slice(row_key);
        kv.encode(&mut block).expect("a Vec grows as needed");
        Self(block.into())
    }

    /// Reads a row of the table. The error is a text that continues "the value ..".
    pub(super) fn from_row(revision: Revision, tombstone: bool, row: &[u8]) -> Result<Self, String> {
        let kv = KeyValue::decode(row).map_err(|error| format!("is no key-value pair: {error}"))?;
        // `etcdutl snapshot restore --bump-revision` adds an empty row; every other one has a key and its revision.
        if !tombstone && !kv.key.is_empty() && kv.mod_revision != revision.main {
            return Err(format!("has modification revision {}", kv.mod_revision));
        }
        if PairRef::read(row) != PairRef::of(&kv) {
            return Err("does not hold its fields in order".to_owned());
        }
        Ok(Self([revision.row_key(tombstone).as_slice(), row].concat().into()))
    }

    pub(super) fn revision(&self) -> Revision {
        self.row_key_parts().0
    }

    pub(super) fn is_tombstone(&self) -> bool {
        self.row_key_parts().1
    }

    fn row_key_parts(&self) -> (Revision, bool) {
        Revision::split_row_key(&self.0)
    }

    fn row_at(&self) -> usize {
        Revision::row_key_len(self.is_tombstone())
    }

    /// The value of the table's row.
    pub(super) fn row(&self) -> &[u8] {
        &self.0[self.row_at()..]
    }

    /// The row, or its parts before and after the value.
    pub(super) fn row_parts(&self, without_value: bool) -> (&[u8], &[u8]) {
        let row = self.row();
        if !without_value {
            return (row, &[]);
        }
        let mut reader = Reader(row);
        reader.bytes(KEY);
        for number in [CREATE_REVISION, MOD_REVISION, VERSION] {
            reader.number(number);
        }
        let before = row.len() - reader.0.len();
        reader.bytes(VALUE);
        (&row[..before], reader.0)
    }

    /// Key and value of the table's row, one after the other.
    pub(super) fn block(&self) -> &[u8] {
        &self.0
    }

    /// Key and value of the table's row, sharing the record's memory.
    pub(super) fn to_row(&self) -> (Bytes, Bytes) {
        self.row_in(self.shared())
    }

    /// The same, in a block of [`Self::shared`].
    pub(super) fn row_in(&self, mut block: Bytes) -> (Bytes, Bytes) {
        let row = block.split_off(self.row_at());
        (block, row)
    }

    /// The digest of the table's row.
    pub(super) fn digest(&self) -> u64 {
        digest(Bucket::Key, self.row_at(), &self.0)
    }

    /// Bytes of the table's row, including its key.
    pub(super) fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn key(&self) -> &[u8] {
        Reader(self.row()).bytes(KEY)
    }

    pub(super) fn value(&self) -> &[u8] {
        self.pair_ref().value
    }

    pub(super) fn create_revision(&self) -> i64 {
        self.pair_ref().create_revision
    }

    pub(super) fn version(&self) -> i64 {
        self.pair_ref().version
    }

    pub(super) fn lease(&self) -> i64 {
        self.pair_ref().lease
    }

    /// The pair as clients see it; for a tombstone it has key and modification revision.
    pub(super) fn key_value(&self) -> KeyValue {
        self.key_value_in(&self.shared())
    }

    /// The same, in a block of [`Self::shared`].
    pub(super) fn key_value_in(&self, block: &Bytes) -> KeyValue {
        self.pair_in(block, true)
    }

    /// The pair without its value.
    pub(super) fn key_only(&self) -> KeyValue {
        self.pair_in(&self.shared(), false)
    }

    /// By how much this change alters the number of keys.
    pub(super) fn live_change(&self) -> i64 {
        match (self.is_tombstone(), self.version()) {
            (true, _) => -1,
            (false, 1) => 1,
            (false, _) => 0,
        }
    }

    /// The pair, borrowed from the row.
    pub(super) fn pair_ref(&self) -> PairRef<'_> {
        PairRef::read(self.row())
    }

    fn pair_in(&self, block: &Bytes, with_value: bool) -> KeyValue {
        let fields = self.pair_ref();
        KeyValue {
            key: block.slice_ref(fields.key),
            create_revision: fields.create_revision,
            mod_revision: self.revision().main,
            version: fields.version,
            value: if with_value {
                block.slice_ref(fields.value)
            } else {
                Bytes::new()
            },
            lease: fields.lease,
        }
    }

    /// The whole block, sharing the record's memory. It costs an allocation; a clone of it costs none.
    pub(super) fn shared(&self) -> Bytes {
        Bytes::from_owner(Arc::clone(&self.0))
    }
}

impl Live for Record {
    fn is_live(&self) -> bool {
        !self.is_tombstone()
    }
}

/// The tags of the fields of an encoded `mvccpb.KeyValue`.
const KEY: u8 = 1 << 3 | 2;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = 5 << 3 | 2;
const LEASE: u8 = 6 << 3;

/// A pair borrowed from a row: the fields of an encoded `mvccpb.KeyValue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: i64,
    /// The number of writes since the key was created; the creation is number 1.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease it is attached to; 0 is none.
    pub lease: i64,
}

impl<'a> PairRef<'a> {
    fn of(kv: &'a KeyValue) -> Self {
        Self {
            key: &kv.key,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: &kv.value,
            lease: kv.lease,
        }
    }

    /// Reads a row whose fields are in order, each at most once, as in every record.
    fn read(row: &'a [u8]) -> Self {
        let mut reader = Reader(row);
        Self {
            key: reader.bytes(KEY),
            create_revision: reader.number(CREATE_REVISION),
            mod_revision: reader.number(MOD_REVISION),
            version: reader.number(VERSION),
            value: reader.bytes(VALUE),
            lease: reader.number(LEASE),
        }
    }
}

/// Reads field by field; a field that does not come next is absent.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_next(&mut self, field: u8) -> bool {
        let Some(rest) = self.0.strip_prefix(&[field]) else {
            return false;
        };
        self.0 = rest;
        true
    }

    fn number(&mut self, field: u8) -> i64 {
        if self.is_next(field) {
            self.varint().cast_signed()
        } else {
            0
        }
    }

    fn bytes(&mut self, field: u8) -> &'a [u8] {
        if !self.is_next(field) {
            return &[];
        }
        let len = usize::try_from(self.varint()).unwrap_or(usize::MAX);
        let (bytes, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = rest;
        bytes
    }

    fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.0.split_first() else {
                break;
            };
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        value
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
    fn a_record_stores_its_row_and_nothing_else() {
        let record = Record::tombstone(Revision::new(9, 1), Bytes::from_static(b"gone"));
        let (row_key, row) = record.to_row();
        assert_eq!(row_key, Revision::new(9, 1).to_row_key(true));
        assert_eq!(row, record.row());
        assert_eq!(record.size_bytes(), (row_key.len() + row.len()) as u64);
    }

    #[test]
    fn a_put_reads_back_from_its_row() {
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
        assert_eq!(record.row(), b"\x0a\x04gone");
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
