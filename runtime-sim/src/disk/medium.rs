//! What lies on a simulated disk, what of it is durable, and what a loss of power leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};

use quoin_core::random::Prng;

use super::DiskModel;

/// Bytes that reach the medium together.
pub(super) const SECTOR_BYTES: usize = 512;

/// The number of the root directory.
const ROOT: usize = 0;

/// What a name stands for, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory(usize),
    File(usize),
}

/// A change of the names in one directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add(OsString, Node),
    Remove(OsString),
    Rename(OsString, OsString),
}

type Names = BTreeMap<OsString, Node>;

/// A directory's names.
#[derive(Clone, Debug, Default)]
struct Directory {
    current: Names,
    durable: Names,
    /// Changes not yet durable, oldest first.
    pending: Vec<NameChange>,
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What processes read.
    pub(super) current: Vec<u8>,
    /// What a loss of power leaves at least.
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
    /// The shortest the file has been since the last sync, if it was cut.
    cut: Option<usize>,
}

/// The whole disk. The first directory is the root.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    directories: Vec<Directory>,
    pub(super) inodes: Vec<Inode>,
    /// Which process life holds the lock of an inode.
    pub(super) locks: BTreeMap<usize, u64>,
    /// Counts process lives: files and locks of an earlier one are void.
    pub(super) life: u64,
    pub(super) model: DiskModel,
    pub(super) prng: Prng,
}

/// How much of what was not synced a loss of power leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Everything,
    Nothing,
    Some,
}

impl Inode {
    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[start..end].copy_from_slice(bytes);
        self.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    pub(super) fn extend(&mut self, len: usize) {
        if self.current.len() < len {
            self.current.resize(len, 0);
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.current.len() {
            self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
            self.dirty.retain(|sector| sector * SECTOR_BYTES < len);
        }
        self.current.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        self.settle_length();
        for sector in std::mem::take(&mut self.dirty) {
            self.keep_sector(sector, SECTOR_BYTES);
        }
    }

    /// A sync that fails: nothing more of the file counts as written, and which of its sectors are durable is left to chance.
    /// The process goes on reading what it wrote.
    pub(super) fn sync_fails(&mut self, prng: &mut Prng) {
        self.settle_length();
        for sector in std::mem::take(&mut self.dirty) {
            if prng.below(2) == 0 {
                self.keep_sector(sector, SECTOR_BYTES);
            }
        }
    }

    fn settle_length(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.durable.truncate(cut);
        }
        self.durable.resize(self.current.len(), 0);
    }

    /// Makes the first `count` bytes of a sector durable, as far as the durable length reaches.
    fn keep_sector(&mut self, sector: usize, count: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + count).min(self.current.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.current[start..end]);
        }
    }

    fn lose_power(&mut self, loss: Loss, halves_sectors: bool, prng: &mut Prng) {
        if self.dirty.is_empty() && self.cut.is_none() && self.current.len() == self.durable.len() {
            if self.current != self.durable {
                // Left by a sync that failed.
                self.current.clone_from(&self.durable);
            }
            return;
        }
        let keeps = |prng: &mut Prng| match loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Some => prng.below(2) == 0,
        };
        let cut = self.cut.take();
        if cut.is_some() && !keeps(prng) {
            // What came after the cut is lost with it.
            self.dirty.clear();
        } else {
            self.durable.truncate(cut.unwrap_or(usize::MAX));
            if keeps(prng) {
                self.durable.resize(self.current.len(), 0);
            }
        }
        for sector in std::mem::take(&mut self.dirty) {
            if loss == Loss::Some && halves_sectors && prng.below(3) == 0 {
                let half = usize::try_from(prng.below(SECTOR_BYTES as u64)).unwrap_or(0);
                self.keep_sector(sector, half);
            } else if keeps(prng) {
                self.keep_sector(sector, SECTOR_BYTES);
            }
        }
        self.current.clone_from(&self.durable);
    }
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    /// A loss of power keeps the changes up to one chosen at random.
    fn lose_power(&mut self, prng: &mut Prng) {
        for change in std::mem::take(&mut self.pending) {
            if prng.below(4) == 0 {
                break;
            }
            change.apply(&mut self.durable);
        }
        self.current.clone_from(&self.durable);
    }

    /// Everything a name stands for, or may again after a loss of power.
    fn nodes(&self) -> impl Iterator<Item = Node> {
        let pending = self.pending.iter().filter_map(|change| match change {
            NameChange::Add(_, node) => Some(node),
            NameChange::Remove(_) | NameChange::Rename(..) => None,
        });
        self.current
            .values()
            .chain(self.durable.values())
            .chain(pending)
            .copied()
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, node) => drop(names.insert(name.clone(), *node)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Medium {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            directories: vec![Directory::default()],
            inodes: Vec::new(),
            locks: BTreeMap::new(),
            life: 0,
            model: DiskModel::default(),
            prng: Prng::new(seed).fork("disk"),
        }
    }

    /// Power is lost.
    pub(super) fn lose_power(&mut self) {
        let loss = match self.prng.below(3) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Some,
        };
        let halves_sectors = self.model.halves_sectors;
        let Self {
            directories,
            inodes,
            prng,
            ..
        } = self;
        for directory in directories {
            directory.lose_power(prng);
        }
        for inode in inodes {
            inode.lose_power(loss, halves_sectors, prng);
        }
        self.end_life();
    }

    /// The process ends; locks and open files go with it, and so do the bytes of files that have no name any more.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        let mut named = BTreeSet::new();
        let mut walk = vec![ROOT];
        while let Some(directory) = walk.pop() {
            for node in self.directories[directory].nodes() {
                match node {
                    Node::Directory(below) => walk.push(below),
                    Node::File(inode) => drop(named.insert(inode)),
                }
            }
        }
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&number) && !inode.current.is_empty() {
                *inode = Inode::default();
            }
        }
    }

    /// What a path stands for.
    pub(super) fn find(&self, path: &Path) -> Option<Node> {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut node = Node::Directory(ROOT);
        for name in names {
            let Node::Directory(directory) = node else { return None };
            node = *self.directories[directory].current.get(name)?;
        }
        Some(node)
    }

    /// A new file or directory under a path whose parent is there and which is not.
    pub(super) fn add(&mut self, path: &Path, is_directory: bool) -> io::Result<usize> {
        let (directory, name) = self.place(path)?;
        let (node, number) = if is_directory {
            self.directories.push(Directory::default());
            (Node::Directory(self.directories.len() - 1), self.directories.len() - 1)
        } else {
            self.inodes.push(Inode::default());
            (Node::File(self.inodes.len() - 1), self.inodes.len() - 1)
        };
        self.directories[directory].change(NameChange::Add(name, node));
        Ok(number)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        self.directories[directory].change(NameChange::Remove(name));
        Ok(())
    }

    /// Renames within a directory; nobody here moves things from one to another.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((directory, from), (other, to)) = (self.place(from)?, self.place(to)?);
        if directory != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.directories[directory].change(NameChange::Rename(from, to));
        Ok(())
    }

    pub(super) fn sync_names(&mut self, directory: usize) {
        self.directories[directory].sync();
    }

    /// The names in a directory.
    pub(super) fn children(&self, directory: usize) -> Vec<String> {
        self.directories[directory]
            .current
            .keys()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// The directory that a path is in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let parent = path.parent().and_then(|parent| self.find(parent));
        match (parent, path.file_name()) {
            (Some(Node::Directory(directory)), Some(name)) => Ok((directory, name.to_owned())),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
