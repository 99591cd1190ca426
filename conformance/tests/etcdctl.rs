//! The scripts in `scripts/*.txt`, played with a real etcdctl against every server; the real etcd's output is what is written
//! there, and its row fails first when a script is wrong.
//!
//! `UPDATE=1 cargo test -p quoin-conformance --test etcdctl real_etcd` writes down anew what the real etcd prints.

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

/// The story here has no code: it is all in the scripts.
struct Scripts(Vec<PathBuf>);

fn agrees_with_the_scripts() -> Scripts {
    let dir = paths::scripts();
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the scripts are in the tree")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    assert!(
        files.len() >= 10,
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
