//! The resource usage of a process, as the kernel counts it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::trouble::{During, Trouble};

/// Ticks a second in `/proc/<pid>/stat`; the kernel promises user space this number.
const TICKS_PER_SECOND: f64 = 100.0;

/// The unit in which the kernel gives the disk usage of a file.
const BLOCK_BYTES: u64 = 512;

/// Processor time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    /// Resident memory now.
    pub resident_kib: u64,
    /// Peak resident memory.
    pub peak_kib: u64,
}

/// Reads the numbers of a live process.
///
/// # Errors
/// If it has ended, or this is not Linux.
pub fn of(pid: u32) -> Result<Usage, Trouble> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/{pid}/{file}")).during(format_args!("reading {file} of process {pid}"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    parse(&stat, &status).ok_or_else(|| Trouble::new(format!("process {pid} has ended: its memory is not listed")))
}

/// Bytes that a live process has caused to be written to disks; `None` if the kernel does not count them.
#[must_use]
pub fn written(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

/// Disk usage of a folder with everything in it.
///
/// # Errors
/// If it cannot be listed. A file that is removed meanwhile is not counted.
pub fn on_disk(folder: &Path) -> Result<u64, Trouble> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during(format_args!("listing {}", folder.display()))? {
            let entry = entry.during(format_args!("listing {}", folder.display()))?;
            let Ok(about) = entry.metadata() else { continue };
            bytes += about.blocks() * BLOCK_BYTES;
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The program's name may contain spaces and brackets; after its last bracket comes field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: (ticks(14)? + ticks(15)?) as f64 / TICKS_PER_SECOND,
        resident_kib: kib(status, "VmRSS:")?,
        peak_kib: kib(status, "VmHWM:")?,
    })
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_past_a_name_with_brackets() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 5 0 9 1 2 3";
        let status = "Name:\ta (b) c\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(
            parse(stat, status),
            Some(Usage {
                cpu_seconds: 2.0,
                resident_kib: 1024,
                peak_kib: 2048
            })
        );
        assert_eq!(parse(stat, "Name:\tzombie\n"), None);
    }

    #[test]
    fn the_disk_usage_of_a_folder_includes_deep_files() {
        let folder = crate::paths::fresh("on-disk").unwrap();
        fs::create_dir(folder.join("deep")).unwrap();
        let before = on_disk(&folder).unwrap();
        fs::write(folder.join("deep").join("file"), vec![7; 100_000]).unwrap();
        fs::File::open(folder.join("deep").join("file"))
            .unwrap()
            .sync_all()
            .unwrap();
        assert!(on_disk(&folder).unwrap() >= before + 100_000);
        fs::remove_dir_all(&folder).unwrap();
        assert!(on_disk(&folder).is_err());
    }

    #[test]
    fn a_live_process_has_resident_memory() {
        let usage = of(std::process::id()).unwrap();
        assert!(
            usage.resident_kib > 0 && usage.peak_kib >= usage.resident_kib,
            "{usage:?}"
        );
    }
}
