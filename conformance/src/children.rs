//! The child processes that have not ended yet, so that an interrupted run leaves none behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wait;

const REMOVE_LIMIT: Duration = Duration::from_secs(2);
const REMOVE_STEP: Duration = Duration::from_millis(20);

/// By process id: the folder of the process, if there is one.
static LIVE: Mutex<BTreeMap<u32, Option<PathBuf>>> = Mutex::new(BTreeMap::new());

/// A process that is ended by [`end_all`] for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Registered(u32);

/// Registers a process, with the folder to remove with it.
pub(crate) fn register(pid: u32, folder: Option<&Path>) -> Registered {
    live().insert(pid, folder.map(Path::to_path_buf));
    Registered(pid)
}

impl Drop for Registered {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

/// Kills all running children and removes their folders; for a process that is about to end. The registry stays locked
/// until then, so that no new child is started.
pub fn end_all() {
    let live = live();
    if !live.is_empty() {
        let mut kill = Command::new("kill");
        kill.arg("-KILL").args(live.keys().map(u32::to_string));
        // One of them may have ended by itself.
        let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    for folder in live.values().flatten() {
        // A dying process may still write for a moment.
        wait::until(REMOVE_LIMIT, REMOVE_STEP, || {
            let _ = fs::remove_dir_all(folder);
            (!folder.exists()).then_some(())
        });
    }
    std::mem::forget(live);
}

fn live() -> MutexGuard<'static, BTreeMap<u32, Option<PathBuf>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
