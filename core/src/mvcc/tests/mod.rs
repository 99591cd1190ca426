//! Tests of the key space: tables, scripts with etcd's answers, and comparisons with simple models.

mod etcd;
mod model;
mod scan;
mod story;
mod tree;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{FINISHED_COMPACT_ROW, Mvcc, SCHEDULED_COMPACT_ROW};
use crate::table::{Bucket, TableOp};

/// The rows of a table after the ops so far.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(Bucket, Bytes), Bytes>,
}

impl Table {
    fn write(&mut self, ops: Vec<TableOp>) {
        for TableOp { bucket, key, value } in ops {
            match value {
                Some(value) => drop(self.rows.insert((bucket, key), value)),
                None => assert!(
                    self.rows.remove(&(bucket, key)).is_some(),
                    "only rows that are there are deleted"
                ),
            }
        }
    }

    fn key_rows(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.rows
            .iter()
            .filter(|((bucket, _), _)| *bucket == Bucket::Key)
            .map(|((_, key), value)| (key, value))
    }

    fn meta(&self, row: &'static [u8]) -> Option<&[u8]> {
        self.rows
            .get(&(Bucket::Meta, Bytes::from_static(row)))
            .map(|value| &value[..])
    }

    fn restore(&self) -> Mvcc {
        let mut restore = Mvcc::restore();
        for (key, value) in self.key_rows() {
            restore.row(key, value).expect("written rows can be read");
        }
        let (scheduled, finished) = (self.meta(SCHEDULED_COMPACT_ROW), self.meta(FINISHED_COMPACT_ROW));
        restore.finish(scheduled, finished).expect("written rows can be read")
    }

    /// Asserts that the store equals the table, and is internally consistent.
    fn check(&self, mvcc: &Mvcc) {
        let view = mvcc.view();
        view.keys.check();
        view.log.check();
        let kept: Vec<_> = view.log.iter().map(|(_, record)| record.to_row()).collect();
        let rows: Vec<_> = self
            .key_rows()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(kept, rows, "the table has exactly the log's rows");
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(mvcc.size_bytes(), bytes as u64, "the size is that of the rows");
    }
}
