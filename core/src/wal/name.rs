//! Names of segments, and the segments that a replay needs.

use std::fmt;

use crate::error::Fault;

/// The name of a segment: its number, and the index expected for the first entry in it.
///
/// It prints as the file's name: both in hex with sixteen digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentName {
    /// Counts segments from 0 without gaps.
    pub sequence: u64,
    /// One above the last index written before the segment was begun.
    pub first_index: u64,
}

impl SegmentName {
    /// The first segment of a log.
    pub const FIRST: Self = Self {
        sequence: 0,
        first_index: 0,
    };

    /// Reads a file's name; `None` for files that are no segments (temporary, broken, of another program).
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let (sequence, first_index) = file.strip_suffix(".wal")?.split_once('-')?;
        Some(Self {
            sequence: parse_hex(sequence)?,
            first_index: parse_hex(first_index)?,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }
}

/// Exactly sixteen lower-case hex digits, as [`SegmentName`] prints them.
pub(crate) fn parse_hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain {
        u64::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// The segments that a replay from a marker at `index` reads, in order: from the last one whose name has that index
/// or a lower one, to the end.
///
/// # Errors
/// If no segment begins low enough, or one is missing in between.
pub fn select(mut names: Vec<SegmentName>, index: u64) -> Result<Vec<SegmentName>, Fault> {
    names.sort_unstable();
    let Some(first) = names.iter().rposition(|name| name.first_index <= index) else {
        return Err(Fault::Inconsistent {
            cause: format!("no write-ahead log file begins at or before index {index}"),
        });
    };
    let wanted = names.split_off(first);
    for pair in wanted.windows(2) {
        if pair[1].sequence != pair[0].sequence + 1 {
            return Err(Fault::Inconsistent {
                cause: format!("write-ahead log files are missing between {} and {}", pair[0], pair[1]),
            });
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sequence: u64, first_index: u64) -> SegmentName {
        SegmentName { sequence, first_index }
    }

    #[test]
    fn names_are_those_of_etcd() {
        assert_eq!(SegmentName::FIRST.to_string(), "0000000000000000-0000000000000000.wal");
        let cut = name(11, 0xabc);
        assert_eq!(cut.to_string(), "000000000000000b-0000000000000abc.wal");
        assert_eq!(SegmentName::parse(&cut.to_string()), Some(cut));
        for other in [
            "0.tmp",
            "000000000000000b-0000000000000abc.wal.broken",
            "b-abc.wal",
            "000000000000000B-0000000000000abc.wal",
            "+00000000000000b-0000000000000abc.wal",
            "000000000000000b0000000000000abc.wal",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_replay_begins_at_the_last_segment_low_enough() {
        let names = vec![name(3, 30), name(1, 10), name(2, 20)];
        assert_eq!(select(names.clone(), 29).unwrap(), [name(2, 20), name(3, 30)]);
        assert_eq!(select(names.clone(), 30).unwrap(), [name(3, 30)]);
        assert_eq!(select(names.clone(), u64::MAX).unwrap(), [name(3, 30)]);
        let error = select(names, 9).unwrap_err().to_string();
        assert_eq!(error, "no write-ahead log file begins at or before index 9");
    }

    #[test]
    fn a_missing_segment_is_named_by_its_neighbours() {
        let error = select(vec![name(1, 10), name(3, 30)], 15).unwrap_err().to_string();
        assert!(
            error.ends_with("between 0000000000000001-000000000000000a.wal and 0000000000000003-000000000000001e.wal")
        );
        assert_eq!(
            select(vec![name(1, 10), name(3, 30)], 30).unwrap(),
            [name(3, 30)],
            "gaps before the first segment needed do not matter"
        );
    }
}
