//! Where files are kept: under cargo's target directory, and nowhere else.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::trouble::{During, Trouble};

/// Cargo's target directory: `CARGO_TARGET_DIR`, else where the running executable was built, else the workspace's own.
#[must_use]
pub fn target() -> PathBuf {
    if let Some(set) = std::env::var_os("CARGO_TARGET_DIR") {
        let set = PathBuf::from(set);
        return if set.is_absolute() { set } else { workspace().join(set) };
    }
    let running = std::env::current_exe().unwrap_or_default();
    // Cargo marks the target directory with this file.
    let marked = running.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// The root of the workspace that cargo is running. The root at the time of the build may be another one, because a
/// target directory may serve several work trees.
#[must_use]
pub fn workspace() -> PathBuf {
    let running = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = |package: PathBuf| package.parent().map(Path::to_path_buf);
    let here = running
        .and_then(root)
        .filter(|root| root.join("conformance/Cargo.toml").is_file());
    here.or_else(|| root(built)).unwrap_or_default()
}

/// The folder of the golden files.
#[must_use]
pub fn scripts() -> PathBuf {
    workspace().join("conformance/scripts")
}

/// This crate's folder in the target directory, created if necessary.
///
/// # Errors
/// If it cannot be created.
pub fn own() -> Result<PathBuf, Trouble> {
    let own = target().join("conformance");
    fs::create_dir_all(&own).during(format_args!("making {}", own.display()))?;
    Ok(own)
}

/// A new empty folder for one server or one download.
///
/// # Errors
/// If it cannot be created.
pub fn fresh(purpose: &str) -> Result<PathBuf, Trouble> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = own()?
        .join("run")
        .join(format!("{purpose}-{}-{count}", std::process::id()));
    // Left by an earlier process with this id.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).during(format_args!("making {}", dir.display()))?;
    Ok(dir)
}

/// Takes a lock that other test processes respect, until the file is dropped.
///
/// # Errors
/// If the lock file cannot be created or locked.
pub fn lock(name: &str) -> Result<File, Trouble> {
    let path = own()?.join(format!("{name}.lock"));
    let file = File::create(&path).during(format_args!("making {}", path.display()))?;
    file.lock().during(format_args!("locking {}", path.display()))?;
    Ok(file)
}
