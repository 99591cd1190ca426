//! What libraries say through the `log` crate. The table's library tells its first error there and nowhere else: every
//! call after it fails with no more than "poisoned".

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::disk::FILE_MODE;

/// Bytes written to see whether a disk takes any.
const PROBE_BYTES: usize = 64 * 1024;

/// The first error that the table's library logged in this process.
static FIRST_ERROR: OnceLock<String> = OnceLock::new();

static RECORDS: Records = Records;

/// Takes the warnings and errors of libraries into the log of the process.
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

/// Takes what libraries log from now on, in a program that is nothing but a server. One that embeds a server and has a
/// logger of its own keeps it.
pub(crate) fn log_records() {
    if log::set_logger(&RECORDS).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// The error behind "poisoned", for a table in the directory `dir`: the first one that was logged or, where none was, what
/// the disk says now.
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
    fn a_disk_that_takes_nothing_is_told() {
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
            "nothing is left of the probe"
        );
    }
}
