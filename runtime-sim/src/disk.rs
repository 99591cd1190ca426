//! A simulated disk that forgets what was not synced.
//!
//! # Fault model
//! - **Crash**: of every file, each 512-byte sector written since its last sync is independently kept, lost or half
//!   written; in a third of the crashes all of them are lost, in another third all are kept.
//! - **Metadata**: creations, renames and removals become durable with the sync of their directory; a crash keeps a
//!   prefix of those pending in each directory, chosen at random.
//! - **Length**: a file's new length may survive without its content (zeros), and content never without its length.
//! - **Errors**: every call can be made to fail, with any kind of error, from a chosen call on.
//!
//! A crash strikes *at a call*: the call and all later ones fail until [`SimDisk::restart`], so that the code under
//! test is cut off exactly there. One seed decides everything. What the model does not have: rot, misdirected writes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quoin_core::random::Prng;
use quoin_runtime::disk::{DIR_MODE, Disk, DiskFile, FILE_MODE};

/// Bytes that reach the medium together.
const SECTOR_BYTES: usize = 512;

/// A disk in memory, shared by all its handles.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
struct World {
    /// What processes see.
    names: BTreeMap<PathBuf, Node>,
    /// What a crash leaves.
    durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names not yet durable, oldest first.
    pending: Vec<NameChange>,
    inodes: Vec<Inode>,
    locks: BTreeMap<usize, u64>,
    /// Counts process lives, so that a lock of an earlier one is void.
    life: u64,
    calls: u64,
    crash_at: Option<u64>,
    fail_at: Option<(u64, io::ErrorKind)>,
    prng: Prng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: std::collections::BTreeSet<usize>,
}

impl SimDisk {
    /// An empty disk; `seed` decides what every crash keeps.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            inodes: Vec::new(),
            locks: BTreeMap::new(),
            life: 0,
            calls: 0,
            crash_at: None,
            fail_at: None,
            prng: Prng::new(seed).fork("disk"),
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Calls made so far that touch the medium.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets the process die at the `ahead`-th call from here (0 is the next one), before it has any effect.
    pub fn crash_after(&self, ahead: u64) {
        let mut world = self.lock();
        world.crash_at = Some(world.calls + ahead);
    }

    /// Lets every call from the `ahead`-th on fail with an error of `kind`, until [`SimDisk::heal`].
    pub fn fail_after(&self, ahead: u64, kind: io::ErrorKind) {
        let mut world = self.lock();
        world.fail_at = Some((world.calls + ahead, kind));
    }

    /// Ends what [`SimDisk::fail_after`] began.
    pub fn heal(&self) {
        self.lock().fail_at = None;
    }

    /// Whether a crash point was reached since the last restart.
    #[must_use]
    pub fn crashed(&self) -> bool {
        let world = self.lock();
        world.crash_at.is_some_and(|at| world.calls > at)
    }

    /// Loses power and comes back: unsynced bytes and names go the way the seed decides, locks are void.
    pub fn restart(&self) {
        let mut world = self.lock();
        world.lose_names();
        world.lose_sectors();
        world.life += 1;
        world.locks.clear();
        world.crash_at = None;
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and fails it if a crash or an injected error is due.
    fn enter(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.lock();
        let call = world.calls;
        world.calls += 1;
        if world.crash_at.is_some_and(|at| call >= at) {
            return Err(io::Error::other("simulated crash"));
        }
        match world.fail_at {
            Some((at, kind)) if call >= at => Err(io::Error::new(kind, "injected disk error")),
            _ => Ok(world),
        }
    }
}

impl World {
    fn lose_names(&mut self) {
        let mut kept_of: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for change in std::mem::take(&mut self.pending) {
            let parent = change.parent().to_owned();
            let fate = self.prng.below(4) != 0;
            let alive = kept_of.entry(parent).or_insert(true);
            *alive &= fate;
            if *alive {
                change.apply(&mut self.durable_names);
            }
        }
        // A name below a directory that was never durable is gone with it.
        let durable = self.durable_names.clone();
        self.durable_names.retain(|path, _| {
            path.parent().is_none_or(|parent| {
                parent.as_os_str().is_empty() || parent == Path::new("/") || durable.contains_key(parent)
            })
        });
        self.names = self.durable_names.clone();
    }

    fn lose_sectors(&mut self) {
        let mode = self.prng.below(3);
        for inode in &mut self.inodes {
            let mut after = inode.durable.clone();
            if mode != 0 && (mode == 1 || self.prng.below(2) == 0) {
                after.resize(inode.current.len(), 0);
            }
            for sector in std::mem::take(&mut inode.dirty) {
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(inode.current.len()).min(after.len());
                let kept = match (mode, self.prng.below(3)) {
                    (0, _) | (2, 0) => 0,
                    (1, _) | (2, 1) => SECTOR_BYTES,
                    _ => usize::try_from(self.prng.below(SECTOR_BYTES as u64)).unwrap_or(0),
                };
                let end = end.min(start + kept);
                if start < end {
                    after[start..end].copy_from_slice(&inode.current[start..end]);
                }
            }
            inode.current.clone_from(&after);
            inode.durable = after;
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        path == Path::new("/") || path.as_os_str().is_empty() || self.names.get(path) == Some(&Node::Directory)
    }
}

impl NameChange {
    fn parent(&self) -> &Path {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(_, path)) = self;
        path.parent().unwrap_or_else(|| Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Rename(from, to) => {
                let moved: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(from)).cloned().collect();
                if !moved.is_empty() {
                    names.retain(|name, _| !name.starts_with(to) || name.starts_with(from));
                }
                for name in moved {
                    let node = names.remove(&name).expect("it was just listed");
                    let below = name.strip_prefix(from).expect("it starts with `from`");
                    let target = if below.as_os_str().is_empty() {
                        to.clone()
                    } else {
                        to.join(below)
                    };
                    names.insert(target, node);
                }
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        let mut missing: Vec<&Path> = path
            .ancestors()
            .filter(|ancestor| !world.is_directory(ancestor))
            .collect();
        missing.reverse();
        for directory in missing {
            world.change(NameChange::Add(directory.to_owned(), Node::Directory));
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.enter()?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|parent| world.is_directory(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.change(NameChange::Add(path.to_owned(), Node::File(inode)));
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
            life: world.life,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let world = self.enter()?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode: world.file(path)?,
            life: world.life,
        }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.enter()?;
        if !world.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = world.names.keys().filter(|name| name.parent() == Some(path));
        Ok(children
            .filter_map(|name| name.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        let world = self.enter()?;
        match world.names.get(path) {
            Some(Node::Directory) => Ok(DIR_MODE),
            Some(Node::File(_)) => Ok(FILE_MODE),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        world.file(path)?;
        world.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        if world.is_directory(path) {
            world.change(NameChange::Remove(path.to_owned()));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.enter()?;
        if !world.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (durable, pending) = std::mem::take(&mut world.pending)
            .into_iter()
            .partition(|change| change.parent() == path);
        world.pending = pending;
        let durable: Vec<NameChange> = durable;
        for change in durable {
            change.apply(&mut world.durable_names);
        }
        Ok(())
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
    fn enter(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.enter()?;
        if world.life == self.life {
            Ok(world)
        } else {
            Err(io::Error::other("a file of an earlier process life"))
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.enter()?.inodes[self.inode].current.len() as u64)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        let mut world = self.enter()?;
        let inode = &mut world.inodes[self.inode];
        if inode.current.len() < len {
            inode.current.resize(len, 0);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let world = self.enter()?;
        let bytes = &world.inodes[self.inode].current;
        let start = to_usize(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut world = self.enter()?;
        let inode = &mut world.inodes[self.inode];
        inode.durable.clone_from(&inode.current);
        inode.dirty.clear();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        let mut world = self.enter()?;
        let inode = &mut world.inodes[self.inode];
        inode.current.resize(len, 0);
        inode.dirty.retain(|sector| sector * SECTOR_BYTES < len);
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut world = self.enter()?;
        let life = world.life;
        Ok(*world.locks.entry(self.inode).or_insert(life) == life)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = to_usize(offset)?;
        let mut world = self.enter()?;
        let inode = &mut world.inodes[self.inode];
        let end = start + bytes.len();
        if inode.current.len() < end {
            inode.current.resize(end, 0);
        }
        inode.current[start..end].copy_from_slice(bytes);
        inode.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(())
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file(seed: u64) -> (SimDisk, Box<dyn DiskFile>) {
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        (disk, file)
    }

    fn content(disk: &SimDisk) -> Option<Vec<u8>> {
        quoin_runtime::disk::read_all(disk, Path::new("/d/f")).ok()
    }

    #[test]
    fn synced_bytes_under_a_synced_name_survive_every_crash() {
        for seed in 0..200 {
            let (disk, mut file) = disk_with_file(seed);
            file.write_at(0, b"kept").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(4, &[1; 4000]).unwrap();
            disk.restart();
            assert_eq!(content(&disk).unwrap()[..4], *b"kept", "seed {seed}");
        }
    }

    #[test]
    fn unsynced_bytes_and_names_are_lost_in_some_crashes_and_kept_in_others() {
        let outcomes: std::collections::BTreeSet<_> = (0..200)
            .map(|seed| {
                let (disk, mut file) = disk_with_file(seed);
                file.write_at(0, &[7; 1024]).unwrap();
                disk.restart();
                content(&disk).map(|bytes| bytes.iter().filter(|byte| **byte == 7).count())
            })
            .collect();
        assert!(outcomes.contains(&None), "the name is lost");
        assert!(outcomes.contains(&Some(1024)), "everything is kept");
        assert!(outcomes.contains(&Some(0)), "the bytes are lost");
        assert!(outcomes.len() > 10, "sectors are torn");
    }

    #[test]
    fn nothing_happens_after_the_crash_until_the_restart() {
        let (disk, mut file) = disk_with_file(1);
        disk.crash_after(1);
        file.write_at(0, b"a").unwrap();
        assert!(!disk.crashed());
        file.write_at(1, b"b").unwrap_err();
        assert!(disk.crashed());
        file.sync_data().unwrap_err();
        disk.restart();
        file.len().unwrap_err();
    }

    #[test]
    fn a_rename_is_all_or_nothing() {
        for seed in 0..100 {
            let (disk, mut file) = disk_with_file(seed);
            file.write_at(0, b"x").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
            disk.restart();
            assert_eq!(disk.list(Path::new("/d")).unwrap().len(), 1, "seed {seed}");
        }
    }
}
