//! One frame: the length word, the record's own fields, and the padding. Files and the order of records are not handled
//! here.

use bytes::Bytes;

/// Bytes of the length word; frames begin at multiples of it.
pub(super) const WORD_BYTES: u64 = 8;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// The largest number of bytes that a record's fields take before its data: type, checksum, and the data's length.
pub(super) const MAX_HEADER_BYTES: u64 = 2 + 6 + 11;

/// The kinds of records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The identity of the log's member.
    Metadata = 1,
    /// An entry.
    Entry = 2,
    /// A hard state.
    State = 3,
    /// The checksum so far; in this writer's logs it opens a batch.
    Checksum = 4,
    /// A snapshot marker.
    Snapshot = 5,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Metadata,
            2 => Self::Entry,
            3 => Self::State,
            4 => Self::Checksum,
            5 => Self::Snapshot,
            _ => return None,
        })
    }
}

/// The contents of a length word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    /// Bytes of the record.
    pub(super) record: u64,
    /// Bytes of zeros after it.
    pub(super) padding: u64,
}

impl Extent {
    /// The extent of a record of `record` bytes.
    pub(super) const fn of(record: u64) -> Self {
        Self {
            record,
            padding: record.wrapping_neg() % WORD_BYTES,
        }
    }

    /// Bytes of the whole frame.
    pub(super) const fn frame(self) -> u64 {
        WORD_BYTES + self.record + self.padding
    }

    /// The length word: the record's length, and in the top byte a flag with the padding, if there is any.
    pub(super) const fn word(self) -> u64 {
        if self.padding == 0 {
            self.record
        } else {
            self.record | (0x80 | self.padding) << 56
        }
    }

    /// Reads a length word; `None` if no writer writes it.
    pub(super) fn parse(word: u64) -> Option<Self> {
        let extent = Self::of(word & ((1 << 56) - 1));
        (extent.word() == word && extent.record > 0).then_some(extent)
    }
}

/// A record's fields, without its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) checksum: u32,
    /// Where the data begin in the record; they extend to its end.
    pub(super) data_start: usize,
}

/// Why a record's fields could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderError {
    /// The bytes are right so far, but end too soon.
    Incomplete,
    /// They are not the fields of a record of that length.
    Wrong,
}

impl Header {
    /// Reads the fields of a record of `record_bytes` bytes from the first of them.
    pub(super) fn parse(bytes: &[u8], record_bytes: u64) -> Result<Self, HeaderError> {
        let mut fields = Fields {
            bytes,
            at: 0,
            record_bytes,
        };
        fields.expect(0x08)?;
        let kind = u8::try_from(fields.varint()?)
            .ok()
            .and_then(Kind::from_number)
            .ok_or(HeaderError::Wrong)?;
        let mut checksum = 0;
        let mut data_bytes = 0;
        let mut tag = fields.next_or_end()?;
        if tag == Some(0x10) {
            checksum = u32::try_from(fields.varint()?).map_err(|_| HeaderError::Wrong)?;
            tag = fields.next_or_end()?;
        }
        match tag {
            None => {}
            Some(0x1a) => data_bytes = fields.varint()?,
            Some(_) => return Err(HeaderError::Wrong),
        }
        if (fields.at as u64).checked_add(data_bytes) != Some(record_bytes) {
            return Err(HeaderError::Wrong);
        }
        Ok(Self {
            kind,
            checksum,
            data_start: fields.at,
        })
    }
}

/// Reads a record's fields one by one.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    record_bytes: u64,
}

impl Fields<'_> {
    fn next_or_end(&mut self) -> Result<Option<u8>, HeaderError> {
        if self.at as u64 == self.record_bytes {
            return Ok(None);
        }
        let byte = *self.bytes.get(self.at).ok_or(HeaderError::Incomplete)?;
        self.at += 1;
        Ok(Some(byte))
    }

    fn expect(&mut self, tag: u8) -> Result<(), HeaderError> {
        if self.next_or_end()? == Some(tag) {
            Ok(())
        } else {
            Err(HeaderError::Wrong)
        }
    }

    fn varint(&mut self) -> Result<u64, HeaderError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.next_or_end()?.ok_or(HeaderError::Wrong)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(HeaderError::Wrong)
    }
}

/// Appends frames to a buffer and keeps the checksum.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    checksum: u32,
}

impl Encoder {
    /// Continues after records with this checksum; 0 begins a log.
    pub(super) const fn new(checksum: u32) -> Self {
        Self { checksum }
    }

    /// Appends one record.
    pub(super) fn record(&mut self, kind: Kind, data: &[u8], out: &mut Vec<u8>) {
        self.checksum = crc32c::crc32c_append(self.checksum, data);
        frame(kind, self.checksum, Some(data), out);
    }

    /// Appends a checksum record. As in etcd, its data are not part of the checksum.
    pub(super) fn checksum_record(&self, data: Option<&[u8]>, out: &mut Vec<u8>) {
        frame(Kind::Checksum, self.checksum, data, out);
    }
}

/// Appends one frame.
fn frame(kind: Kind, checksum: u32, data: Option<&[u8]>, out: &mut Vec<u8>) {
    let data_bytes = data.map_or(0, |data| 1 + varint_bytes(data.len() as u64) + data.len() as u64);
    let extent = Extent::of(2 + 1 + varint_bytes(u64::from(checksum)) + data_bytes);
    out.extend_from_slice(&extent.word().to_le_bytes());
    out.extend_from_slice(&[0x08, kind as u8, 0x10]);
    put_varint(u64::from(checksum), out);
    if let Some(data) = data {
        out.push(0x1a);
        put_varint(data.len() as u64, out);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(&[0; WORD_BYTES as usize][..extent.padding as usize]);
}

const fn varint_bytes(value: u64) -> u64 {
    let bits = 64 - (value | 1).leading_zeros() as u64;
    bits.div_ceil(7)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of the data of a checksum record that opens a batch: the batch's length, little-endian.
pub(super) const BATCH_LENGTH_BYTES: usize = 4;

/// Bytes at the start of a segment that show whether etcd began it.
pub const HEAD_BYTES: usize = 64;

/// Whether etcd began the segment whose first bytes are `head`. Both begin with a checksum record; this writer's opens
/// a batch, so it has data, and etcd's has none. False for bytes that are no record at all.
#[must_use]
pub fn begun_by_etcd(head: &Bytes) -> bool {
    let word = head.first_chunk().copied().map(u64::from_le_bytes);
    let Some(extent) = word.and_then(Extent::parse) else {
        return false;
    };
    let record = head.slice(WORD_BYTES as usize..);
    let header = Header::parse(&record[..record.len().min(MAX_HEADER_BYTES as usize)], extent.record);
    header.is_ok_and(|header| header.kind == Kind::Checksum && header.data_start as u64 == extent.record)
}

/// The length of the batch that a checksum record with these data opens; `None` for a checksum record of etcd's.
pub(super) fn batch_length(data: &Bytes) -> Option<u64> {
    let bytes: [u8; BATCH_LENGTH_BYTES] = data[..].try_into().ok()?;
    Some(u64::from(u32::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_words_contain_the_padding() {
        assert_eq!(Extent::of(4).word(), 0x8400_0000_0000_0004);
        assert_eq!(Extent::of(16).word(), 16);
        for record in 1..100 {
            let extent = Extent::of(record);
            assert_eq!(extent.frame() % 8, 0);
            assert_eq!(Extent::parse(extent.word()), Some(extent));
            for bit in 56..64 {
                assert_eq!(
                    Extent::parse(extent.word() ^ 1 << bit),
                    None,
                    "{record} with bit {bit} flipped"
                );
            }
        }
        assert_eq!(Extent::parse(0), None);
    }

    #[test]
    fn a_checksum_record_has_etcds_bytes() {
        let mut out = Vec::new();
        Encoder::new(0).checksum_record(None, &mut out);
        assert_eq!(out, [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn headers_read_back_and_lengths_must_agree() {
        for checksum in [0, 1, 0x80, u32::MAX] {
            for data in [None, Some(&b""[..]), Some(b"abc"), Some(&[7; 300])] {
                let mut out = Vec::new();
                frame(Kind::Entry, checksum, data, &mut out);
                let extent = Extent::parse(u64::from_le_bytes(out[..8].try_into().unwrap())).unwrap();
                assert_eq!(extent.frame(), out.len() as u64);
                let record = &out[8..8 + extent.record as usize];
                let header = Header::parse(record, extent.record).unwrap();
                assert_eq!((header.kind, header.checksum), (Kind::Entry, checksum));
                assert_eq!(&record[header.data_start..], data.unwrap_or_default());
                assert!(header.data_start as u64 <= MAX_HEADER_BYTES);
                for short in 0..header.data_start {
                    assert_eq!(
                        Header::parse(&record[..short], extent.record),
                        Err(HeaderError::Incomplete)
                    );
                }
                assert_eq!(
                    Header::parse(record, extent.record + 1),
                    match data {
                        None => Err(HeaderError::Incomplete),
                        Some(_) => Err(HeaderError::Wrong),
                    }
                );
            }
        }
    }

    #[test]
    fn fields_that_no_writer_writes_are_refused() {
        for bytes in [
            &[0x08, 0][..],
            &[0x08, 6],
            &[0x0a, 1],
            &[0x08, 1, 0x20, 0],
            &[0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(
                Header::parse(bytes, bytes.len() as u64),
                Err(HeaderError::Wrong),
                "{bytes:x?}"
            );
        }
    }
}
