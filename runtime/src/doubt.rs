//! The mark of a table whose last sync failed, and the repair of such a table at the next start.
//!
//! A system that fails to write pages may keep them in memory as if they had been written ("fsyncgate"): the next
//! process reads them, its syncs succeed without writing them, and a loss of power removes them. So a process whose
//! sync failed sets a mark, and the next one rewrites every file before it trusts any. The mark needs no sync of its
//! own: a loss of power that removes the mark removes those pages too, and the next process reads the bytes on the
//! disk. The mark's file is created in advance, because a failing disk may have no room for a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::disk::FILE_MODE;

const CALM: &[u8] = b"0";
const DOUBT: &[u8] = b"1";
/// The extension of a file that is being rewritten; the table's own files never have it.
const ANEW: &str = "anew";

/// The mark of a table; `None` on a disk that was full when its file should have been created.
#[derive(Debug)]
pub(crate) struct Doubt(Option<File>);

impl Doubt {
    /// Opens the mark of the table in `folder`; `mark` is its file. If it is set, every file in `folder` is rewritten
    /// and the mark is cleared.
    ///
    /// # Errors
    /// If the files cannot be rewritten. Nothing is lost then, but no file may be trusted.
    pub(crate) fn settle(mark: &Path, folder: &Path) -> io::Result<Self> {
        let is_set = match fs::read(mark) {
            Ok(found) => found == DOUBT,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if is_set {
            write_anew(folder)?;
        }
        match calm(mark) {
            Ok(file) => Ok(Self(Some(file))),
            // A member on a full disk must start, because an operator needs it to free space.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && !is_set => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    /// Sets the mark. An error is ignored: the process ends in any case, and reports the disk's first error.
    pub(crate) fn raise(&self) {
        if let Some(file) = &self.0 {
            let _failing = file.write_at(DOUBT, 0);
        }
    }
}

/// Creates the mark's file, with the mark not set.
fn calm(mark: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).write(true).truncate(false).mode(FILE_MODE);
    let file = options.open(mark)?;
    file.write_at(CALM, 0)?;
    Ok(file)
}

/// Writes every file in a folder, and in the folders in it, to other places on the disk.
fn write_anew(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            write_anew(&path)?;
            continue;
        }
        if path.extension().is_some_and(|end| end == ANEW) {
            // Left by a process that ended before it had finished.
            fs::remove_file(&path)?;
            continue;
        }
        let mut name = path.clone().into_os_string();
        name.push(".");
        name.push(ANEW);
        let (mut from, mut to) = (File::open(&path)?, File::create(&name)?);
        // The bytes are copied through this process: a copy by the file system may share the blocks in doubt.
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = io::Read::read(&mut from, &mut buffer)?;
            if read == 0 {
                break;
            }
            to.write_all(&buffer[..read])?;
        }
        to.set_permissions(from.metadata()?.permissions())?;
        to.sync_all()?;
        fs::rename(&name, &path)?;
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_set_mark_has_every_file_rewritten_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, folder) = (dir.path().join("mark"), dir.path().join("table"));
        let files = [folder.join("journal"), folder.join("deep").join("rows")];
        fs::create_dir_all(folder.join("deep")).unwrap();
        for file in &files {
            fs::write(file, b"content").unwrap();
        }
        let places = || files.each_ref().map(|file| fs::metadata(file).unwrap().ino());
        // The files are held open, so that the disk does not reuse their blocks.
        let held = files.each_ref().map(|file| File::open(file).unwrap());
        let first = places();
        let doubt = Doubt::settle(&mark, &folder).unwrap();
        drop(Doubt::settle(&mark, &folder).unwrap());
        assert_eq!(places(), first);
        doubt.raise();
        fs::write(folder.join("left.anew"), b"half").unwrap();
        drop(Doubt::settle(&mark, &folder).unwrap());
        let second = places();
        assert!(second.iter().all(|place| !first.contains(place)));
        assert!(files.iter().all(|file| fs::read(file).unwrap() == b"content"));
        assert!(!folder.join("left.anew").exists());
        drop(Doubt::settle(&mark, &folder).unwrap());
        assert_eq!(places(), second, "the mark is cleared");
        drop(held);
    }
}
