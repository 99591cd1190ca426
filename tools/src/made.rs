//! The date, commit and machine of a report.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Written if a fact cannot be found.
const UNKNOWN: &str = "unknown";

/// The date of a measurement, and the sources and the machine that it was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Date and time, in UTC.
    pub date: String,
    /// The commit of the sources, with a mark if they have changes.
    pub commit: String,
    /// Processor, cores, memory.
    pub machine: String,
    /// Operating system and kernel.
    pub system: String,
    /// The compiler.
    pub rustc: String,
}

impl Made {
    /// The present date, this machine, and the sources at `workspace`.
    #[must_use]
    pub fn now(workspace: &Path) -> Self {
        let in_workspace = |program: &str, arguments: &[&str]| {
            let said = Command::new(program).current_dir(workspace).args(arguments).output();
            let said = said.ok().filter(|said| said.status.success());
            let line = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
            line.filter(|line| !line.is_empty())
                .unwrap_or_else(|| UNKNOWN.to_owned())
        };
        let cores = thread::available_parallelism().map_or(0, usize::from);
        Self {
            date: in_workspace("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: in_workspace(
                "git",
                &["describe", "--always", "--dirty=, changed since", "--abbrev=12"],
            ),
            machine: format!("{}, {cores} cores, {}", processor(), memory()),
            system: format!("{}, Linux {}", system(), kernel()),
            rustc: in_workspace("rustc", &["--version"]),
        }
    }

    /// Each fact with its name.
    #[must_use]
    pub fn facts(&self) -> [(&'static str, &str); 5] {
        [
            ("date", &self.date),
            ("commit", &self.commit),
            ("machine", &self.machine),
            ("system", &self.system),
            ("compiler", &self.rustc),
        ]
    }
}

impl fmt::Display for Made {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            commit,
            machine,
            system,
            rustc,
        } = self;
        write!(out, "{date}, commit {commit}; {machine}; {system}; {rustc}")
    }
}

fn processor() -> String {
    field("/proc/cpuinfo", "model name", ':')
}

fn memory() -> String {
    let total = field("/proc/meminfo", "MemTotal", ':');
    let kib = total.trim_end_matches("kB").trim().parse::<f64>();
    kib.map_or(total, |kib| format!("{:.1} GiB of memory", kib / 1024.0 / 1024.0))
}

fn system() -> String {
    field("/etc/os-release", "PRETTY_NAME", '=')
        .trim_matches('"')
        .to_owned()
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

/// The value of the first line that starts with this name.
fn field(file: &str, name: &str, separator: char) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_once(separator));
    line.map_or_else(|| UNKNOWN.to_owned(), |(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_shown() {
        let made = Made::now(Path::new(env!("CARGO_MANIFEST_DIR")));
        for (name, value) in made.facts() {
            assert!(!value.is_empty(), "{name}");
            assert!(made.to_string().contains(value), "{made}");
        }
        assert!(made.date.starts_with("20") && made.date.ends_with("UTC"), "{made}");
        assert!(made.rustc.starts_with("rustc "), "{made}");
    }
}
