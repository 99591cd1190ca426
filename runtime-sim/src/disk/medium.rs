//! What lies on a simulated disk, what of it is durable, and what a loss of power leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quoin_core::random::Prng;

use super::DiskModel;

/// Bytes that reach the medium together.
pub(super) const SECTOR_BYTES: usize = 512;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
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

/// The whole disk.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    pub(super) names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names not yet durable, oldest first.
    pending: Vec<NameChange>,
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

    /// A sync that fails: nothing more of the file counts as written, and what is durable of it is left to chance. The
    /// process goes on reading what it wrote.
    pub(super) fn sync_fails(&mut self, prng: &mut Prng) {
        if self.cut.is_some() || prng.below(2) == 0 {
            self.settle_length();
        }
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

impl Medium {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            inodes: Vec::new(),
            locks: BTreeMap::new(),
            life: 0,
            model: DiskModel::default(),
            prng: Prng::new(seed).fork("disk"),
        }
    }

    /// Power is lost.
    pub(super) fn lose_power(&mut self) {
        self.lose_names();
        let loss = match self.prng.below(3) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Some,
        };
        let halves_sectors = self.model.halves_sectors;
        let Self { inodes, prng, .. } = self;
        for inode in inodes {
            if !inode.dirty.is_empty() || inode.current.len() != inode.durable.len() || inode.cut.is_some() {
                inode.lose_power(loss, halves_sectors, prng);
            } else if inode.current != inode.durable {
                // Left by a sync that failed.
                inode.current.clone_from(&inode.durable);
            }
        }
        self.end_life();
    }

    /// The process ends; locks and open files go with it, and so do the bytes of files that have no name any more.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        let pending = self.pending.iter().filter_map(|change| match change {
            NameChange::Add(_, node) => Some(node),
            NameChange::Remove(_) | NameChange::Rename(..) => None,
        });
        let named: BTreeSet<usize> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .chain(pending)
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Directory => None,
            })
            .collect();
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&number) && !inode.current.is_empty() {
                *inode = Inode::default();
            }
        }
    }

    /// Of the changes of names in each directory, a loss of power keeps those up to one chosen at random.
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
            path.ancestors()
                .skip(1)
                .all(|above| is_root(above) || durable.contains_key(above))
        });
        self.names = self.durable_names.clone();
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    pub(super) fn sync_names(&mut self, directory: &Path) {
        let changes = std::mem::take(&mut self.pending);
        for change in changes {
            if change.parent() == directory {
                change.apply(&mut self.durable_names);
            } else {
                self.pending.push(change);
            }
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        is_root(path) || self.names.get(path) == Some(&Node::Directory)
    }
}

fn is_root(path: &Path) -> bool {
    path == Path::new("/") || path.as_os_str().is_empty()
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
