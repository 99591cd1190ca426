//! Files written and read back, pages checked byte by byte, and damaged files.

mod damage;
mod foreign;
mod layout;
mod round_trip;
mod sum;

use bytes::Bytes;

use super::page::{ReadNode, flags};
use super::{FileDamage, FilePlan, FileReader, FileStep, FileWriter, PAGE_BYTES};
use crate::error::Fault;
use crate::random::Prng;

type Rows = Vec<(Bytes, Bytes)>;
type Buckets = Vec<(Bytes, Rows)>;

/// A row: its key is the number with zeros in front, `key_len` long at least, and its value has `value_len` bytes.
fn row(number: usize, key_len: usize, value_len: usize) -> (Bytes, Bytes) {
    let key = format!("{number:0key_len$}");
    (key.into(), vec![number as u8; value_len].into())
}

fn rows(count: usize, key_len: usize, value_len: usize) -> Rows {
    (0..count).map(|number| row(number, key_len, value_len)).collect()
}

fn one_bucket(rows: Rows) -> Buckets {
    vec![("key".into(), rows)]
}

fn write(writer: &mut FileWriter, buckets: &Buckets) -> Result<(FilePlan, Vec<u8>), Fault> {
    let mut file = Vec::new();
    for (name, rows) in buckets {
        writer.bucket(name.clone())?;
        for (key, value) in rows {
            writer.row(key.clone(), value.clone())?;
            writer.take().iter().for_each(|piece| file.extend_from_slice(piece));
        }
    }
    let plan = writer.finish()?;
    writer.take().iter().for_each(|piece| file.extend_from_slice(piece));
    Ok((plan, file))
}

/// The file with these buckets.
fn file_of(buckets: &Buckets) -> Vec<u8> {
    let (plan, nothing) = write(&mut FileWriter::counting(), buckets).unwrap();
    assert!(nothing.is_empty(), "a writer that counts makes nothing");
    let (written, file) = write(&mut FileWriter::following(plan), buckets).unwrap();
    assert_eq!(written, plan);
    assert_eq!(file.len() as u64, plan.bytes());
    file
}

/// The rows and the reads of a file.
#[derive(Default)]
struct Seen {
    buckets: Buckets,
    /// Parts that the reader asked for.
    parts: usize,
    /// Bytes of all rows.
    row_bytes: usize,
}

/// Reads the next row; `None` if there are no more.
fn next_row(reader: &mut FileReader, file: &[u8], seen: &mut Seen) -> Result<Option<(Bytes, Bytes)>, FileDamage> {
    loop {
        match reader.step()? {
            FileStep::Done => return Ok(None),
            FileStep::Row(key, value) => {
                seen.row_bytes += key.len() + value.len();
                return Ok(Some((key, value)));
            }
            FileStep::Read(extent) => {
                seen.parts += 1;
                // The second meta page is looked for at several offsets. Every other part is read once.
                assert!(seen.parts <= file.len() / 1_024 * 2 + 20, "a walk that does not end");
                let start = usize::try_from(extent.offset).unwrap_or(usize::MAX).min(file.len());
                let end = start.saturating_add(extent.bytes).min(file.len());
                reader.feed(Bytes::copy_from_slice(&file[start..end]));
            }
        }
    }
}

/// Reads every bucket to its end, or to the first defect.
fn look(file: &[u8]) -> (Seen, Result<(), FileDamage>) {
    let mut reader = FileReader::new(file.len() as u64);
    let mut seen = Seen::default();
    let mut walk = || {
        assert_eq!(
            next_row(&mut reader, file, &mut seen)?,
            None,
            "no row comes before a bucket is entered"
        );
        let names: Vec<Bytes> = reader.buckets().cloned().collect();
        for name in names {
            assert!(reader.enter(&name));
            assert!(!reader.enter(&name), "a bucket can be entered once");
            seen.buckets.push((name, Vec::new()));
            while let Some(row) = next_row(&mut reader, file, &mut seen)? {
                seen.buckets.last_mut().unwrap().1.push(row);
            }
        }
        Ok(())
    };
    let end = walk();
    (seen, end)
}

fn read(file: &[u8]) -> Result<Buckets, FileDamage> {
    let (seen, end) = look(file);
    end.map(|()| seen.buckets)
}

/// The nodes of a file that was written here: the number of the first page, the node, and its length in bytes with
/// padding.
fn nodes(file: &[u8]) -> Vec<(u64, ReadNode, usize)> {
    let mut nodes = Vec::new();
    let mut at = 2 * PAGE_BYTES;
    while at < file.len() - PAGE_BYTES {
        let overflow = u32::from_le_bytes(file[at + 12..at + 16].try_into().unwrap()) as usize;
        let bytes = (overflow + 1) * PAGE_BYTES;
        let page = Bytes::copy_from_slice(&file[at..at + bytes]);
        assert_eq!(
            page[..8],
            ((at / PAGE_BYTES) as u64).to_le_bytes(),
            "each page has its number"
        );
        nodes.push(((at / PAGE_BYTES) as u64, ReadNode::read(page).unwrap(), bytes));
        at += bytes;
    }
    nodes
}
