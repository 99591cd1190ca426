//! The file in which a member keeps the state that came with a snapshot until it is in the table: rows behind each other,
//! told whole by a checksum. Its name is [`crate::snap::database_name`]; the form is Quoin's own and leaves the
//! machine only beside a snapshot message between members of this version.
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
/// Stands where the next row's bucket would.
const END: u8 = 0;
/// Number of rows and checksum.
const TRAILER_BYTES: usize = 12;

/// A row of the table.
pub type ImageRow = (Bucket, Bytes, Bytes);

/// The file of a view.
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
/// If they are not what was written, to the last bit.
pub fn decode(name: &str, bytes: &Bytes) -> Result<Vec<ImageRow>, Fault> {
    let corrupt = |rest: &Bytes, cause: &str| Fault::Corrupt {
        file: name.to_owned(),
        offset: (bytes.len() - rest.len()) as u64,
        cause: cause.to_owned(),
    };
    let Some(end) = bytes.len().checked_sub(4).filter(|_| bytes.starts_with(MAGIC)) else {
        return Err(corrupt(bytes, "it is no image of a table"));
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

fn read_row(number: u8, rest: &mut Bytes) -> Option<ImageRow> {
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
/// A fault that names a row which does not belong.
pub fn restore(config: StoreConfig, rows: &[ImageRow]) -> Result<Store, Fault> {
    Restore::from_table(config, |wanted| {
        let of_bucket = rows.iter().filter(move |(bucket, ..)| *bucket == wanted);
        of_bucket.map(|(_, key, value)| Ok((key.clone(), value.clone())))
    })
}

/// What must change in one bucket of a table that holds `old` so that it holds `new`; both are in the order of their keys.
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
