//! The backup that a client downloads: the database file of a view in parts, followed by the SHA-256 of the file.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::limits::BACKUP_CHUNK_BYTES;
use crate::proto::etcdserverpb::SnapshotResponse;
use crate::snapshot::{SnapshotBytes, SnapshotCount};
use crate::store::View;
use crate::version::Version;

/// Makes the messages of a backup, a few at a time.
#[derive(Debug)]
pub struct Backup {
    stage: BackupStage,
    /// Bytes of the file that are in no message yet.
    rest: BytesMut,
    /// The hash of the bytes that are in messages.
    sum: Sha256,
    /// Bytes of the file that are still to be put into messages.
    left: u64,
    /// The version of the rows, which every message has.
    version: String,
}

#[derive(Debug)]
enum BackupStage {
    /// The length of the file is being computed.
    Counting(SnapshotCount),
    /// The file is being made.
    Sending(SnapshotBytes),
    Over,
}

impl Backup {
    /// The backup of a view.
    #[must_use]
    pub fn new(view: &View) -> Self {
        let version = view.cluster.version().filter(|version| *version >= Version::V3_6);
        Self {
            stage: BackupStage::Counting(SnapshotCount::new(view.clone())),
            rest: BytesMut::new(),
            sum: Sha256::new(),
            left: 0,
            version: version.map_or_else(String::new, |version| version.to_string()),
        }
    }

    /// Continues over about `rows` rows. Returns the messages that are now complete, possibly none; `None` after the
    /// last one was returned.
    ///
    /// # Panics
    /// If the view has rows that no file can hold. No request makes such rows.
    pub fn step(&mut self, rows: usize) -> Option<Vec<SnapshotResponse>> {
        const HOLDS: &str = "a view has rows that a file can hold";
        let mut made = Vec::new();
        match &mut self.stage {
            BackupStage::Counting(count) => {
                if let Some(sending) = count.step(rows).expect(HOLDS) {
                    self.left = sending.total();
                    self.stage = BackupStage::Sending(sending);
                }
            }
            BackupStage::Sending(file) => match file.step(rows).expect(HOLDS) {
                Some(pieces) => {
                    pieces.iter().for_each(|piece| self.rest.extend_from_slice(piece));
                    while self.rest.len() >= BACKUP_CHUNK_BYTES {
                        made.push(self.part(BACKUP_CHUNK_BYTES));
                    }
                }
                None => {
                    if !self.rest.is_empty() {
                        made.push(self.part(self.rest.len()));
                    }
                    let sum = std::mem::take(&mut self.sum).finalize();
                    made.push(self.message(Bytes::copy_from_slice(&sum)));
                    self.stage = BackupStage::Over;
                }
            },
            BackupStage::Over => return None,
        }
        Some(made)
    }

    /// The next part of the file.
    fn part(&mut self, bytes: usize) -> SnapshotResponse {
        let blob = self.rest.split_to(bytes).freeze();
        self.sum.update(&blob);
        self.left -= blob.len() as u64;
        self.message(blob)
    }

    fn message(&self, blob: Bytes) -> SnapshotResponse {
        SnapshotResponse {
            // As in etcd.
            header: None,
            remaining_bytes: self.left,
            blob,
            version: self.version.clone(),
        }
    }
}
