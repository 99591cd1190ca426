//! The bytes of a snapshot, which one member sends another, and of a backup, which a client downloads: a database file
//! of etcd's format ([`crate::bbolt`]), with the table's buckets and etcd's rows. The receiver of a snapshot keeps it
//! in a file named by [`crate::snap::database_name`] until its rows are in its table.
//!
//! A file is made from a view in two walks over the same rows: [`SnapshotCount`] computes its length, and
//! [`SnapshotBytes`] makes it piece by piece. [`SnapshotFile`] reads the rows of a file that is given part by part.
//! None of them holds more than a few pages and the largest row.

use std::cell::RefCell;

use bytes::Bytes;

use crate::bbolt::{FileDamage, FilePart, FilePlan, FileReader, FileStep, FileSum, FileWriter};
use crate::error::Fault;
use crate::limits::SNAPSHOT_STEP_BYTES;
use crate::store::{Restore, Row, Store, StoreConfig, View};
use crate::table::{Bucket, TableOp};

/// A row of the table.
pub type SnapshotRow = (Bucket, Bytes, Bytes);

/// The first walk over the rows of a view: computes the length of its file.
#[derive(Debug)]
pub struct SnapshotCount {
    walk: RowWalk,
    writer: FileWriter,
}

impl SnapshotCount {
    /// A walk at its beginning.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self {
            walk: RowWalk::new(view),
            writer: FileWriter::counting(),
        }
    }

    /// Continues over at most `rows` rows. Returns the second walk once this one is complete.
    ///
    /// # Errors
    /// A fault that names a row which no file can hold.
    pub fn step(&mut self, rows: usize) -> Result<Option<SnapshotBytes>, Fault> {
        if !self.walk.step(&mut self.writer, rows)? {
            return Ok(None);
        }
        let plan = self.writer.finish()?;
        Ok(Some(SnapshotBytes {
            walk: RowWalk::new(self.walk.view.clone()),
            writer: FileWriter::following(plan),
            plan,
            is_over: false,
        }))
    }
}

/// The second walk over the rows of a view: makes its file.
#[derive(Debug)]
pub struct SnapshotBytes {
    walk: RowWalk,
    writer: FileWriter,
    plan: FilePlan,
    is_over: bool,
}

impl SnapshotBytes {
    /// The length of the whole file.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.plan.bytes()
    }

    /// The next bytes of the file, from at most `rows` rows; possibly none. `None` at the end of the file.
    ///
    /// # Errors
    /// A fault, if the rows are not those that were counted.
    pub fn step(&mut self, rows: usize) -> Result<Option<Vec<Bytes>>, Fault> {
        if self.is_over {
            return Ok(None);
        }
        if self.walk.step(&mut self.writer, rows)? {
            self.writer.finish()?;
            self.is_over = true;
        }
        Ok(Some(self.writer.take()))
    }
}

/// A walk over the rows of a view that can be interrupted and continued.
#[derive(Debug)]
struct RowWalk {
    view: View,
    /// The place in [`Bucket::ALL`], which is in the order of the buckets' names.
    bucket: usize,
    /// The key of the last row of that bucket; `None` before the first.
    last: Option<Bytes>,
}

impl RowWalk {
    fn new(view: View) -> Self {
        let (bucket, last) = (0, None);
        Self { view, bucket, last }
    }

    /// Gives up to `rows` of the next rows to a writer, or fewer if their bytes are enough. Returns whether these were
    /// the last.
    fn step(&mut self, writer: &mut FileWriter, rows: usize) -> Result<bool, Fault> {
        let mut left = rows;
        while let Some(bucket) = Bucket::ALL.get(self.bucket) {
            if self.last.is_none() {
                writer.bucket(Bytes::from_static(bucket.name().as_bytes()))?;
            }
            for (key, value) in self.view.rows_after(*bucket, self.last.as_deref()) {
                self.last = Some(key.clone());
                writer.row(key, value)?;
                left = left.saturating_sub(1);
                if left == 0 || writer.made_bytes() >= SNAPSHOT_STEP_BYTES {
                    return Ok(false);
                }
            }
            self.bucket += 1;
            self.last = None;
        }
        Ok(true)
    }
}

/// The whole snapshot of a view.
///
/// # Panics
/// If the view has rows that no file can hold: an empty key, or 2 GiB of one. No request makes such rows.
#[must_use]
pub fn encode(view: &View) -> Vec<u8> {
    let pieces = SnapshotCount::new(view.clone()).step(usize::MAX).and_then(|walk| {
        let mut walk = walk.expect("it looked at all rows");
        let mut file = Vec::with_capacity(usize::try_from(walk.total()).unwrap_or_default());
        while let Some(pieces) = walk.step(usize::MAX)? {
            pieces.iter().for_each(|piece| file.extend_from_slice(piece));
        }
        Ok(file)
    });
    pieces.expect("a view has rows that a file can hold")
}

/// The reader of a file, and the function that reads a part of the file.
#[derive(Debug)]
pub struct SnapshotFile<R> {
    name: String,
    /// The iterators over rows share it; one is in use at a time.
    source: RefCell<(FileReader, R)>,
}

impl<R: FnMut(FilePart) -> Result<Bytes, Fault>> SnapshotFile<R> {
    /// Opens the file named `name`, which has this many bytes. `read` returns a part of it, or less at its end.
    ///
    /// # Errors
    /// If it is no database file, or the fault that `read` returned.
    pub fn open(name: &str, bytes: u64, read: R) -> Result<Self, Fault> {
        let source = RefCell::new((FileReader::new(bytes), read));
        let name = name.to_owned();
        let file = Self { name, source };
        file.next()?;
        Ok(file)
    }

    /// The rows of a bucket in the order of their keys; none if the file has no such bucket. Each bucket can be read
    /// once, and to its end before the next.
    pub fn rows(&self, bucket: Bucket) -> impl Iterator<Item = Result<Row, Fault>> {
        let mut is_over = !self.source.borrow_mut().0.enter(bucket.name().as_bytes());
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let row = self.next().transpose();
            is_over = !matches!(row, Some(Ok(_)));
            row
        })
    }

    /// The state in the rows.
    ///
    /// # Errors
    /// A fault that describes the damage of the file, or names a row that is out of place.
    pub fn restore(&self, config: StoreConfig) -> Result<Store, Fault> {
        let mut store = Restore::from_table(config, |bucket| self.rows(bucket))?;
        // The table gets the rows of this store's view, which may differ: leases have at least this member's minimum
        // TTL.
        store.recount();
        Ok(store)
    }

    fn next(&self) -> Result<Option<Row>, Fault> {
        let (reader, read) = &mut *self.source.borrow_mut();
        loop {
            match reader.step().map_err(|damage| damage.of_file(&self.name))? {
                FileStep::Read(extent) => reader.feed(read(extent)?),
                FileStep::Row(key, value) => return Ok(Some((key, value))),
                FileStep::Done => return Ok(None),
            }
        }
    }
}

/// Reads the bytes of the file named `name`.
///
/// # Errors
/// If they are not a database file, or the checksum does not match.
pub fn decode(name: &str, bytes: &Bytes) -> Result<Vec<SnapshotRow>, Fault> {
    let mut sum = FileSum::default();
    sum.feed(bytes);
    sum.finish().map_err(|damage: FileDamage| damage.of_file(name))?;
    let part = |extent: FilePart| {
        let start = usize::try_from(extent.offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(extent.bytes).min(bytes.len());
        Ok(bytes.slice(start..end))
    };
    let file = SnapshotFile::open(name, bytes.len() as u64, part)?;
    let mut rows = Vec::new();
    for bucket in Bucket::ALL {
        for row in file.rows(bucket) {
            let (key, value) = row?;
            rows.push((bucket, key, value));
        }
    }
    Ok(rows)
}

/// The state in these rows. They must be in the order of [`decode`].
///
/// # Errors
/// A fault that names a row which is out of place.
pub fn restore(config: StoreConfig, rows: &[SnapshotRow]) -> Result<Store, Fault> {
    let mut store = Restore::from_table(config, |wanted| {
        let of_bucket = rows.iter().filter(move |(bucket, ..)| *bucket == wanted);
        of_bucket.map(|(_, key, value)| Ok((key.clone(), value.clone())))
    })?;
    // As in [`SnapshotFile::restore`].
    store.recount();
    Ok(store)
}

/// The changes that turn the rows `old` of a bucket into the rows `new`. Both are in the order of their keys.
///
/// # Errors
/// The first error that `old` returns.
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
    use prost::Message as _;

    use super::*;
    use crate::mvcc::Revision;
    use crate::proto::leasepb;
    use crate::proto::mvccpb::KeyValue;

    fn row(bucket: Bucket, key: impl Into<Bytes>, value: impl Into<Bytes>) -> SnapshotRow {
        (bucket, key.into(), value.into())
    }

    fn lease_row(id: i64) -> SnapshotRow {
        let lease = leasepb::Lease {
            id,
            ttl: 60,
            remaining_ttl: 0,
        };
        row(Bucket::Lease, id.to_be_bytes().to_vec(), lease.encode_to_vec())
    }

    fn key_row(revision: i64, value: Vec<u8>) -> SnapshotRow {
        let kv = KeyValue {
            key: format!("k{revision}").into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: value.into(),
            lease: 0,
        };
        let row_key = Revision::new(revision, 0).to_row_key(false);
        row(Bucket::Key, row_key, kv.encode_to_vec())
    }

    /// Rows of several buckets, in order: keys of several pages, a large one, and leases on both sides of zero.
    fn rows() -> Vec<SnapshotRow> {
        let mut rows: Vec<_> = (2..300).map(|revision| key_row(revision, vec![7; 100])).collect();
        rows.push(key_row(300, vec![9; 1_500_000]));
        rows.extend([1, 77, i64::MAX, i64::MIN, -1].map(lease_row));
        let member = r#"{"id":10,"peerURLs":["http://a:1"],"name":"a"}"#;
        rows.push(row(Bucket::Members, "a", member));
        rows.push(row(Bucket::MembersRemoved, "b", "removed"));
        let conf_state = r#"{"voters":[10],"auto_leave":false}"#;
        rows.push(row(Bucket::Meta, "confState", conf_state));
        rows.push(row(Bucket::Meta, "consistent_index", 9_u64.to_be_bytes().to_vec()));
        rows.push(row(Bucket::Meta, "term", 2_u64.to_be_bytes().to_vec()));
        rows
    }

    fn view_of(rows: &[SnapshotRow]) -> View {
        restore(StoreConfig::default(), rows).unwrap().view()
    }

    #[test]
    fn a_snapshot_holds_the_rows_of_its_view() {
        let view = view_of(&rows());
        let bytes = Bytes::from(encode(&view));
        assert_eq!(bytes.len() % 4_096, 0);
        let read = decode("a", &bytes).unwrap();
        assert!(read == rows());
        assert!(view_of(&read).all_rows().eq(view.all_rows()));
    }

    #[test]
    fn a_snapshot_of_an_empty_view_has_all_buckets() {
        let bytes = Bytes::from(encode(&view_of(&[])));
        assert_eq!(decode("a", &bytes), Ok(vec![]));
        let mut reader = FileReader::new(bytes.len() as u64);
        while let FileStep::Read(extent) = reader.step().unwrap() {
            let start = usize::try_from(extent.offset).unwrap();
            reader.feed(bytes.slice(start..start + extent.bytes));
        }
        assert!(reader.buckets().eq(Bucket::ALL.map(|bucket| bucket.name()).iter()));
    }

    #[test]
    fn steps_of_any_size_make_the_same_file() {
        let view = view_of(&rows());
        let whole = encode(&view);
        for step in [1, 7, 4_096] {
            let mut count = SnapshotCount::new(view.clone());
            let mut walk = loop {
                if let Some(walk) = count.step(step).unwrap() {
                    break walk;
                }
            };
            assert_eq!(walk.total(), whole.len() as u64);
            let mut file = Vec::new();
            while let Some(pieces) = walk.step(step).unwrap() {
                let made: usize = pieces.iter().map(Bytes::len).sum();
                assert!(made < SNAPSHOT_STEP_BYTES + 1_600_000, "a step makes {made} bytes");
                pieces.iter().for_each(|piece| file.extend_from_slice(piece));
            }
            assert!(file == whole, "steps of {step} rows");
        }
    }

    #[test]
    fn flipped_bits_and_cuts_are_errors() {
        let good = Bytes::from(encode(&view_of(&rows()[290..])));
        for bit in (0..good.len() * 8).step_by(100_003) {
            let mut damaged = good.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let fault = decode("1.snap.db", &damaged.into()).unwrap_err().to_string();
            assert!(
                fault.ends_with("the checksum of the file does not match"),
                "bit {bit}: {fault}"
            );
        }
        for length in (0..good.len()).step_by(40_009) {
            assert!(decode("a", &good.slice(..length)).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_with_its_name() {
        let fault = decode("1.snap.db", &b"SQLite format 3".repeat(9).into()).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "1.snap.db is corrupt at offset 0: page 0: it is no meta page of bbolt"
        );
    }

    #[test]
    fn a_file_is_restored_part_by_part() {
        let view = view_of(&rows());
        let bytes = encode(&view);
        let mut largest = 0;
        let read = |extent: FilePart| {
            largest = largest.max(extent.bytes);
            let start = usize::try_from(extent.offset).unwrap();
            Ok(Bytes::copy_from_slice(&bytes[start..start + extent.bytes]))
        };
        let file = SnapshotFile::open("a", bytes.len() as u64, read).unwrap();
        let store = file.restore(StoreConfig::default()).unwrap();
        assert!(store.view().all_rows().eq(view.all_rows()));
        drop(file);
        assert!(
            (1_490_000..1_510_000).contains(&largest),
            "the largest part is that of the largest row: {largest}"
        );
    }

    #[test]
    fn a_fault_of_the_read_function_is_returned() {
        let fault = Fault::Inconsistent {
            cause: "unreadable".into(),
        };
        let opened = SnapshotFile::open("a", 99_999, |_| Err(fault.clone()));
        assert_eq!(opened.err(), Some(fault));
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
            let signs = ops.iter().map(|op| {
                let sign = if op.value.is_some() { '+' } else { '-' };
                format!("{sign}{}", op.key.escape_ascii())
            });
            assert_eq!(signs.collect::<Vec<_>>().join(" "), expected, "to {new:?}");
        }
    }
}
