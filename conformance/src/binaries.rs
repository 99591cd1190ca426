//! The servers under comparison, and how their programs are found or built.
//!
//! A test of this crate cannot refer to the binaries of another crate. A test run of the whole workspace builds them;
//! if they are missing, or older than their sources, they are built here by cargo itself, one call each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use quoin_tools::Progress;

use crate::{
    command, fetch, paths,
    trouble::{During, Trouble},
};

/// Enough for a cold build on two slow cores, with other builds queued before it.
const BUILD_LIMIT: Duration = Duration::from_mins(20);

/// The servers that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The real etcd, the reference.
    Etcd,
    /// Quoin on tokio.
    QuoinTokio,
    /// Quoin on smol.
    QuoinSmol,
    /// Quoin on async-std.
    QuoinAsyncStd,
}

/// The profile of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The profile of tests.
    Dev,
    /// The profile that users run.
    Release,
}

/// How cargo builds one of ours, and the environment variable that names a built one instead.
struct Recipe {
    package: &'static str,
    binary: &'static str,
    features: &'static [&'static str],
    variable: &'static str,
}

impl Kind {
    /// Every server, the real one first.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::QuoinTokio, Self::QuoinSmol, Self::QuoinAsyncStd];

    /// The servers of Quoin.
    pub const OURS: [Self; 3] = [Self::QuoinTokio, Self::QuoinSmol, Self::QuoinAsyncStd];

    /// The name of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.recipe().map_or("etcd", |recipe| recipe.binary)
    }

    /// Its name on command lines; for ours, the name of the runtime.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        let name = self.name();
        name.strip_prefix("quoin-").unwrap_or(name)
    }

    /// Its program, downloaded or built if necessary. An environment variable `QUOIN_BIN_TOKIO` (`_SMOL`, `_ASYNC_STD`;
    /// `_ETCD` together with `_ETCDCTL`) names an existing one.
    ///
    /// # Errors
    /// If it cannot be downloaded or built.
    pub fn program(self, profile: Profile) -> Result<PathBuf, Trouble> {
        let Some(recipe) = self.recipe() else {
            return Ok(fetch::etcd()?.etcd);
        };
        match std::env::var_os(recipe.variable) {
            Some(named) => Ok(PathBuf::from(named)),
            None => built(self, &recipe, profile),
        }
    }

    fn recipe(self) -> Option<Recipe> {
        Some(match self {
            Self::Etcd => return None,
            Self::QuoinTokio => Recipe {
                package: "quoin-runtime-tokio",
                binary: "quoin-tokio",
                features: &[],
                variable: "QUOIN_BIN_TOKIO",
            },
            Self::QuoinSmol => Recipe {
                package: "quoin-runtime-smol",
                binary: "quoin-smol",
                features: &[],
                variable: "QUOIN_BIN_SMOL",
            },
            Self::QuoinAsyncStd => Recipe {
                package: "quoin-runtime-smol",
                binary: "quoin-async-std",
                features: &["async-std"],
                variable: "QUOIN_BIN_ASYNC_STD",
            },
        })
    }
}

impl Profile {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds once per process; a failed build is not tried again by the next test.
fn built(kind: Kind, recipe: &Recipe, profile: Profile) -> Result<PathBuf, Trouble> {
    type Done = Vec<((Kind, Profile), Result<PathBuf, String>)>;
    static DONE: Mutex<Done> = Mutex::new(Vec::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, result)) = done.iter().find(|(built, _)| *built == (kind, profile)) {
        return result.clone().map_err(Trouble::new);
    }
    let result = build(recipe, profile);
    done.push((
        (kind, profile),
        result.as_ref().map(PathBuf::clone).map_err(Trouble::to_string),
    ));
    result
}

/// Builds in the target directory of the tests, so that dependencies are shared; cargo has released its lock by the
/// time tests run. A test run of the whole workspace has built every program before the first test starts. In the
/// profile of tests an example is built with the program, because only then cargo chooses the features of dependencies
/// as for tests; else it would build them all again, which takes minutes.
fn build(recipe: &Recipe, profile: Profile) -> Result<PathBuf, Trouble> {
    let _lock = paths::lock("build")?;
    let program = paths::target().join(profile.folder()).join(recipe.binary);
    if profile == Profile::Dev && is_fresh(&program, made_of(&paths::workspace())).unwrap_or(false) {
        return keep(&program, profile);
    }
    let mut cargo = cargo();
    cargo
        .args(["build", "--quiet", "--bin", recipe.binary])
        .args(profile.flags());
    cargo.arg("--target-dir").arg(paths::target());
    match profile {
        Profile::Dev => drop(cargo.args(["--workspace", "--example", "steps"])),
        Profile::Release => {
            cargo.args(["--package", recipe.package]);
            for feature in recipe.features {
                cargo.args(["--features", feature]);
            }
        }
    }
    let doing = format!(
        "building {} ({}) in {}",
        recipe.binary,
        profile.folder(),
        paths::target().display()
    );
    let shown = Progress::waiting(doing);
    command::run(&mut cargo, b"", BUILD_LIMIT)?.success(&format!("building {}", recipe.binary))?;
    drop(shown);
    keep(&program, profile)
}

/// The program of an example of the crate `room` (`core` or `runtime`), in the profile of tests. It is built if it is
/// missing or older than its sources.
///
/// # Errors
/// If it cannot be built.
pub fn example(room: &str, name: &str) -> Result<PathBuf, Trouble> {
    let _lock = paths::lock("build")?;
    let program = paths::target().join(Profile::Dev.folder()).join("examples").join(name);
    let examples = format!("{room}/examples");
    let sources = [&examples[..], "core/proto", "core/src", "raft-proto/src", "runtime/src"];
    let sources = sources.map(|part| paths::workspace().join(part));
    if is_fresh(&program, sources).unwrap_or(false) {
        return Ok(program);
    }
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--workspace", "--example", name]);
    cargo.arg("--target-dir").arg(paths::target());
    let _shown = Progress::waiting(format!("building the example {name} in {}", paths::target().display()));
    command::run(&mut cargo, b"", BUILD_LIMIT)?.success(&format!("building {name}"))?;
    Ok(program)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::workspace());
    cargo
}

/// The crates that a program is built from, and their parts. A test run leaves no dependency file beside the program.
const CRATES: [&str; 5] = ["core", "raft-proto", "runtime", "runtime-smol", "runtime-tokio"];
const PARTS: [&str; 4] = ["Cargo.toml", "build.rs", "proto", "src"];

/// The parts of these crates that exist in the workspace.
fn made_of(workspace: &Path) -> Vec<PathBuf> {
    let parts = CRATES
        .iter()
        .flat_map(|name| PARTS.map(|part| workspace.join(name).join(part)));
    let shared = ["Cargo.toml", "Cargo.lock"].map(|name| workspace.join(name));
    parts.chain(shared).filter(|path| path.exists()).collect()
}

/// Whether a program is newer than all its sources and their folders: a removed file changes its folder.
fn is_fresh(program: &Path, made_of: impl IntoIterator<Item = PathBuf>) -> std::io::Result<bool> {
    let built = fs::metadata(program)?.modified()?;
    let mut rest: Vec<PathBuf> = made_of.into_iter().collect();
    while let Some(path) = rest.pop() {
        let found = fs::metadata(&path)?;
        if found.modified()? > built {
            return Ok(false);
        }
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                rest.push(entry?.path());
            }
        }
    }
    Ok(true)
}

/// Links or copies the program to a path of its own: a build with other features or from another work tree overwrites
/// cargo's file.
fn keep(program: &Path, profile: Profile) -> Result<PathBuf, Trouble> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tree = paths::workspace().to_string_lossy().replace('/', "_");
    let kept = paths::own()?.join("bin").join(tree).join(profile.folder());
    fs::create_dir_all(&kept).during(format_args!("making {}", kept.display()))?;
    let kept = kept.join(name);
    let link = kept.with_extension("new");
    let _ = fs::remove_file(&link);
    fs::hard_link(program, &link)
        .or_else(|_| fs::copy(program, &link).map(drop))
        .during(format_args!("keeping {}", program.display()))?;
    fs::rename(&link, &kept).during(format_args!("keeping {}", kept.display()))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names, ["etcd", "quoin-tokio", "quoin-smol", "quoin-async-std"]);
    }

    #[test]
    fn a_program_is_made_of_the_sources_of_every_crate_under_it() {
        let made_of = made_of(&paths::workspace());
        for name in CRATES {
            let folder = paths::workspace().join(name);
            assert!(made_of.contains(&folder.join("src")) && made_of.contains(&folder.join("Cargo.toml")));
        }
        assert!(made_of.contains(&paths::workspace().join("core").join("proto")));
    }

    #[test]
    fn a_program_is_fresh_until_a_source_changes() {
        let folder = paths::own().unwrap().join(format!("fresh-{}", std::process::id()));
        let (program, sources) = (folder.join("program"), folder.join("src"));
        let source = sources.join("deep").join("a.rs");
        fs::create_dir_all(sources.join("deep")).unwrap();
        fs::write(&source, "").unwrap();
        let fresh = || is_fresh(&program, [sources.clone()]);
        assert!(fresh().is_err(), "the program does not exist");
        fs::write(&program, "").unwrap();
        let written = fs::metadata(&program).unwrap().modified().unwrap();
        let touch = |path: &Path, seconds| {
            let file = fs::File::open(path).unwrap();
            file.set_modified(written + Duration::from_secs(seconds)).unwrap();
        };
        touch(&program, 60);
        assert!(fresh().unwrap());
        touch(&source, 120);
        assert!(!fresh().unwrap(), "a source was changed");
        touch(&source, 0);
        assert!(fresh().unwrap());
        fs::remove_file(&source).unwrap();
        touch(&sources.join("deep"), 120);
        assert!(!fresh().unwrap(), "a source was removed");
        assert!(is_fresh(&program, [source]).is_err(), "a source does not exist");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failed_build_shows_cargos_message() {
        let recipe = Recipe {
            package: "quoin-conformance",
            binary: "no-such",
            features: &[],
            variable: "",
        };
        let trouble = build(&recipe, Profile::Dev).unwrap_err().to_string();
        assert!(
            trouble.starts_with("building no-such ended with code 101:") && trouble.contains("no-such"),
            "{trouble}"
        );
    }
}
