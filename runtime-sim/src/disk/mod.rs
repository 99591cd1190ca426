//! A simulated disk that forgets what was not synced.
//!
//! # Fault model
//! - **Loss of power**: of every file, each 512-byte sector written since its last sync is independently kept or lost; in
//!   a third of the cases all of them are lost, in another third all are kept. A sector reaches the medium whole; where
//!   [`DiskModel::halves_sectors`] is set, some reach it by half.
//! - **Names**: creations, renames and removals become durable with the sync of their directory; a loss of power keeps
//!   a prefix of those pending in each directory, chosen at random.
//! - **Length**: a file's new length may survive without its content (zeros), content never without its length. A cut is
//!   kept as a whole or not at all.
//! - **End of the process alone**: nothing is lost, but what was not durable still is not.
//! - **Errors**: see [`crate::fuse`]. A write that is struck may have written some of its sectors; after a sync that is struck the
//!   pages count as clean although some never reached the medium, as on Linux.
//!
//! One seed decides everything. What the model does not have: rot, misdirected writes.

mod medium;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quoin_runtime::disk::{DIR_MODE, Disk, DiskFile, FILE_MODE};

use crate::fuse::{Fuse, Touch};
use medium::{Medium, Node, SECTOR_BYTES};

/// How a disk behaves. The default is honest.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskModel {
    /// Syncs of files do nothing.
    pub forgets_data: bool,
    /// Syncs of directories do nothing.
    pub forgets_names: bool,
    /// A loss of power may leave sectors half written.
    pub halves_sectors: bool,
}

/// A disk in memory, shared by all its handles.
#[derive(Clone, Debug)]
pub struct SimDisk {
    medium: Arc<Mutex<Medium>>,
    fuse: Fuse,
}

impl SimDisk {
    /// An empty disk; `seed` decides what every loss of power keeps.
    #[must_use]
    pub fn new(seed: u64, fuse: Fuse) -> Self {
        Self {
            medium: Arc::new(Mutex::new(Medium::new(seed))),
            fuse,
        }
    }

    /// A copy of the disk as it is, behind a fuse of its own.
    #[must_use]
    pub fn fork(&self, fuse: Fuse) -> Self {
        Self {
            medium: Arc::new(Mutex::new(self.lock().clone())),
            fuse,
        }
    }

    /// Behaves as `model` from now on.
    pub fn set_model(&self, model: DiskModel) {
        self.lock().model = model;
    }

    /// Loses power and comes back.
    pub fn lose_power(&self) {
        self.lock().lose_power();
    }

    /// The names in a directory, without a call that could be the last.
    #[must_use]
    pub fn peek(&self, path: &Path) -> Vec<String> {
        let medium = self.lock();
        directory(&medium, path)
            .map(|directory| medium.children(directory))
            .unwrap_or_default()
    }

    /// Ends the process and nothing else.
    pub fn end_process(&self) {
        self.lock().end_life();
    }

    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the point of a call.
    fn enter(&self, touch: Touch) -> io::Result<MutexGuard<'_, Medium>> {
        self.fuse.call(touch)?;
        Ok(self.lock())
    }

    fn handle(&self, inode: usize, life: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            disk: self.clone(),
            inode,
            life,
        })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.enter(Touch::Create)?;
        let mut missing: Vec<&Path> = path
            .ancestors()
            .take_while(|above| medium.find(above).is_none())
            .collect();
        missing.reverse();
        for directory in missing {
            medium.add(directory, true)?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut medium = self.enter(Touch::Create)?;
        if medium.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = medium.add(path, false)?;
        Ok(self.handle(inode, medium.life))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let medium = self.enter(Touch::Look)?;
        match medium.find(path) {
            Some(Node::File(inode)) => Ok(self.handle(inode, medium.life)),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let medium = self.enter(Touch::Look)?;
        Ok(medium.children(directory(&medium, path)?))
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        let medium = self.enter(Touch::Look)?;
        match medium.find(path) {
            Some(Node::Directory(_)) => Ok(DIR_MODE),
            Some(Node::File(_)) => Ok(FILE_MODE),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut medium = self.enter(Touch::Rename)?;
        medium.find(from).ok_or(io::ErrorKind::NotFound)?;
        medium.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.enter(Touch::Remove)?;
        match medium.find(path) {
            Some(Node::File(_)) => medium.remove(path),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.enter(Touch::Remove)?;
        match medium.find(path) {
            Some(Node::Directory(_)) => medium.remove(path),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Ok(()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.enter(Touch::SyncDir)?;
        let directory = directory(&medium, path)?;
        if !medium.model.forgets_names {
            medium.sync_names(directory);
        }
        Ok(())
    }
}

fn directory(medium: &Medium, path: &Path) -> io::Result<usize> {
    match medium.find(path) {
        Some(Node::Directory(directory)) => Ok(directory),
        Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// An open file of a [`SimDisk`], usable only in the process life that opened it.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
}

impl SimFile {
    fn enter(&self, touch: Touch) -> io::Result<MutexGuard<'_, Medium>> {
        self.check_life(self.disk.enter(touch)?)
    }

    fn check_life<'a>(&self, medium: MutexGuard<'a, Medium>) -> io::Result<MutexGuard<'a, Medium>> {
        if medium.life == self.life {
            Ok(medium)
        } else {
            Err(io::Error::other("a file of an earlier process life"))
        }
    }

    /// The medium, for what an error leaves behind; nothing if the process is dead.
    fn after_error(&self) -> Option<MutexGuard<'_, Medium>> {
        if self.disk.fuse.blown() {
            None
        } else {
            self.check_life(self.disk.lock()).ok()
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.enter(Touch::Look)?.inodes[self.inode].current.len() as u64)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        self.enter(Touch::Preallocate)?.inodes[self.inode].extend(len);
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let medium = self.enter(Touch::Read)?;
        let bytes = &medium.inodes[self.inode].current;
        let start = to_usize(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.enter(Touch::Sync) {
            Ok(mut medium) => {
                if !medium.model.forgets_data {
                    medium.inodes[self.inode].sync();
                }
                Ok(())
            }
            Err(error) => {
                if let Some(mut medium) = self.after_error() {
                    let Medium { inodes, prng, .. } = &mut *medium;
                    inodes[self.inode].sync_fails(prng);
                }
                Err(error)
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        self.enter(Touch::Truncate)?.inodes[self.inode].truncate(len);
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut medium = self.enter(Touch::Look)?;
        let life = medium.life;
        Ok(*medium.locks.entry(self.inode).or_insert(life) == life)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = to_usize(offset)?;
        match self.enter(Touch::Write) {
            Ok(mut medium) => {
                medium.inodes[self.inode].write(start, bytes);
                Ok(())
            }
            Err(error) => {
                if let Some(mut medium) = self.after_error() {
                    let sectors = medium.prng.below(bytes.len().div_ceil(SECTOR_BYTES) as u64 + 1);
                    let end = (start / SECTOR_BYTES + to_usize(sectors)?) * SECTOR_BYTES;
                    let written = end.saturating_sub(start).min(bytes.len());
                    medium.inodes[self.inode].write(start, &bytes[..written]);
                }
                Err(error)
            }
        }
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}
