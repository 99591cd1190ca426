//! Facts of the process, read from `/proc` at each scrape. Without `/proc` they stay zero.

use std::fs;
use std::path::Path;

use prometheus::{Counter, Gauge, IntCounter, IntGauge};

use super::make::Make;

/// Ticks of CPU time in a second, as Linux reports them to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process' metrics, named as Prometheus' Go client and etcd name them.
#[derive(Debug)]
pub(super) struct Process {
    cpu_seconds: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    fd_used: IntGauge,
    fd_limit: IntGauge,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    virtual_bytes_max: Gauge,
    start_seconds: Gauge,
    received_bytes: IntCounter,
    transmitted_bytes: IntCounter,
}

impl Process {
    pub(super) fn new(make: &Make) -> Self {
        Self {
            cpu_seconds: make.float_counter("process_cpu_seconds_total", "CPU time used, in seconds."),
            open_fds: make.gauge("process_open_fds", "Open file descriptors."),
            max_fds: make.gauge("process_max_fds", "Most file descriptors allowed."),
            fd_used: make.gauge("os_fd_used", "Open file descriptors."),
            fd_limit: make.gauge("os_fd_limit", "Most file descriptors allowed."),
            resident_bytes: make.gauge("process_resident_memory_bytes", "Memory in RAM, in bytes."),
            virtual_bytes: make.gauge("process_virtual_memory_bytes", "Virtual memory, in bytes."),
            virtual_bytes_max: make.float_gauge(
                "process_virtual_memory_max_bytes",
                "Most virtual memory allowed, in bytes.",
            ),
            start_seconds: make.float_gauge("process_start_time_seconds", "When it started, in seconds since 1970."),
            received_bytes: make.counter(
                "process_network_receive_bytes_total",
                "Bytes received over the network.",
            ),
            transmitted_bytes: make.counter("process_network_transmit_bytes_total", "Bytes sent over the network."),
        }
    }

    /// Reads all facts again.
    pub(super) fn refresh(&self) {
        self.refresh_from(Path::new("/proc"));
    }

    fn refresh_from(&self, proc: &Path) {
        let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let times = times(&read("self/stat"));
        self.cpu_seconds.reset();
        self.cpu_seconds.inc_by(times.cpu_seconds);
        self.start_seconds
            .set(boot_seconds(&read("stat")) + times.started_seconds);
        let status = read("self/status");
        self.resident_bytes.set(kibibytes(&status, "VmRSS:"));
        self.virtual_bytes.set(kibibytes(&status, "VmSize:"));
        let limits = read("self/limits");
        let fd_limit = limit(&limits, "Max open files").unwrap_or(i64::MAX);
        self.max_fds.set(fd_limit);
        self.fd_limit.set(fd_limit);
        #[expect(clippy::cast_precision_loss, reason = "a limit near 2^64 is as good rounded")]
        let address_space =
            limit(&limits, "Max address space").map_or(18_446_744_073_709_551_615.0, |limit| limit as f64);
        self.virtual_bytes_max.set(address_space);
        // The directory being read is one of the descriptors in it.
        let fds = fs::read_dir(proc.join("self/fd")).map_or(0, |folder| folder.count().saturating_sub(1));
        let fds = i64::try_from(fds).unwrap_or(i64::MAX);
        self.open_fds.set(fds);
        self.fd_used.set(fds);
        let (received, transmitted) = network_bytes(&read("self/net/netstat"));
        self.received_bytes.reset();
        self.received_bytes.inc_by(received);
        self.transmitted_bytes.reset();
        self.transmitted_bytes.inc_by(transmitted);
    }
}

/// The most descriptors that the process may have open; 0 if that is not known.
pub(crate) fn descriptor_limit() -> i64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    limit(&limits, "Max open files").unwrap_or_default()
}

/// Times of a process; its start is counted from boot.
struct Times {
    cpu_seconds: f64,
    started_seconds: f64,
}

/// Reads `/proc/self/stat`. The command's name, in parentheses, may contain any character; the numbers follow it.
fn times(stat: &str) -> Times {
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    // `index` counts the fields of the whole line, of which the state is the third.
    let ticks = |index: usize| {
        fields
            .get(index - 3)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Times {
        cpu_seconds: (ticks(14) + ticks(15)) / TICKS_PER_SECOND,
        started_seconds: ticks(22) / TICKS_PER_SECOND,
    }
}

/// When the machine booted, in seconds since 1970, from `/proc/stat`.
fn boot_seconds(stat: &str) -> f64 {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .unwrap_or(0.0)
}

/// A size of `/proc/self/status` in bytes.
fn kibibytes(status: &str, name: &str) -> i64 {
    let number = |line: &str| {
        line.strip_prefix(name)?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<i64>()
            .ok()
    };
    status.lines().find_map(number).unwrap_or(0) * 1024
}

/// A soft limit of `/proc/self/limits`; `None` if unlimited.
fn limit(limits: &str, name: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes in and out, from `/proc/self/net/netstat`: pairs of lines, names above numbers.
fn network_bytes(netstat: &str) -> (u64, u64) {
    let mut lines = netstat.lines().filter(|line| line.starts_with("IpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return (0, 0);
    };
    let number = |name: &str| {
        let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
        pairs
            .find(|(found, _)| *found == name)
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or(0)
    };
    (number("InOctets"), number("OutOctets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_are_found() {
        let stat = "42 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 12345 1000 200";
        let times = times(stat);
        assert_eq!((times.cpu_seconds, times.started_seconds), (2.0, 123.45));
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\n"), 1_700_000_000.0);
        assert_eq!(kibibytes("VmSize:\t    2048 kB\nVmRSS:\t 4 kB\n", "VmRSS:"), 4096);
        let limits = "Max open files            1024                 4096                 files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024));
        assert_eq!(limit(limits, "Max address space"), None);
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: X InOctets OutOctets\nIpExt: 9 10 11\n";
        assert_eq!(network_bytes(netstat), (10, 11));
    }

    #[test]
    fn nothing_readable_gives_zeros() {
        let times = times("");
        assert_eq!((times.cpu_seconds, times.started_seconds), (0.0, 0.0));
        assert_eq!(boot_seconds("") + kibibytes("", "VmRSS:") as f64, 0.0);
        assert_eq!(network_bytes("IpExt: InOctets"), (0, 0));
    }
}
