//! Revisions and the form they take as row keys of the `key` bucket.

use bytes::Bytes;

/// Length of a revision's row key.
const PLAIN_LEN: usize = 17;
/// Length of a tombstone's row key.
const TOMBSTONE_LEN: usize = PLAIN_LEN + 1;
/// The byte between main and sub.
const SEPARATOR: u8 = b'_';
/// The last byte of a tombstone's row key.
const TOMBSTONE_MARK: u8 = b't';

/// The place of one change in the store's history.
///
/// `main` counts write transactions that changed something; `sub` counts the changes within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The transaction.
    pub main: i64,
    /// The change within the transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// The revision `main`, `sub`.
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// The first possible change of a transaction with this main revision.
    pub const fn first_of(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// The last possible change of a transaction with this main revision.
    pub const fn last_of(main: i64) -> Self {
        Self { main, sub: i64::MAX }
    }

    /// The 17 bytes of etcd's row key; a tombstone's has one more.
    pub fn to_row_key(self, tombstone: bool) -> Bytes {
        let row_key = self.row_key(tombstone);
        Bytes::copy_from_slice(row_key.as_slice())
    }

    /// Reads a row key in either form; `None` if it is neither. The flag says whether it marks a tombstone.
    pub fn from_row_key(row_key: &[u8]) -> Option<(Self, bool)> {
        let tombstone = match row_key.len() {
            PLAIN_LEN => false,
            TOMBSTONE_LEN if row_key[PLAIN_LEN] == TOMBSTONE_MARK => true,
            _ => return None,
        };
        if row_key[8] != SEPARATOR {
            return None;
        }
        let main = i64::from_be_bytes(row_key[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(row_key[9..PLAIN_LEN].try_into().ok()?);
        Some((Self { main, sub }, tombstone))
    }

    /// Reads the row key at the beginning of a record's block. The encoded pair that follows an unmarked row key never
    /// begins with the mark's byte: in protobuf, that byte would end a group.
    pub(super) fn split_row_key(block: &[u8]) -> (Self, bool) {
        let part = |at: usize| {
            let bytes = block[at..at + 8]
                .first_chunk()
                .expect("a part of a row key has eight bytes");
            i64::from_be_bytes(*bytes)
        };
        let revision = Self::new(part(0), part(9));
        (revision, block.get(PLAIN_LEN) == Some(&TOMBSTONE_MARK))
    }

    /// The bytes of [`Self::to_row_key`], without an allocation.
    pub(crate) fn row_key(self, tombstone: bool) -> RowKey {
        let mut bytes = [TOMBSTONE_MARK; TOMBSTONE_LEN];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..PLAIN_LEN].copy_from_slice(&self.sub.to_be_bytes());
        RowKey {
            bytes,
            len: if tombstone { TOMBSTONE_LEN } else { PLAIN_LEN },
        }
    }

    /// How many bytes the row key takes.
    pub(crate) const fn row_key_len(tombstone: bool) -> usize {
        if tombstone { TOMBSTONE_LEN } else { PLAIN_LEN }
    }
}

/// A row key on the stack.
pub(crate) struct RowKey {
    bytes: [u8; TOMBSTONE_LEN],
    len: usize,
}

impl RowKey {
    /// The key's bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Revision;

    #[test]
    fn row_keys_are_those_of_etcd() {
        let revision = Revision::new(0x0102, 0x0a);
        assert_eq!(
            &revision.to_row_key(false)[..],
            b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x0a"
        );
        assert_eq!(
            &revision.to_row_key(true)[..],
            b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x0at"
        );
    }

    #[test]
    fn row_keys_read_back() {
        for tombstone in [false, true] {
            let revision = Revision::new(i64::MAX, 77);
            let read = Revision::from_row_key(&revision.to_row_key(tombstone));
            assert_eq!(read, Some((revision, tombstone)));
        }
    }

    #[test]
    fn other_row_keys_are_refused() {
        let plain = Revision::new(5, 0).to_row_key(false);
        let marked = Revision::new(5, 0).to_row_key(true);
        let mut wrong_separator = plain.to_vec();
        wrong_separator[8] = b'-';
        let mut wrong_mark = marked.to_vec();
        wrong_mark[17] = b'x';
        let too_long = [&marked[..], b"t"].concat();
        for row_key in [&b""[..], &plain[..16], &wrong_separator, &wrong_mark, &too_long] {
            assert_eq!(Revision::from_row_key(row_key), None, "{row_key:?}");
        }
    }

    #[test]
    fn order_is_the_order_of_row_keys() {
        let ascending = [
            Revision::new(1, 5),
            Revision::new(2, 0),
            Revision::new(2, 256),
            Revision::new(300, 1),
        ];
        assert!(ascending.is_sorted());
        assert!(ascending.map(|revision| revision.to_row_key(false)).is_sorted());
    }
}
