//! Starts child processes and keeps a list of those that have not ended yet, so that an interrupted run leaves none
//! behind.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{network, wait};

const REMOVE_LIMIT: Duration = Duration::from_secs(2);
const REMOVE_STEP: Duration = Duration::from_millis(20);

/// By process id: the folder of the process, if there is one.
static LIVE: Mutex<BTreeMap<u32, Option<PathBuf>>> = Mutex::new(BTreeMap::new());

/// Keeps a process registered: until this is dropped, [`end_all`] would kill it.
#[derive(Debug)]
pub(crate) struct Registered(u32);

/// Starts a process and registers it, with the folder to remove with it. The registry is locked meanwhile, so that
/// [`end_all`] misses no child.
///
/// # Errors
/// If the process cannot be started.
pub(crate) fn spawn(command: &mut Command, folder: Option<&Path>) -> io::Result<(Child, Registered)> {
    let mut live = live();
    let child = command.spawn()?;
    live.insert(child.id(), folder.map(Path::to_path_buf));
    let registered = Registered(child.id());
    Ok((child, registered))
}

impl Drop for Registered {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

/// Kills all running children, and removes their folders and networks. Call it only when this process is about to exit: the registry
/// stays locked, so that no thread starts another child.
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
    network::remove_all();
    std::mem::forget(live);
}

fn live() -> MutexGuard<'static, BTreeMap<u32, Option<PathBuf>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
