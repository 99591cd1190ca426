//! What a process has used, as the kernel counts it.

use std::fs;

use crate::trouble::{During, Trouble};

/// Ticks a second in `/proc/<pid>/stat`; the kernel promises user space this number.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu_seconds: f64,
    /// Resident memory at this moment.
    pub resident_kib: u64,
    /// The most it was ever resident.
    pub peak_kib: u64,
}

/// Reads the numbers of a live process.
///
/// # Errors
/// When it is gone, or this is not Linux.
pub fn of(pid: u32) -> Result<Usage, Trouble> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/{pid}/{file}")).during(format_args!("reading {file} of process {pid}"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    parse(&stat, &status).ok_or_else(|| Trouble::new(format!("process {pid} has ended: its memory is not listed")))
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The program's name may hold spaces and brackets; the fields after its last bracket start with field 3.
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
    fn this_process_has_used_something() {
        let usage = of(std::process::id()).unwrap();
        assert!(
            usage.resident_kib > 0 && usage.peak_kib >= usage.resident_kib,
            "{usage:?}"
        );
    }
}
