//! Which calls there are to be killed at: what strace writes of a run, read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::series;
use super::strace::Strace;
use crate::binaries::Kind;
use crate::server::{HEALTH_LIMIT, Launch};
use crate::trouble::{During as _, Trouble};
use crate::{paths, wait};

/// Writes, syncs, renames, and changes of a file's length.
const CALLS: &str = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,\
                     truncate,ftruncate,fallocate,unlink,unlinkat";
/// So that within the series the log is cut, the table written out, and old files removed.
const FLAGS: [&str; 1] = ["--snapshot-count=25"];
/// `/health` is asked this often.
pub(super) const STEP: Duration = Duration::from_millis(5);
/// What is written behind is written by then.
const REST: Duration = Duration::from_millis(300);

/// The moment when some thread is the first to make a call for the n-th time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The call.
    pub call: String,
    /// For the how manieth time.
    pub nth: usize,
    /// The file it was about when there was no kill.
    pub file: String,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} number {} ({})", self.call, self.nth, self.file)
    }
}

/// Runs a server and the series of requests once, and says at which points it can be killed, in their order.
///
/// # Errors
/// When the server or strace does not run, or the series does not succeed.
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

/// A server under strace, which is to kill it at a point.
pub(super) fn launch(kind: Kind, trace: &Path, point: Option<&Point>) -> Result<Launch, Trouble> {
    // Not with `--seccomp-bpf`: a call that is stopped at by that way takes no signal.
    let mut args: Vec<OsString> = ["-f", "-qq", "-y", "-s", "0", "-e"].map(OsString::from).to_vec();
    match point {
        None => args.push(format!("trace={CALLS}").into()),
        Some(point) => {
            let (call, nth) = (&point.call, point.nth);
            args.extend([format!("trace={call}").into(), "-e".into()]);
            args.push(format!("inject={call}:signal=SIGKILL:when={nth}").into());
        }
    }
    args.extend(["-o".into(), trace.into()]);
    let wrapper = Strace::find()?.wrapper(&args);
    let launch = FLAGS.iter().fold(Launch::of(kind)?, |launch, flag| launch.flag(*flag));
    Ok(launch.under(wrapper))
}

/// The points in what strace wrote that are about files in a folder.
fn points(trace: &str, data: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut furthest: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        // Neither the second half of a call that was interrupted by another thread's line, nor signals and exits.
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        let nth = *count;
        let furthest = furthest.entry(call).or_default();
        if nth <= *furthest {
            continue;
        }
        *furthest = nth;
        if let Some((_, inside)) = arguments.split_once(data) {
            let file = inside.split(['>', '"']).next().unwrap_or_default();
            points.push(Point {
                call: call.to_owned(),
                nth,
                file: file.trim_start_matches('/').to_owned(),
            });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_where_some_thread_is_the_first_to_come_that_far() {
        let trace = "\
7 write(2</run/server.log>, \"\"..., 9) = 9
7 write(5</run/data/a>, \"\"..., 9) = 9
8 write(6</run/data/b>, \"\"..., 9 <unfinished ...>
7 fsync(5</run/data/a>) = 0
8 <... write resumed>) = 9
8 write(6</run/data/b>, \"\"..., 9) = 9
8 write(6</run/data/b>, \"\"..., 9) = 9
8 renameat(AT_FDCWD</run>, \"/run/data/b\", AT_FDCWD</run>, \"/run/data/c\") = 0
7 +++ killed by SIGKILL +++
";
        let shown: Vec<String> = points(trace, "/run/data").iter().map(Point::to_string).collect();
        assert_eq!(
            shown,
            [
                "write number 2 (a)",
                "fsync number 1 (a)",
                "write number 3 (b)",
                "renameat number 1 (b)"
            ]
        );
    }
}
