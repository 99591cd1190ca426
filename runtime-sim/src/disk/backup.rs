//! An earlier state of a member's files and rows, to replace the present one: an operator's mistake.

use super::SimDisk;
use super::medium::Medium;
use crate::table::{Content, SimTable};

/// A copy of a disk and a table, as their processes read them at that time.
#[derive(Clone, Debug)]
pub struct Backup {
    files: Medium,
    rows: Content,
}

impl Backup {
    /// Copies both; everything in the copy is durable.
    #[must_use]
    pub fn take(disk: &SimDisk, table: &SimTable) -> Self {
        let mut files = disk.lock().clone();
        files.settle();
        Self {
            files,
            rows: table.content(),
        }
    }

    /// Replaces the present state by the copy. No process may be running on it: open files become invalid.
    pub fn restore(&self, disk: &SimDisk, table: &SimTable) {
        disk.lock().restore(&self.files);
        table.replace(self.rows.clone());
    }
}
