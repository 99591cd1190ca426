//! The content of a simulated disk: directories, their names, and their files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use quoin_core::random::Prng;

use super::DiskModel;
use super::inode::Inode;
use super::outage::{Loss, Outage};
use super::pace::Pace;
use crate::faults::{FaultKind, Struck};

/// The number of the root directory.
const ROOT: usize = 0;

/// The target of a name, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory(usize),
    File(usize),
}

/// A change of the names in one directory.
#[derive(Clone, Debug)]
enum NameChange {
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
    /// Changes not yet durable, oldest first, each with its moment.
    pending: Vec<(u64, NameChange)>,
    /// The number of these changes that give a permanent name.
    unsynced_names: usize,
    /// The number of files with such names that are not durable.
    unsettled_files: usize,
    /// Whether its own name is durable.
    is_rooted: bool,
}

/// The whole disk. The first directory is the root.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    directories: Vec<Directory>,
    inodes: Vec<Inode>,
    /// Which process life holds the lock of an inode.
    pub(super) locks: BTreeMap<usize, u64>,
    /// Counts process lives: files and locks of an earlier one are void.
    pub(super) life: u64,
    /// Counts changes, so that they have an order.
    clock: u64,
    pub(super) model: DiskModel,
    pub(super) pace: Pace,
    pub(super) struck: Struck,
    /// The chance that decides what a loss of power and an error leave.
    pub(super) prng: Prng,
    /// The chance that decides what rots.
    pub(super) rot_prng: Prng,
}

impl NameChange {
    /// Carries out the change; returns the file that has no name in the directory any more, if any.
    fn apply(&self, names: &mut Names) -> Option<Node> {
        match self {
            Self::Add(name, node) => names.insert(name.clone(), *node),
            Self::Remove(name) => names.remove(name),
            Self::Rename(from, to) => {
                let node = names.remove(from)?;
                names.insert(to.clone(), node)
            }
        }
    }

    /// The name given, if it is permanent: temporary files carry no promise, and a removal withdraws none.
    fn lasting_name(&self) -> Option<&OsStr> {
        match self {
            Self::Add(name, _) | Self::Rename(_, name) => Some(name.as_os_str()).filter(|name| lasts(name)),
            Self::Remove(_) => None,
        }
    }
}

/// Whether a file with that name must be found again.
pub(super) fn lasts(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    !extension.is_some_and(|extension| extension == "tmp" || extension == "broken")
}

impl Directory {
    fn lose_power(&mut self, outage: &mut Outage<'_>) {
        if self.pending.is_empty() {
            return;
        }
        for (since, change) in std::mem::take(&mut self.pending) {
            if !outage.keeps_name(since) {
                break;
            }
            change.apply(&mut self.durable);
        }
        outage.lost_names |= self.current != self.durable;
        self.current.clone_from(&self.durable);
    }

    /// Every file that has a name, or may have one again after a loss of power.
    fn nodes(&self) -> impl Iterator<Item = Node> {
        let pending = self.pending.iter().filter_map(|(_, change)| match change {
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

impl Medium {
    pub(super) fn new(seed: u64) -> Self {
        let prng = Prng::new(seed);
        Self {
            directories: vec![root()],
            inodes: Vec::new(),
            locks: BTreeMap::new(),
            life: 0,
            clock: 0,
            model: DiskModel::default(),
            pace: Pace::new(seed, "disk pace"),
            struck: Struck::default(),
            prng: prng.fork("disk"),
            rot_prng: prng.fork("disk rot"),
        }
    }

    /// Power is lost.
    pub(super) fn lose_power(&mut self, loss: Option<Loss>) {
        let loss = loss.unwrap_or_else(|| match self.prng.below(8) {
            0 | 1 => Loss::Everything,
            2 | 3 => Loss::Nothing,
            4 => Loss::Ordered,
            _ => Loss::Random,
        });
        let names = self
            .directories
            .iter()
            .filter_map(|directory| Some(directory.pending.first()?.0));
        let oldest = self.inodes.iter().filter_map(Inode::unsynced_since).chain(names).min();
        let unsynced = oldest.unwrap_or(self.clock)..self.clock;
        let mut outage = Outage::new(loss, self.model, unsynced, &mut self.prng);
        for directory in &mut self.directories {
            directory.lose_power(&mut outage);
        }
        for inode in &mut self.inodes {
            inode.lose_power(&mut outage);
        }
        outage.note(&self.struck);
        self.end_life();
        self.count_again();
    }

    /// The process ends, and its locks and open files with it, as well as the bytes of files that have no name any
    /// more.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        let mut named = vec![false; self.inodes.len()];
        let mut walk = vec![ROOT];
        while let Some(directory) = walk.pop() {
            for node in self.directories[directory].nodes() {
                match node {
                    Node::Directory(below) => walk.push(below),
                    Node::File(inode) => named[inode] = true,
                }
            }
        }
        for (inode, _) in self.inodes.iter_mut().zip(named).filter(|(_, named)| !named) {
            if inode.current.len() > 0 {
                *inode = Inode::default();
            }
        }
    }

    /// Makes everything as durable as after a long time.
    pub(super) fn settle(&mut self) {
        for directory in &mut self.directories {
            directory.pending.clear();
            directory.durable.clone_from(&directory.current);
        }
        self.end_life();
        self.inodes.iter_mut().for_each(Inode::settle);
        self.count_again();
    }

    /// Removes everything.
    pub(super) fn wipe(&mut self) {
        if !self.directories[ROOT].current.is_empty() {
            self.struck.note(FaultKind::LostDisk);
        }
        self.replace(vec![root()], Vec::new());
    }

    /// Replaces all files by those of another disk.
    pub(super) fn restore(&mut self, other: &Self) {
        if self.clock != other.clock {
            self.struck.note(FaultKind::OldBackup);
        }
        self.replace(other.directories.clone(), other.inodes.clone());
    }

    fn replace(&mut self, directories: Vec<Directory>, inodes: Vec<Inode>) {
        self.directories = directories;
        self.inodes = inodes;
        self.locks.clear();
        self.life += 1;
        self.clock += 1;
    }

    /// The file or directory at a path.
    pub(super) fn find(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Directory(ROOT);
        for name in names(path) {
            let Node::Directory(directory) = node else { return None };
            node = *self.directories[directory].current.get(name)?;
        }
        Some(node)
    }

    /// Whether a loss of power would change nothing in a directory.
    pub(super) fn is_durable(&self, path: &Path) -> bool {
        let mut directory = &self.directories[ROOT];
        for name in names(path) {
            let Some(Node::Directory(below)) = directory.current.get(name) else {
                return false;
            };
            directory = &self.directories[*below];
            if !directory.is_rooted {
                return false;
            }
        }
        directory.unsynced_names == 0 && directory.unsettled_files == 0
    }

    /// All files, by path.
    pub(super) fn files(&self) -> Vec<(PathBuf, usize)> {
        let mut files = Vec::new();
        let mut walk = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, directory)) = walk.pop() {
            for (name, node) in &self.directories[directory].current {
                match node {
                    Node::Directory(below) => walk.push((path.join(name), *below)),
                    Node::File(inode) => files.push((path.join(name), *inode)),
                }
            }
        }
        files.sort_unstable();
        files
    }

    pub(super) fn inode(&self, inode: usize) -> &Inode {
        &self.inodes[inode]
    }

    /// Changes a file; the directory that has it learns whether it is settled.
    pub(super) fn change<T>(&mut self, inode: usize, act: impl FnOnce(&mut Inode, &mut u64, &mut Prng) -> T) -> T {
        let file = &mut self.inodes[inode];
        let was_settled = file.is_settled();
        let result = act(file, &mut self.clock, &mut self.prng);
        let is_settled = file.is_settled();
        if let Some(home) = file.home {
            let unsettled = &mut self.directories[home].unsettled_files;
            match (was_settled, is_settled) {
                (true, false) => *unsettled += 1,
                (false, true) => *unsettled -= 1,
                (true, true) | (false, false) => {}
            }
        }
        result
    }

    /// A new file or directory at a path that does not exist, in an existing directory.
    pub(super) fn add(&mut self, path: &Path, is_directory: bool) -> io::Result<usize> {
        let (directory, name) = self.place(path)?;
        let (node, number) = if is_directory {
            self.directories.push(Directory::default());
            (Node::Directory(self.directories.len() - 1), self.directories.len() - 1)
        } else {
            self.inodes.push(Inode::default());
            (Node::File(self.inodes.len() - 1), self.inodes.len() - 1)
        };
        self.settle_in(node, lasts(&name).then_some(directory));
        self.change_names(directory, NameChange::Add(name, node));
        Ok(number)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        self.change_names(directory, NameChange::Remove(name));
        Ok(())
    }

    /// Renames within a directory; a member never moves files between directories.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((directory, from), (other, to)) = (self.place(from)?, self.place(to)?);
        if directory != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let node = self.directories[directory].current.get(&from).copied();
        let home = lasts(&to).then_some(directory);
        self.change_names(directory, NameChange::Rename(from, to));
        if let Some(node) = node {
            self.settle_in(node, home);
        }
        Ok(())
    }

    pub(super) fn sync_names(&mut self, directory: usize) {
        let place = &mut self.directories[directory];
        let pending = std::mem::take(&mut place.pending);
        place.unsynced_names = 0;
        let gone: Vec<Node> = pending
            .iter()
            .filter_map(|(_, change)| change.apply(&mut place.durable))
            .collect();
        let below = pending.iter().filter_map(|(_, change)| match change {
            NameChange::Add(name, _) | NameChange::Rename(_, name) => place.durable.get(name).copied(),
            NameChange::Remove(_) => None,
        });
        let below: Vec<Node> = below.collect();
        for node in below {
            if let Node::Directory(below) = node {
                self.directories[below].is_rooted = true;
            }
        }
        for node in gone {
            if let Node::File(inode) = node {
                self.inodes[inode].unlink();
            }
        }
    }

    /// Whether a sync of that directory would have an effect.
    pub(super) fn has_unsynced_names(&self, directory: usize) -> bool {
        !self.directories[directory].pending.is_empty()
    }

    /// The names in a directory.
    pub(super) fn children(&self, directory: usize) -> Vec<String> {
        self.directories[directory]
            .current
            .keys()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    fn change_names(&mut self, directory: usize, change: NameChange) {
        let place = &mut self.directories[directory];
        if change.lasting_name().is_some() {
            place.unsynced_names += 1;
        }
        let gone = change.apply(&mut place.current);
        place.pending.push((self.clock, change));
        self.clock += 1;
        if let Some(node) = gone {
            self.settle_in(node, None);
        }
    }

    /// Files count in the directory of their permanent name; a directory's new name is not durable yet.
    fn settle_in(&mut self, node: Node, home: Option<usize>) {
        match node {
            Node::Directory(directory) => self.directories[directory].is_rooted = false,
            Node::File(inode) => {
                let file = &mut self.inodes[inode];
                let before = std::mem::replace(&mut file.home, home);
                if !file.is_settled() {
                    if let Some(before) = before {
                        self.directories[before].unsettled_files -= 1;
                    }
                    if let Some(home) = home {
                        self.directories[home].unsettled_files += 1;
                    }
                }
            }
        }
    }

    /// Everything has become durable, and names may have changed.
    fn count_again(&mut self) {
        for inode in &mut self.inodes {
            inode.home = None;
        }
        for (number, directory) in self.directories.iter_mut().enumerate() {
            directory.is_rooted = true;
            directory.unsynced_names = 0;
            directory.unsettled_files = 0;
            for (name, node) in &directory.current {
                if let Node::File(inode) = node {
                    self.inodes[*inode].home = lasts(name).then_some(number);
                }
            }
        }
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

fn root() -> Directory {
    Directory {
        is_rooted: true,
        ..Directory::default()
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    })
}
