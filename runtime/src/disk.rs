//! The blocking seam to files: the WAL lane and boot access a directory only through [`Disk`].
//!
//! The real implementation is [`RealDisk`]; the simulator implements the same trait with crashes, torn writes and
//! failing fsyncs, so that writing, segment turnover and recovery are the same code in both. This file decides nothing:
//! it returns the system's errors, and the lane turns them into a `Fault`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Permission bits of a directory that Quoin creates: owner only, as in etcd.
pub const DIR_MODE: u32 = 0o700;
/// Permission bits of a file that Quoin creates: owner only, as in etcd.
pub const FILE_MODE: u32 = 0o600;

/// The file operations that a member needs. All calls block; paths are absolute or relative to the process.
pub trait Disk: Send + Sync {
    /// Creates `path` and its missing parents with [`DIR_MODE`]; an existing directory is left as it is.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates `path`, which must not exist, for reading and writing with [`FILE_MODE`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens the existing file `path` for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The names in directory `path`, sorted; an absent directory is an error of kind `NotFound`.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// The permission bits of `path`.
    fn mode(&self, path: &Path) -> io::Result<u32>;
    /// Renames a file or directory; durable only after [`Disk::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable only after [`Disk::sync_dir`] of the parent.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and its contents; an absent one is not an error.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in directory `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send {
    /// The file's length.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves space up to `len` and makes the file that long, so that later writes cannot meet a full disk.
    fn preallocate(&mut self, len: u64) -> io::Result<()>;
    /// Fills as much of `buffer` as the file has from `offset` on; fewer bytes only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes the written bytes, and the length if it changed, durable (`fdatasync`).
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file to `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Takes the file's exclusive lock, held until the file is dropped; false if another process holds it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o777)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // A file system without fallocate still sets the length; the space is then taken write by write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            other => Ok(other?),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

/// Whether `path` exists; an error if that cannot be determined.
pub fn exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.mode(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces the file `dir/name` by one with `bytes`: writes it as `name.tmp`, syncs and renames it, and syncs the
/// directory.
pub fn write_atomically(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(name);
    let beside = dir.join(format!("{name}.tmp"));
    if exists(disk, &beside)? {
        disk.remove(&beside)?;
    }
    let mut file = disk.create(&beside)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&beside, &path)?;
    disk.sync_dir(dir)?;
    Ok(path)
}

/// Reads a whole file.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
