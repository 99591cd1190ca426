//! Which etcd Quoin is to its clients and peers, and which Quoin it is to its operators.

/// The etcd version reported on the wire: clients, peers and tools choose what they send by it.
pub const SERVER_VERSION: &str = "3.6.5";

/// The oldest cluster version this member joins.
pub const MIN_CLUSTER_VERSION: &str = "3.0.0";

/// Quoin's own version.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the host knows about how this program was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build<'a> {
    /// The commit, or a sentence saying that it is not known.
    pub git_sha: &'a str,
    /// The compiler, e.g. `rustc 1.95.0`.
    pub toolchain: &'a str,
    /// Operating system and processor in Go's names, e.g. `linux/amd64`.
    pub platform: &'a str,
}

/// What `--version` prints: etcd's four lines, because scripts cut them apart by their beginnings, with true contents.
/// The first word after `etcd Version: ` is a version that such scripts compare; there is no Go, so that line names
/// the compiler there is.
#[must_use]
pub fn version_text(build: Build<'_>) -> String {
    let Build {
        git_sha,
        toolchain,
        platform,
    } = build;
    format!(
        "etcd Version: {SERVER_VERSION} (Quoin {PRODUCT_VERSION})\n\
         Git SHA: {git_sha}\n\
         Go Version: none ({toolchain})\n\
         Go OS/Arch: {platform}\n"
    )
}
