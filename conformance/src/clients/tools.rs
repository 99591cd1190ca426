//! Downloads the clients: each once, in exact versions, kept under the target directory. A client that cannot be
//! downloaded is an error.
//!
//! Python and Node packages come through the machine's own pip and npm. Go's clientv3 and etcdctl 3.4 come from Debian,
//! from the mirror that the machine's apt uses. Nothing is installed on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use quoin_tools::Progress;

use crate::{
    command, fetch, paths,
    trouble::{During, Trouble},
};

/// The Debian suite that has etcdctl 3.4, and a Go compiler together with clientv3 3.4.
const DEBIAN_SUITE: &str = "bookworm";
const INSTALL_LIMIT: Duration = Duration::from_mins(5);
const BUILD_LIMIT: Duration = Duration::from_mins(10);
const UNPACK_LIMIT: Duration = Duration::from_secs(60);
/// Debian's Go compiler, its clientv3, and their dependencies.
const GO_PACKAGES: [&str; 18] = [
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-etcd-server-dev",
    "golang-github-coreos-go-semver-dev",
    "golang-github-coreos-go-systemd-dev",
    "golang-github-coreos-pkg-dev",
    "golang-github-gogo-protobuf-dev",
    "golang-github-golang-protobuf-1-3-dev",
    "golang-github-google-uuid-dev",
    "golang-go.uber-atomic-dev",
    "golang-go.uber-multierr-dev",
    "golang-go.uber-zap-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "golang-google-genproto-dev",
    "golang-google-grpc-dev",
    "golang-goprotobuf-dev",
];
/// The name of the file that marks a tool's folder as complete. It holds the inputs that the tool was made from.
const MARK: &str = "made-from";

/// The folder of the scenario programs.
#[must_use]
pub(super) fn sources() -> PathBuf {
    paths::workspace().join("conformance/clients")
}

/// A folder with the Python packages that `clients/python/<name>.txt` pins.
///
/// # Errors
/// If there is no Python with pip, or it cannot install them.
pub(super) fn python(name: &str) -> Result<PathBuf, Trouble> {
    let list = sources().join("python").join(format!("{name}.txt"));
    let pins = fs::read_to_string(&list).during(format_args!("reading {}", list.display()))?;
    kept(&format!("python-{name}"), &pins, |place| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-input"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
            .arg(place)
            .arg("-r")
            .arg(&list);
        command::run(&mut pip, b"", INSTALL_LIMIT)
            .during("python3 with pip is needed for the Python clients")?
            .success("pip install")
            .map(drop)
    })
}

/// A folder `node_modules` with the Node packages that `clients/node/package-lock.json` pins.
///
/// # Errors
/// If there is no Node with npm, or it cannot install them.
pub(super) fn node() -> Result<PathBuf, Trouble> {
    let from = sources().join("node");
    let lock = from.join("package-lock.json");
    let pins = fs::read_to_string(&lock).during(format_args!("reading {}", lock.display()))?;
    let place = kept("node", &pins, |place| {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(from.join(name), place.join(name)).during(format_args!("copying {name}"))?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(place)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        command::run(&mut npm, b"", INSTALL_LIMIT)
            .during("node with npm is needed for the Node client")?
            .success("npm ci")
            .map(drop)
    })?;
    Ok(place.join("node_modules"))
}

/// The scenario program in Go, built with Debian's compiler and its clientv3.
///
/// # Errors
/// If they cannot be downloaded, or it does not build.
pub(super) fn go() -> Result<PathBuf, Trouble> {
    let mut made_from = String::new();
    let files = ["harness.go", "scenarios.go"].map(|name| sources().join("go").join(name));
    for file in &files {
        made_from += &fs::read_to_string(file).during(format_args!("reading {}", file.display()))?;
    }
    let place = kept("go", &made_from, |place| {
        let root = debian(place, &GO_PACKAGES)?;
        let compiler = fetch::files_under(&root.join("usr/lib"))?
            .into_iter()
            .find(|path| path.ends_with("bin/go"))
            .ok_or_else(|| Trouble::new("Debian's packages have no Go compiler in them"))?;
        let mut go = Command::new(&compiler);
        go.args(["build", "-o"])
            .arg(place.join("scenarios"))
            .args(&files)
            .env("GOROOT", compiler.ancestors().nth(2).unwrap_or(&root))
            .env("GOPATH", root.join("usr/share/gocode"))
            .env("GOCACHE", place.join("cache"))
            .envs([("GO111MODULE", "off"), ("GOFLAGS", ""), ("CGO_ENABLED", "0")]);
        command::run(&mut go, b"", BUILD_LIMIT)?.success("go build")?;
        // A gigabyte that is needed again only when the scenarios change.
        for folder in ["cache", "root"] {
            fs::remove_dir_all(place.join(folder)).during(format_args!("removing {folder}"))?;
        }
        Ok(())
    })?;
    Ok(place.join("scenarios"))
}

/// etcdctl 3.4, the older of the two that are tested.
///
/// # Errors
/// If it cannot be downloaded or does not start.
pub(super) fn etcdctl_34() -> Result<PathBuf, Trouble> {
    let place = kept("etcdctl-3.4", DEBIAN_SUITE, |place| {
        let root = debian(place, &["etcd-client"])?;
        fs::copy(root.join("usr/bin/etcdctl"), place.join("etcdctl")).during("copying etcdctl")?;
        fetch::make_executable(&place.join("etcdctl"))?;
        let said = version(&place.join("etcdctl"))?;
        if !said.starts_with("3.4.") {
            return Err(Trouble::new(format!("{DEBIAN_SUITE} has etcdctl {said}, not 3.4")));
        }
        fs::remove_dir_all(root).during("removing the unpacked packages")
    })?;
    Ok(place.join("etcdctl"))
}

/// The version that an etcdctl prints.
///
/// # Errors
/// If it does not start or prints none.
pub(super) fn version(etcdctl: &Path) -> Result<String, Trouble> {
    let said = command::run(Command::new(etcdctl).arg("version"), b"", UNPACK_LIMIT)?.success("etcdctl version")?;
    let version = said.lines().find_map(|line| line.strip_prefix("etcdctl version: "));
    version
        .map(str::to_owned)
        .ok_or_else(|| Trouble::new(format!("etcdctl says no version: {said}")))
}

/// The folder of a tool. One from an earlier run with the same inputs is used again; otherwise the tool is made in a
/// fresh folder, which is renamed when complete, so that a kept folder is always complete.
fn kept(name: &str, made_from: &str, make: impl FnOnce(&Path) -> Result<(), Trouble>) -> Result<PathBuf, Trouble> {
    let kept = paths::own()?.join("clients").join(name);
    let _lock = paths::lock(&format!("client-{name}"))?;
    if fs::read_to_string(kept.join(MARK)).is_ok_and(|made| made == made_from) {
        return Ok(kept);
    }
    let _shown = Progress::waiting(format!("fetching or building the client {name}"));
    let place = paths::fresh(&format!("client-{name}"))?;
    let made = make(&place).and_then(|()| fs::write(place.join(MARK), made_from).during("marking it as complete"));
    if let Err(trouble) = made {
        let _ = fs::remove_dir_all(&place);
        return Err(Trouble::new(format!(
            "cannot fetch or build the client {name}: {trouble}"
        )));
    }
    let _ = fs::remove_dir_all(&kept);
    let parent = kept.parent().unwrap_or(&kept);
    fs::create_dir_all(parent).during(format_args!("making {}", parent.display()))?;
    fs::rename(&place, &kept).during(format_args!("keeping {}", kept.display()))?;
    Ok(kept)
}

/// These packages of the suite, unpacked into a folder.
fn debian(place: &Path, packages: &[&str]) -> Result<PathBuf, Trouble> {
    let mut tried = Vec::new();
    for mirror in fetch::mirrors()? {
        match download(place, &mirror, packages) {
            Ok(()) => return unpack(place),
            Err(trouble) => tried.push(trouble.to_string()),
        }
    }
    Err(Trouble::new(format!(
        "no mirror has {} of {DEBIAN_SUITE}: {}",
        packages.join(" and "),
        tried.join("; ")
    )))
}

fn download(place: &Path, mirror: &str, packages: &[&str]) -> Result<(), Trouble> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(place.join(folder)).during("making apt's folders")?;
    }
    let source = fetch::source_line(mirror, DEBIAN_SUITE);
    fs::write(place.join("sources.list"), source).during("writing apt's source")?;
    fetch::apt(place, &["update"])?;
    let download: Vec<&str> = ["download"].iter().chain(packages).copied().collect();
    fetch::apt(place, &download)
}

fn unpack(place: &Path) -> Result<PathBuf, Trouble> {
    let root = place.join("root");
    let packages = fetch::files_under(place)?;
    for package in packages
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "deb"))
    {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("-x").arg(package).arg(&root);
        command::run(&mut dpkg, b"", UNPACK_LIMIT)?.success("dpkg -x")?;
        fs::remove_file(package).during("removing an unpacked package")?;
    }
    for folder in ["cache", "lists"] {
        fs::remove_dir_all(place.join(folder)).during(format_args!("removing {folder}"))?;
    }
    Ok(root)
}
