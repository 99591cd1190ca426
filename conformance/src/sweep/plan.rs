//! The calls at which to kill, from strace's output of one run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::series;
use super::strace::Strace;
use crate::binaries::Kind;
use crate::server::{DATA_DIR, HEALTH_LIMIT, Launch};
use crate::trouble::{During as _, Trouble};
use crate::{paths, wait};

/// Writes, syncs, renames, and changes of a file's length.
const CALLS: &str = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,\
                     truncate,ftruncate,fallocate,unlink,unlinkat";
/// A snapshot count so small that within the series the log is cut, the table flushed, and old files removed.
const FLAGS: [&str; 1] = ["--snapshot-count=25"];
/// The part of a file's name that marks a temporary file, whose name is random.
const RANDOM_NAME: &str = ".tmp";
/// How often `/health` is polled.
pub(super) const STEP: Duration = Duration::from_millis(5);
/// Within this time after the last request, the table lane writes its rows.
const REST: Duration = Duration::from_millis(300);

/// The moment when one of the threads is the first to make its n-th call on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The call.
    pub call: String,
    /// The file in the data directory; for a call with two files, the second. `None` if the call is counted over all
    /// files.
    pub file: Option<String>,
    /// The number of the call.
    pub nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("any file");
        write!(out, "{} number {} on {file}", self.call, self.nth)
    }
}

/// Runs a server and the series of requests once, and returns the points at which it can be killed, in order.
///
/// # Errors
/// If the server or strace does not run, or the series fails.
pub fn plan(kind: Kind) -> Result<Vec<Point>, Trouble> {
    let folder = paths::fresh("sweep-plan")?;
    let trace = folder.join("trace");
    let mut server = launch(kind, &trace, None)?.spawn()?;
    server.wait_healthy(HEALTH_LIMIT, STEP)?;
    let played = series::play(server.address())?;
    if !played.is_whole {
        return Err(Trouble::new("the series of requests does not succeed without any kill"));
    }
    wait::pause(REST);
    let data = server.data_dir();
    server.kill()?;
    let text = fs::read(&trace).during("reading what strace wrote")?;
    let _ = fs::remove_dir_all(&folder);
    Ok(points(&String::from_utf8_lossy(&text), &data.to_string_lossy()))
}

/// A server under strace, which kills it at a point.
pub(super) fn launch(kind: Kind, trace: &Path, point: Option<&Point>) -> Result<Launch, Trouble> {
    // Without `--seccomp-bpf`: with it, no signal can be sent at a call.
    let mut args: Vec<OsString> = ["-f", "-qq", "-y", "-s", "0", "-e"].map(OsString::from).to_vec();
    match point {
        None => args.push(format!("trace={CALLS}").into()),
        Some(point) => {
            let (call, nth) = (&point.call, point.nth);
            args.extend([format!("trace={call}").into(), "-e".into()]);
            args.push(format!("inject={call}:signal=SIGKILL:when={nth}").into());
            if let Some(file) = &point.file {
                // Then strace counts only calls on this file.
                let path = format!("{DATA_DIR}/{file}");
                // The data directory itself has no slash after it.
                args.extend(["-P".into(), path.trim_end_matches('/').into()]);
            }
        }
    }
    args.extend(["-o".into(), trace.into()]);
    let wrapper = Strace::find()?.wrapper(&args);
    let launch = FLAGS.iter().fold(Launch::of(kind)?, |launch, flag| launch.flag(*flag));
    Ok(launch.under(wrapper))
}

/// The points in strace's output that concern files in a folder.
fn points(trace: &str, data: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str, Option<&str>), usize> = BTreeMap::new();
    let mut furthest: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in trace.lines() {
        let Some((thread, call, arguments)) = entered(line) else {
            continue;
        };
        let file = arguments.rsplit_once(data).map(|(_, inside)| {
            let file = inside.split(['>', '"']).next().unwrap_or_default();
            file.trim_start_matches('/')
        });
        // Each call is counted for its file, and over all files.
        for of in [file, None] {
            let count = counts.entry((thread, call, of)).or_default();
            *count += 1;
            let furthest = furthest.entry((call, of)).or_default();
            let is_first = *count > *furthest;
            *furthest = (*furthest).max(*count);
            if is_first && file.is_some_and(|file| is_for_all_files(call, file) == of.is_none()) {
                points.push(Point {
                    call: call.to_owned(),
                    file: of.map(str::to_owned),
                    nth: *count,
                });
            }
            if of.is_none() {
                break;
            }
        }
    }
    points
}

/// Whether a call is counted over all files: because its file has another name in every run, or because strace ignores
/// the second of two names.
fn is_for_all_files(call: &str, file: &str) -> bool {
    call == "rename" || file.contains(RANDOM_NAME)
}

/// The thread, the call and the arguments of a line about the beginning of a call. Second halves of interrupted lines,
/// signals and exits are ignored.
fn entered(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, rest) = line.split_once(char::is_whitespace)?;
    let (call, arguments) = rest.trim_start().split_once('(')?;
    let is_name = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((thread, call, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_first_nth_call_of_any_thread() {
        let trace = "\
7 write(2</run/server.log>, \"\"..., 9) = 9
7 write(5</run/data/a>, \"\"..., 9) = 9
8 write(6</run/data/b>, \"\"..., 9 <unfinished ...>
7 fsync(5</run/data/a>) = 0
8 <... write resumed>) = 9
8 write(5</run/data/a>, \"\"..., 9) = 9
8 write(5</run/data/a>, \"\"..., 9) = 9
8 write(9</run/data/.tmpXYZ>, \"\"..., 9) = 9
8 renameat(AT_FDCWD</run>, \"/run/data/.tmpXYZ\", AT_FDCWD</run>, \"/run/data/c\") = 0
7 +++ killed by SIGKILL +++
";
        let shown: Vec<String> = points(trace, "/run/data").iter().map(Point::to_string).collect();
        assert_eq!(
            shown,
            [
                "write number 1 on a",
                "write number 1 on b",
                "fsync number 1 on a",
                "write number 2 on a",
                "write number 4 on any file",
                "renameat number 1 on c"
            ]
        );
    }
}
