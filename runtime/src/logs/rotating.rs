//! A log file that is replaced when it is full. `core::config::rotation` has the rules.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use quoin_core::config::rotation::{COMPRESSED, Rotation, backup_name, time_of};

use super::timestamp;
use crate::clock::Clock;
use crate::threads;

/// Opens a log file to append to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The file. A line that does not fit is written to a new file of the same name.
pub(super) struct Rotating {
    file: File,
    bytes: u64,
    clock: Clock,
    folder: Arc<Folder>,
}

/// Where the files are.
struct Folder {
    path: PathBuf,
    rotation: Rotation,
    /// Held while replaced files are compressed and removed.
    cleaning: Mutex<()>,
}

impl Rotating {
    pub(super) fn open(path: &str, rotation: Rotation, clock: Clock) -> io::Result<Self> {
        let path = PathBuf::from(path);
        let file = open(&path)?;
        Ok(Self {
            bytes: file.metadata()?.len(),
            file,
            clock,
            folder: Arc::new(Folder {
                path,
                rotation,
                cleaning: Mutex::new(()),
            }),
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = self.clock.wall();
        let Some(name) = self.folder.path.file_name().and_then(|name| name.to_str()) else {
            return Ok(());
        };
        fs::rename(
            &self.folder.path,
            self.folder.path.with_file_name(backup_name(name, &time_text(now))),
        )?;
        self.file = open(&self.folder.path)?;
        let folder = Arc::clone(&self.folder);
        let clean = move || folder.clean(now);
        // Compression takes seconds, for which no line may wait.
        drop(threads::apart("quoin-log-files", clean)?);
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.folder.rotation.max_bytes {
            // If the file cannot be replaced now, lines go on into it, and it is tried again when as much was written.
            self.bytes = 0;
            if let Err(error) = self.rotate() {
                writeln!(self.file, "the log file cannot be replaced: {error}")?;
            }
        }
        self.file.write_all(line)?;
        self.bytes = self.bytes.saturating_add(length);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Folder {
    /// Removes and compresses replaced files.
    fn clean(&self, now: Duration) {
        let _alone = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.try_clean(now) {
            tracing::warn!(%error, "cannot remove or compress replaced log files");
        }
    }

    fn try_clean(&self, now: Duration) -> io::Result<()> {
        let log = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new("."));
        let names: Vec<OsString> = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()?;
        let names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        let max_age = self.rotation.max_age_seconds.map(Duration::from_secs);
        let oldest = max_age.map(|age| time_text(now.saturating_sub(age)));
        let obsolete = self.rotation.obsolete(log, &names, oldest.as_deref());
        for name in &obsolete {
            fs::remove_file(folder.join(name))?;
        }
        let plain = |name: &&String| {
            time_of(log, name).is_some() && !name.ends_with(COMPRESSED) && !obsolete.contains(&name.as_str())
        };
        for name in names.iter().filter(plain).filter(|_| self.rotation.compress) {
            compress(&folder.join(name))?;
        }
        Ok(())
    }
}

/// Replaces a file by its compressed form.
fn compress(path: &Path) -> io::Result<()> {
    let mut compressed = path.as_os_str().to_owned();
    compressed.push(COMPRESSED);
    let target = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(compressed)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(path)
}

/// A time as names of replaced files have it, in UTC.
fn time_text(wall: Duration) -> String {
    let text = timestamp(wall);
    // 2006-01-02T15:04:05.000000Z
    text[..text.len() - "000Z".len()].replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use quoin_core::config::rotation::COMPRESSED;

    fn rotation(compress: bool) -> Rotation {
        Rotation {
            max_bytes: 10,
            max_age_seconds: None,
            max_backups: Some(1),
            compress,
            ..Rotation::default()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn times_in_names_sort_by_age() {
        assert_eq!(time_text(Duration::from_millis(1_500)), "1970-01-01T00-00-01.500");
    }

    #[test]
    fn a_full_file_is_replaced_and_surplus_ones_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.log");
        fs::write(folder.path().join("etcd-2000-01-01T00-00-00.000.log"), "old").unwrap();
        fs::write(&path, "before").unwrap();
        let mut log = Rotating::open(path.to_str().unwrap(), rotation(true), Clock::new()).unwrap();
        log.write_all(b"one\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"beforeone\n");
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        // Cleaning may still be going on; it is repeated here, after it.
        log.folder.clean(log.clock.wall());
        let found = names(folder.path());
        let [backup, own] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(own, "etcd.log");
        assert!(backup.ends_with(COMPRESSED), "{backup}");
        let mut text = String::new();
        let file = File::open(folder.path().join(backup)).unwrap();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "beforeone\n");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.log");
        let mut log = Rotating::open(path.to_str().unwrap(), rotation(false), Clock::new()).unwrap();
        log.write_all(b"0123456789").unwrap();
        fs::remove_file(&path).unwrap();
        log.write_all(b"more").unwrap();
        log.write_all(b"still").unwrap();
        assert_eq!(names(folder.path()), [""; 0], "the file was removed by somebody else");
    }
}
