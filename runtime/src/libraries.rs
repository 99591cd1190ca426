//! Log lines of libraries through the `log` crate. The table's library logs its first error there and reports it
//! nowhere else: every later call fails with only "poisoned".

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::disk::FILE_MODE;

/// Bytes written to check whether a disk takes any.
const PROBE_BYTES: usize = 64 * 1024;

/// The first error that the table's library logged in this process.
static FIRST_ERROR: OnceLock<String> = OnceLock::new();

static RECORDS: Records = Records;

/// Writes the warnings and errors of libraries to the log of the process.
struct Records;

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (library, text) = (record.target(), record.args().to_string());
        if record.level() == Level::Error {
            tracing::error!(library, "{text}");
            if ["fjall", "lsm_tree"].iter().any(|name| library.starts_with(name)) {
                // A later error follows from the first.
                let _later = FIRST_ERROR.set(text);
            }
        } else {
            tracing::warn!(library, "{text}");
        }
    }

    fn flush(&self) {}
}

/// Takes all log lines of libraries from now on, in a program that only runs a server. A program that embeds a server
/// and has its own logger keeps that.
pub(crate) fn log_records() {
    if log::set_logger(&RECORDS).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// The error behind "poisoned", for a table in the directory `dir`: the first one that was logged or, if none was, the
/// present error of the disk.
pub(crate) fn earlier_error(dir: &Path) -> io::Error {
    let why = match (FIRST_ERROR.get(), probe(dir)) {
        (Some(first), _) => first.clone(),
        (None, Err(now)) => format!("writing beside it fails now: {now}"),
        (None, Ok(())) => "the reason was logged by the library".to_owned(),
    };
    io::Error::other(format!("an earlier write failed: {why}"))
}

/// Writes a file beside the directory and removes it.
fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.with_extension("probe");
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(&[0; PROBE_BYTES])?;
            file.sync_all()
        });
    match (written, std::fs::remove_file(&path)) {
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_disk_that_takes_nothing_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("gone").join("fjall");
        let error = earlier_error(&table).to_string();
        assert!(
            error.starts_with("an earlier write failed: ") && error.contains("(os error 2)"),
            "{error}"
        );
        assert!(earlier_error(&dir.path().join("fjall")).to_string().contains("logged"));
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            0,
            "the probe is removed"
        );
    }
}
