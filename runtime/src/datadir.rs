//! The files of a member, and the lock that keeps other processes away from them.
//!
//! `<data-dir>/member/wal` (or `--wal-dir`) holds the log, `<data-dir>/member/snap` snapshots and the table, as in
//! etcd. Core's `boot` decides what the found files mean.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoin_core::config::Notice;
use quoin_core::limits::{LOCK_REPORT_AFTER, LOCK_REPORT_ETCD};

use crate::clock::Time;
use crate::disk::{DIR_MODE, Disk, DiskFile, exists};

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(100);
/// The log lines about the wait for the lock, and when they are written.
const LOCK_NOTICES: [(Duration, &str); 2] = [
    (
        LOCK_REPORT_AFTER,
        "waiting for another process to release the data directory",
    ),
    (
        LOCK_REPORT_ETCD,
        "db file is flocked by another process, or taking too long",
    ),
];

/// The directories of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    /// `--data-dir`.
    pub root: PathBuf,
    /// The write-ahead log.
    pub wal: PathBuf,
}

/// The name of etcd's database, beside its snapshots.
pub(crate) const ETCD_DATABASE: &str = "db";

/// The table's name, and the beginning of the names beside it: `fjall.damaged`, `fjall.doubt`.
const TABLE: &str = "fjall";

/// The table in a directory of snapshots.
pub(crate) fn table(snap: &Path) -> PathBuf {
    snap.join(TABLE)
}

impl DataDir {
    /// The directories for `--data-dir` and, unless empty, `--wal-dir`.
    pub fn new(root: impl Into<PathBuf>, wal_dir: &str) -> Self {
        let root = root.into();
        let wal = if wal_dir.is_empty() {
            root.join("member").join("wal")
        } else {
            // A bare name gets an explicit parent, because the parent is created and synced, too.
            let bare = Path::new(wal_dir)
                .parent()
                .is_some_and(|parent| parent.as_os_str().is_empty());
            Path::new(if bare { "." } else { "" }).join(wal_dir)
        };
        Self { root, wal }
    }

    /// `<data-dir>/member`.
    pub fn member(&self) -> PathBuf {
        self.root.join("member")
    }

    /// Snapshot files and, in a directory of its own, the table.
    pub fn snap(&self) -> PathBuf {
        self.member().join("snap")
    }

    /// The table.
    pub fn table(&self) -> PathBuf {
        table(&self.snap())
    }

    /// Where a damaged table is set aside.
    pub fn damaged_table(&self) -> PathBuf {
        self.table().with_extension("damaged")
    }

    /// The file whose lock means ownership of the whole directory.
    fn lock_file(&self) -> PathBuf {
        self.member().join("lock")
    }

    /// Names directly in the data directory; empty if it does not exist.
    pub fn names(&self, disk: &dyn Disk) -> io::Result<Vec<String>> {
        list(disk, &self.root)
    }

    /// Whether there is a table of ours, or anything that one leaves behind: any name that begins with `fjall`.
    pub fn has_table(&self, disk: &dyn Disk) -> io::Result<bool> {
        let names = list(disk, &self.snap())?;
        Ok(names.iter().any(|name| name.starts_with(TABLE)))
    }

    /// Creates missing directories, which only the owner may enter, and makes them durable. It does not create the
    /// directory of the log: opening the log does.
    pub fn create(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.create_dir(&self.snap())?;
        if let Some(parent) = self.wal.parent() {
            disk.create_dir(parent)?;
        }
        sync_path(disk, &self.snap())?;
        match self.wal.parent() {
            Some(parent) if !self.snap().starts_with(parent) => sync_path(disk, parent),
            _ => Ok(()),
        }
    }

    /// Directories whose permission bits are not exactly 0700, with these bits. As etcd does, the caller warns and
    /// continues.
    pub fn loose_permissions(&self, disk: &dyn Disk) -> io::Result<Vec<(PathBuf, u32)>> {
        let mut loose = Vec::new();
        for directory in [self.root.clone(), self.member(), self.snap(), self.wal.clone()] {
            if exists(disk, &directory)? {
                let mode = disk.mode(&directory)?;
                if mode != DIR_MODE {
                    loose.push((directory, mode));
                }
            }
        }
        Ok(loose)
    }

    /// Waits until this process owns the directory; the lock lasts until the returned file is dropped. `notify` takes
    /// the log lines about a long wait.
    pub fn lock(&self, disk: &dyn Disk, clock: &dyn Time, notify: &dyn Fn(&Notice)) -> io::Result<Box<dyn DiskFile>> {
        let path = self.lock_file();
        let file = if exists(disk, &path)? {
            disk.open(&path)?
        } else {
            create_or_open(disk, &path)?
        };
        let since = clock.now();
        let mut notices = LOCK_NOTICES.iter().peekable();
        while !file.try_lock()? {
            let waited = clock.now().saturating_since(since);
            if let Some((_, text)) = notices.next_if(|(after, _)| waited >= *after) {
                let notice = Notice::info(*text).with("path", path.display().to_string());
                notify(&notice.with("took", format!("{waited:?}")));
            }
            std::thread::park_timeout(LOCK_RETRY);
        }
        Ok(file)
    }
}

/// The names in a directory; empty if it does not exist.
fn list(disk: &dyn Disk, path: &Path) -> io::Result<Vec<String>> {
    match disk.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Makes the names in a directory and in all directories above it durable, even if another process created them: that
/// process may have been killed before it synced them.
fn sync_path(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for directory in path.ancestors() {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        match disk.sync_dir(directory) {
            Err(error) if directory != path && is_not_ours(error.kind()) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether a sync failed because the directory belongs to another user, or because its file system is read-only or has
/// no sync. The caller ignores this for the directories above the one it needs: a member can have created nothing in
/// them, or cannot sync them at all.
fn is_not_ours(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

/// Creates a file, or opens it if another process has created it since the caller looked.
fn create_or_open(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_dir_without_a_parent_gets_one() {
        for (wal_dir, wal) in [
            ("", "d/member/wal"),
            ("w", "./w"),
            ("a/w", "a/w"),
            ("/w", "/w"),
            ("./w", "./w"),
        ] {
            let wal = Path::new(wal);
            assert_eq!(DataDir::new("d", wal_dir).wal, wal);
            assert!(wal.parent().is_some_and(|parent| !parent.as_os_str().is_empty()));
        }
    }
}
