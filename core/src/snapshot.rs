//! The bytes of a snapshot, the state that one member sends another: rows written one after another, followed by a checksum
//! of them all. The receiver keeps them in a file named by [`crate::snap::database_name`] until they are in its table. The
//! format is Quoin's own, and only members of this version exchange it.
//!
//! ```text
//! magic    8 bytes   "QuoinIm1"
//! row      1 byte    number of the bucket in `Bucket::ALL`, from 1
//!          4 bytes   length of the key, little endian
//!          4 bytes   length of the value
//!          key, value
//! ...
//! end      1 byte    0
//!          8 bytes   how many rows there are
//!          4 bytes   CRC-32C of everything before
//! ```

use bytes::{Buf, Bytes};

use crate::error::Fault;
use crate::store::{Restore, Store, StoreConfig, View};
use crate::table::{Bucket, TableOp};

/// What every file begins with.
const MAGIC: &[u8; 8] = b"QuoinIm1";
/// The byte in place of the next row's bucket.
const END: u8 = 0;
/// Number of rows and checksum.
const TRAILER_BYTES: usize = 12;

/// A row of the table.
pub type SnapshotRow = (Bucket, Bytes, Bytes);

/// The snapshot of a view.
#[must_use]
pub fn encode(view: &View) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let mut count = 0_u64;
    for (bucket, key, value) in view.all_rows() {
        file.push(bucket as u8 + 1);
        for part in [&key, &value] {
            let length = u32::try_from(part.len()).expect("a row is smaller than a request");
            file.extend_from_slice(&length.to_le_bytes());
        }
        file.extend_from_slice(&key);
        file.extend_from_slice(&value);
        count += 1;
    }
    file.push(END);
    file.extend_from_slice(&count.to_le_bytes());
    let checksum = crc32c::crc32c(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

/// Reads the bytes of the file named `name`.
///
/// # Errors
/// If they are not exactly the bytes that were written.
pub fn decode(name: &str, bytes: &Bytes) -> Result<Vec<SnapshotRow>, Fault> {
    let corrupt = |rest: &Bytes, cause: &str| Fault::Corrupt {
        file: name.to_owned(),
        offset: (bytes.len() - rest.len()) as u64,
        cause: cause.to_owned(),
    };
    let Some(end) = bytes.len().checked_sub(4).filter(|_| bytes.starts_with(MAGIC)) else {
        return Err(corrupt(bytes, "it is no snapshot of this version"));
    };
    if bytes[end..] != crc32c::crc32c(&bytes[..end]).to_le_bytes() {
        return Err(corrupt(bytes, "its checksum does not match"));
    }
    let mut rest = bytes.slice(MAGIC.len()..);
    let mut rows = Vec::new();
    loop {
        let at = rest.clone();
        match rest.try_get_u8() {
            Ok(END) => break,
            Ok(number) => {
                rows.push(read_row(number, &mut rest).ok_or_else(|| corrupt(&at, "a row is not whole"))?);
            }
            Err(_) => return Err(corrupt(&at, "it has no end")),
        }
    }
    if rest.len() != TRAILER_BYTES || rest.get_u64_le() != rows.len() as u64 {
        return Err(corrupt(&rest, "it does not hold as many rows as it says"));
    }
    Ok(rows)
}

fn read_row(number: u8, rest: &mut Bytes) -> Option<SnapshotRow> {
    let bucket = *Bucket::ALL.get(usize::from(number).checked_sub(1)?)?;
    let mut length = || usize::try_from(rest.try_get_u32_le().ok()?).ok();
    let (key, value) = (length()?, length()?);
    if rest.len() < key.checked_add(value)? {
        return None;
    }
    Some((bucket, rest.split_to(key), rest.split_to(value)))
}

/// The state these rows hold. They must be in the order in which [`encode`] writes them.
///
/// # Errors
/// A fault that names a row which is out of place.
pub fn restore(config: StoreConfig, rows: &[SnapshotRow]) -> Result<Store, Fault> {
    let mut store = Restore::from_table(config, |wanted| {
        let of_bucket = rows.iter().filter(move |(bucket, ..)| *bucket == wanted);
        of_bucket.map(|(_, key, value)| Ok((key.clone(), value.clone())))
    })?;
    // The table gets the rows of this store's view, which may differ: this member's minimum TTL may prolong leases.
    store.recount();
    Ok(store)
}

/// What must change in a bucket of a table from `old` to `new`; both are in the order of their keys.
///
/// # Errors
/// The one that `old` gave.
pub fn difference<E>(
    bucket: Bucket,
    old: impl Iterator<Item = Result<(Bytes, Bytes), E>>,
    new: impl Iterator<Item = (Bytes, Bytes)>,
) -> Result<Vec<TableOp>, E> {
    let mut ops = Vec::new();
    let mut new = new.peekable();
    for row in old {
        let (old_key, old_value) = row?;
        while let Some((key, value)) = new.next_if(|(key, _)| *key < old_key) {
            ops.push(TableOp::put(bucket, key, value));
        }
        match new.next_if(|(key, _)| *key == old_key) {
            Some((_, value)) if value == old_value => {}
            Some((key, value)) => ops.push(TableOp::put(bucket, key, value)),
            None => ops.push(TableOp::delete(bucket, old_key)),
        }
    }
    ops.extend(new.map(|(key, value)| TableOp::put(bucket, key, value)));
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bucket: Bucket, key: &'static str, value: &'static str) -> SnapshotRow {
        (bucket, key.into(), value.into())
    }

    fn file() -> Bytes {
        let restored = restore(StoreConfig::default(), &[]).unwrap();
        encode(&restored.view()).into()
    }

    /// A file with these rows, as [`encode`] makes them.
    fn file_of(rows: &[SnapshotRow]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for (bucket, key, value) in rows {
            file.push(*bucket as u8 + 1);
            file.extend_from_slice(&u32::try_from(key.len()).unwrap().to_le_bytes());
            file.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            file.extend_from_slice(key);
            file.extend_from_slice(value);
        }
        file
    }

    fn sealed(mut file: Vec<u8>, count: u64) -> Bytes {
        file.push(END);
        file.extend_from_slice(&count.to_le_bytes());
        let checksum = crc32c::crc32c(&file);
        file.extend_from_slice(&checksum.to_le_bytes());
        file.into()
    }

    #[test]
    fn a_file_without_rows_is_head_and_end() {
        let mut expected = b"QuoinIm1\0\0\0\0\0\0\0\0\0".to_vec();
        let checksum = crc32c::crc32c(&expected);
        expected.extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(file(), expected);
        assert_eq!(decode("a", &file()), Ok(vec![]));
    }

    #[test]
    fn rows_read_back() {
        let rows = vec![
            row(Bucket::Alarm, "a", ""),
            row(Bucket::Key, "k", "value"),
            row(Bucket::Meta, "m", "v"),
        ];
        assert_eq!(decode("a", &sealed(file_of(&rows), 3)), Ok(rows));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error() {
        let good = sealed(file_of(&[row(Bucket::Key, "k", "v")]), 1);
        for bit in 0..good.len() * 8 {
            let mut damaged = good.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode("a", &damaged.into()).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(decode("a", &good.slice(..length)).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_malformed_file_is_refused_with_its_name_and_offset() {
        let rows = [row(Bucket::Key, "k", "v")];
        let unknown = [MAGIC.as_slice(), &[11, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let beyond = [MAGIC.as_slice(), &[1, 255, 255, 255, 255, 255, 255, 255, 255]].concat();
        let table = [
            (
                Bytes::from_static(b"SQLite format 3"),
                0,
                "it is no snapshot of this version",
            ),
            (file().slice(..9), 0, "its checksum does not match"),
            (sealed(unknown, 1), 8, "a row is not whole"),
            (sealed(beyond, 1), 8, "a row is not whole"),
            (
                sealed(file_of(&rows), 2),
                28,
                "it does not hold as many rows as it says",
            ),
        ];
        for (bytes, offset, cause) in table {
            let fault = decode("1.snap.db", &bytes).unwrap_err().to_string();
            assert_eq!(fault, format!("1.snap.db is corrupt at offset {offset}: {cause}"));
        }
    }

    #[test]
    fn a_difference_changes_exactly_the_rows_that_differ() {
        let rows = |text: &str| -> Vec<(Bytes, Bytes)> {
            let rows = text.split_whitespace().map(|row| row.split_once('=').unwrap());
            rows.map(|(key, value)| (Bytes::from(key.to_owned()), Bytes::from(value.to_owned())))
                .collect()
        };
        for (old, new, expected) in [
            ("", "", ""),
            ("", "a=1 b=2", "+a +b"),
            ("a=1 b=2", "", "-a -b"),
            ("a=1 b=2 d=4", "a=1 b=3 c=3", "+b +c -d"),
            ("b=2", "a=1 b=2 c=3", "+a +c"),
        ] {
            let old = rows(old).into_iter().map(Ok::<_, Fault>);
            let ops = difference(Bucket::Key, old, rows(new).into_iter()).unwrap();
            let told = ops.iter().map(|op| {
                let sign = if op.value.is_some() { '+' } else { '-' };
                format!("{sign}{}", op.key.escape_ascii())
            });
            assert_eq!(told.collect::<Vec<_>>().join(" "), expected, "to {new:?}");
        }
    }
}
