//! A simulated disk: its losses, its errors, its rot, and its speed.
//!
//! One seed decides everything; loss of power, rot and speed have random numbers of their own. A fault is counted when
//! it has an effect ([`SimDisk::set_struck`]): a loss of power that finds everything synced counts nothing.
//! [`SimTable`](crate::table::SimTable) is the same for rows.
//!
//! # Loss of power: [`SimDisk::lose_power`]
//!
//! What was synced stays. For the rest there are four outcomes ([`Loss`], drawn unless [`DiskModel::loss`] is set): all
//! of it is lost, all is kept, each block by itself is lost or kept, or everything written before some moment is kept
//! on the whole disk (a prefix, as on an ordered file system).
//!
//! - **`LostSectors`**: a sector of 512 bytes written since the file's last sync reads as before. With
//!   [`Blocks::Large`] eight of them share their fate.
//! - **`TornSector`**: a sector reads as new up to some byte and as old from there. Only where
//!   [`DiskModel::halves_sectors`] is set; otherwise blocks reach the medium whole.
//! - **`ZeroTail`**: the file has its new length and zeros for content. Content never survives without its length. A cut
//!   survives as a whole or not at all; if not, the bytes written after it are lost with it.
//! - **`LostNames`**: creations, renames and removals become durable with the sync of their directory. Of those pending
//!   in each directory a prefix survives.
//!
//! The end of the process alone ([`SimDisk::end_process`]) loses nothing, but what was not durable still is not.
//!
//! # Errors: [`Fuse::fail`](crate::fuse::Fuse::fail), [`SimDisk::fail`]
//!
//! Each names a kind of call, how many calls it spares first, and how many it strikes: one, several, or all until
//! [`Fuse::mend`](crate::fuse::Fuse::mend).
//!
//! - **`WriteError`**: a write, creation, rename, removal, preallocation or cut fails. A write may have written some of its
//!   first sectors; anything else has done nothing.
//! - **`NoSpace`**: the same with the error of a full disk.
//! - **`ReadError`**: a read fails; nothing was read.
//! - **`SyncError`**: a sync fails, with either error. The file's pages count as clean all the same, as on Linux, although
//!   only some of them, by the toss of a coin, reached the medium: the process reads what it wrote, the next sync succeeds
//!   and does nothing for them, and a loss of power takes them. Only writing them again helps. Names stay pending.
//! - **`SilentSyncError`**: the same, and the call reports success (Linux before 4.13).
//!
//! Not possible at this seam: short writes and interrupted calls. A call writes all or fails, because the real disk loops.
//!
//! # Rot: [`SimDisk::rot`], [`SimDisk::rot_at`]
//!
//! Durable bytes change without a write, aimed by [`Target`]. The running process reads the change too, as if the page
//! had just been evicted. Sectors with a pending write are spared, because the write would hide the rot.
//!
//! - **`RottenBit`**: one bit.
//! - **`SmearedBytes`**: up to 64 bytes of one sector, each of them.
//! - **`ZeroedSector`**: a sector that was not.
//! - **`StaleSector`**: a sector goes back to what the medium had before its last write: that write was lost.
//! - **`SwappedSectors`**: two sectors of what is aimed at: a misdirected write, or read.
//!
//! # Time: [`SimDisk::take_cost`]
//!
//! Calls take no virtual time. They add up to a cost, drawn by kind of call (a sync 0.2 to 2 ms), and the world lets
//! that time pass before a lane reports.
//!
//! - **`SlowDisk`**: every call takes a multiple of its time, and longer by something drawn ([`SimDisk::set_slow`]).
//! - **`StalledDisk`**: no call ends before some moment ([`SimDisk::set_stall`]).
//!
//! # Loss of the disk
//!
//! - **`LostDisk`**: [`SimDisk::wipe`].
//! - **`OldBackup`**: [`Backup::restore`].
//!
//! # Truth
//!
//! [`SimDisk::is_durable`] returns whether a directory would survive a loss of power unchanged, whatever results lanes
//! got.

mod backup;
mod image;
mod inode;
mod medium;
mod outage;
mod pace;
mod rot;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quoin_core::time::Instant;
use quoin_runtime::disk::{DIR_MODE, Disk, DiskFile, FILE_MODE};

use crate::faults::{FaultKind, Struck};
use crate::fuse::{Failure, Fuse, Passage, Touch};
use image::SECTOR_BYTES;
use medium::{Medium, Node};

pub use backup::Backup;
pub use outage::{Blocks, Loss};
pub use pace::Delay;
pub(crate) use pace::Pace;
pub use rot::{Hit, Rot, Target};

/// The behaviour of a disk. The default has no defects.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskModel {
    /// Syncs of files have no effect.
    pub forgets_data: bool,
    /// Syncs of directories have no effect.
    pub forgets_names: bool,
    /// A loss of power may leave blocks half written.
    pub halves_sectors: bool,
    /// The bytes that reach the medium together.
    pub blocks: Blocks,
    /// The outcome of a loss of power; drawn if it is `None`.
    pub loss: Option<Loss>,
}

/// A disk in memory, shared by all its handles.
#[derive(Clone, Debug)]
pub struct SimDisk {
    medium: Arc<Mutex<Medium>>,
    fuse: Fuse,
}

impl SimDisk {
    /// An empty disk; `seed` determines what every loss of power keeps.
    #[must_use]
    pub fn new(seed: u64, fuse: Fuse) -> Self {
        Self {
            medium: Arc::new(Mutex::new(Medium::new(seed))),
            fuse,
        }
    }

    /// A copy of the disk, behind a fuse of its own.
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

    /// Counts its faults, and the errors of its fuse, in `struck`.
    pub fn set_struck(&self, struck: &Struck) {
        self.lock().struck = struck.clone();
        self.fuse.set_struck(struck);
    }

    /// Plans an error for this disk, and for everything that shares its fuse.
    pub fn fail(&self, failure: Failure) {
        self.fuse.fail(failure);
    }

    /// Loses power and comes back.
    pub fn lose_power(&self) {
        let mut medium = self.lock();
        let loss = medium.model.loss;
        medium.lose_power(loss);
    }

    /// Loses all files, as if replaced by another disk. The table's rows go with their directory.
    pub fn wipe(&self) {
        self.lock().wipe();
    }

    /// Lets durable bytes rot, drawn from those of `target` under a path; `None` if none can rot like that.
    pub fn rot(&self, target: Target, rot: Rot, under: &Path) -> Option<Hit> {
        self.lock().rot(target, rot, under)
    }

    /// Lets the byte at `offset` of a file rot, or its sector; `None` if it is not durable or would not change.
    pub fn rot_at(&self, path: &Path, offset: u64, rot: Rot) -> Option<Hit> {
        self.lock().rot_at(path, usize::try_from(offset).ok()?, rot)
    }

    /// From now on every call takes `factor` times its time plus `extra` in the mean; 1 and zero are a good disk.
    pub fn set_slow(&self, factor: u32, extra: Duration) {
        let delay = &mut self.lock().pace.delay;
        (delay.factor, delay.extra) = (factor, extra);
    }

    /// No call ends before this moment.
    pub fn set_stall(&self, until: Instant) {
        self.lock().pace.delay.stalled_until = until;
    }

    /// Its slowness.
    #[must_use]
    pub fn delay(&self) -> Delay {
        self.lock().pace.delay
    }

    /// How long the calls since the last question take together, if the first of them begins `now`.
    pub fn take_cost(&self, now: Instant) -> Duration {
        let Medium { pace, struck, .. } = &mut *self.lock();
        pace.take(now, struck)
    }

    /// Whether a loss of power now would keep everything written and named in the directory `path`, and its own name.
    ///
    /// Files called `*.tmp` or `*.broken` do not count, nor do removals: no promise depends on them. After a sync that
    /// failed this is false, whatever the sync returned, until what was not written is written and synced again.
    #[must_use]
    pub fn is_durable(&self, path: &Path) -> bool {
        self.lock().is_durable(path)
    }

    /// The names in a directory, read without passing a point.
    #[must_use]
    pub fn peek(&self, path: &Path) -> Vec<String> {
        let medium = self.lock();
        directory(&medium, path)
            .map(|directory| medium.children(directory))
            .unwrap_or_default()
    }

    /// Ends the process, without a loss of power.
    pub fn end_process(&self) {
        self.lock().end_life();
    }

    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the point of a call.
    fn enter(&self, touch: Touch) -> io::Result<MutexGuard<'_, Medium>> {
        Ok(self.enter_sync(touch)?.0)
    }

    /// Passes the point of a call that may fail without an error.
    fn enter_sync(&self, touch: Touch) -> io::Result<(MutexGuard<'_, Medium>, Passage)> {
        let passage = self.fuse.enter(touch)?;
        let mut medium = self.lock();
        medium.pace.charge(touch);
        Ok((medium, passage))
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
        let (mut medium, passage) = self.enter_sync(Touch::SyncDir)?;
        let directory = directory(&medium, path)?;
        match passage {
            Passage::Works if medium.model.forgets_names => {}
            Passage::Works => medium.sync_names(directory),
            Passage::FailsSilently => {
                if medium.has_unsynced_names(directory) {
                    medium.struck.note(FaultKind::SilentSyncError);
                }
            }
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

    /// The medium, for the effects of an error; `None` if the process is dead.
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
        Ok(self.enter(Touch::Look)?.inode(self.inode).current.len() as u64)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        let mut medium = self.enter(Touch::Preallocate)?;
        medium.change(self.inode, |node, clock, _| node.extend(len, clock));
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let medium = self.enter(Touch::Read)?;
        Ok(medium.inode(self.inode).current.read(to_usize(offset)?, buffer))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.disk.enter_sync(Touch::Sync) {
            Ok((medium, passage)) => {
                let mut medium = self.check_life(medium)?;
                match passage {
                    Passage::Works if medium.model.forgets_data => {}
                    Passage::Works => medium.change(self.inode, |node, _, _| node.sync()),
                    Passage::FailsSilently => {
                        if !medium.inode(self.inode).is_settled() {
                            medium.struck.note(FaultKind::SilentSyncError);
                        }
                        medium.change(self.inode, |node, _, prng| node.sync_fails(prng));
                    }
                }
                Ok(())
            }
            Err(error) => {
                if let Some(mut medium) = self.after_error() {
                    medium.change(self.inode, |node, _, prng| node.sync_fails(prng));
                }
                Err(error)
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        let mut medium = self.enter(Touch::Truncate)?;
        medium.change(self.inode, |node, clock, _| node.truncate(len, clock));
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
                medium.change(self.inode, |node, clock, _| node.write(start, bytes, clock));
                Ok(())
            }
            Err(error) => {
                if let Some(mut medium) = self.after_error() {
                    let sectors = medium.prng.below(bytes.len().div_ceil(SECTOR_BYTES) as u64 + 1);
                    let end = (start / SECTOR_BYTES + to_usize(sectors)?) * SECTOR_BYTES;
                    let written = end.saturating_sub(start).min(bytes.len());
                    medium.change(self.inode, |node, clock, _| node.write(start, &bytes[..written], clock));
                }
                Err(error)
            }
        }
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}
