//! The scripts in `scripts/*.txt`, played with a real etcdctl against every server. They contain the real etcd's
//! output, so the real etcd's row fails first if a script is wrong.
//!
//! `UPDATE=1 cargo test -p quoin-conformance --test it etcdctl::real_etcd` records the real etcd's output again.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

use quoin_conformance::{Kind, on_every_server, paths, scene};

/// Scripts mostly wait for processes and fsyncs, so a few at a time.
const AT_ONCE: usize = 4;

on_every_server!(agrees_with_the_scripts);

/// A story without code: everything is in the scripts.
struct Scripts(Vec<PathBuf>);

fn agrees_with_the_scripts() -> Scripts {
    scripts(14)
}

/// The scripts, of which there are at least `least`.
fn scripts(least: usize) -> Scripts {
    let dir = paths::scripts();
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the scripts are in the tree")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    assert!(
        files.len() >= least,
        "scripts are missing from {}: {files:?}",
        dir.display()
    );
    Scripts(files)
}

fn play(kind: Kind, _name: &str, story: fn() -> Scripts) {
    let waiting = Mutex::new(story().0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(file) = {
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.pop()
                } {
                    if let Err(trouble) = scene::play(&file, kind) {
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(trouble.to_string());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
