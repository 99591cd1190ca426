//! Files beside the log, with etcd's names: the files of markers, in the format of etcd's snapshot files, and the names
//! of files that hold received snapshots.
//!
//! A `.snap` file repeats a marker of the log (index, term, configuration) and is durable before it; the applied state
//! itself is in the table. [`crate::boot`] decides from which marker a member starts.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;

use crate::error::Fault;
use crate::proto::{raftpb, snappb};
use crate::wal::parse_hex;

/// The name of a marker's file. It prints as `<term>-<index>.snap`, both in hex with sixteen digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MarkerName {
    /// The term of the last entry it covers.
    pub term: u64,
    /// The index of that entry. Names order by term first, which is also the order of their indexes.
    pub index: u64,
}

impl MarkerName {
    /// Reads a file's name; `None` for other files (databases, temporary, broken, unknown).
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let (term, index) = file.strip_suffix(".snap")?.split_once('-')?;
        Some(Self {
            term: parse_hex(term)?,
            index: parse_hex(index)?,
        })
    }
}

impl fmt::Display for MarkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.snap", self.term, self.index)
    }
}

/// The name of the file that holds the rows of a snapshot received at `index`, until they are in the table.
#[must_use]
pub fn database_name(index: u64) -> String {
    format!("{index:016x}.snap.db")
}

/// The index in a name that [`database_name`] gave; `None` for other files.
#[must_use]
pub fn parse_database_name(file: &str) -> Option<u64> {
    parse_hex(file.strip_suffix(".snap.db")?)
}

/// The bytes of the file for `snapshot`.
#[must_use]
pub fn encode(snapshot: &raftpb::Snapshot) -> Vec<u8> {
    let data = snapshot.encode_to_vec();
    let file = snappb::Snapshot {
        crc: Some(crc32c::crc32c(&data)),
        data: Some(data.into()),
    };
    file.encode_to_vec()
}

/// Reads the bytes of the file named `file`.
///
/// # Errors
/// If they are not the bytes that were written. A member can then start from an older marker, if its log still goes
/// back to it.
pub fn decode(file: &str, bytes: Bytes) -> Result<raftpb::Snapshot, Fault> {
    let corrupt = |cause: String| Fault::Corrupt {
        file: file.to_owned(),
        offset: 0,
        cause,
    };
    let outer = snappb::Snapshot::decode(bytes).map_err(|e| corrupt(format!("it does not decode: {e}")))?;
    let data = outer.data.clone().unwrap_or_default();
    if data.is_empty() {
        return Err(corrupt("it has no data".into()));
    }
    if crc32c::crc32c(&data) != outer.crc() {
        return Err(corrupt("its checksum does not match".into()));
    }
    raftpb::Snapshot::decode(data).map_err(|e| corrupt(format!("its snapshot does not decode: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> raftpb::Snapshot {
        let metadata = raftpb::SnapshotMetadata {
            conf_state: Some(([1, 2], [3]).into()),
            index: 7,
            term: 2,
        };
        raftpb::Snapshot {
            data: "{}".into(),
            metadata: Some(metadata),
        }
    }

    #[test]
    fn names_are_those_of_etcd() {
        let name = MarkerName { term: 2, index: 0x1f };
        assert_eq!(name.to_string(), "0000000000000002-000000000000001f.snap");
        assert_eq!(MarkerName::parse(&name.to_string()), Some(name));
        assert_eq!(database_name(0x1f), "000000000000001f.snap.db");
        assert_eq!(parse_database_name("000000000000001f.snap.db"), Some(0x1f));
        for other in ["db", "000000000000001f.snap.db", "0-1.snap", "tmp123"] {
            assert_eq!(MarkerName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_those_of_etcd() {
        let bytes = encode(&snapshot());
        // Checksum, then: data "{}", metadata with voters 1 and 2, learner 3, index 7 and term 2.
        let inner = [
            0x0a, 2, b'{', b'}', 0x12, 12, 0x0a, 6, 0x08, 1, 0x08, 2, 0x10, 3, 0x10, 7, 0x18, 2,
        ];
        assert_eq!(&bytes[bytes.len() - inner.len() - 2..][..2], [0x12, 18]);
        assert!(bytes.ends_with(&inner));
        assert_eq!(bytes[0], 0x08);
        assert_eq!(decode("a.snap", bytes.into()).unwrap(), snapshot());
    }

    #[test]
    fn a_flipped_bit_is_harmless_or_an_error_and_a_cut_is_an_error() {
        let bytes = encode(&snapshot());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match decode("a.snap", damaged.into()) {
                // The checksum's last byte has bits to spare.
                Ok(harmless) => assert_eq!(harmless, snapshot(), "bit {bit}"),
                Err(fault) => {
                    assert!(fault.to_string().starts_with("a.snap is corrupt at offset 0: "));
                }
            }
        }
        for length in 0..bytes.len() {
            assert!(decode("a.snap", bytes[..length].to_vec().into()).is_err());
        }
    }
}
