//! The version of etcd that clients and peers see, and Quoin's own version that operators see.

/// The etcd version reported on the wire; clients, peers and tools adapt to it.
pub const SERVER_VERSION: &str = "3.6.5";

/// The oldest cluster version this member joins.
pub const MIN_CLUSTER_VERSION: &str = "3.0.0";

/// The oldest etcd version that can be in one cluster with this program. Older ones panic at this program's entries
/// that set the cluster version or publish a member's attributes.
pub const MIN_PEER_VERSION: &str = "3.5.0";

/// Quoin's own version.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// How this program was built, as the host found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build<'a> {
    /// The commit, or a sentence that it is not known.
    pub git_sha: &'a str,
    /// The compiler, e.g. `rustc 1.95.0`.
    pub toolchain: &'a str,
    /// Operating system and processor in Go's names, e.g. `linux/amd64`.
    pub platform: &'a str,
}

/// What `--version` prints: etcd's four lines, because scripts find a line by its beginning and compare the first word
/// after `etcd Version: `. The line for Go's version names the Rust compiler.
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

/// A version as etcd writes it, `major.minor.patch`. A suffix after a dash or plus is ignored.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// Counts incompatible changes.
    pub major: u64,
    /// Counts feature releases; clusters agree on it.
    pub minor: u64,
    /// Counts fixes, which change nothing that clusters agree on.
    pub patch: u64,
}

impl Version {
    /// From this cluster version on, lease checkpoints and the storage version are stored.
    pub const V3_6: Self = Self {
        major: 3,
        minor: 6,
        patch: 0,
    };

    /// The oldest etcd version that can be in one cluster with this program.
    pub const V3_5: Self = Self {
        major: 3,
        minor: 5,
        patch: 0,
    };

    /// Reads a version; `None` for anything else, such as etcd's `not_decided`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u64>().ok().filter(|_| digits)
        });
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(Self { major, minor, patch })
    }

    /// The version that a cluster of this version can be downgraded to.
    #[must_use]
    pub fn previous_minor(self) -> Option<Self> {
        Some(Self {
            minor: self.minor.checked_sub(1)?,
            patch: 0,
            ..self
        })
    }

    /// The version of this program without the patch, as members compare it.
    ///
    /// # Panics
    /// Never: a test reads the constant.
    #[must_use]
    pub fn own_minor() -> Self {
        Self {
            patch: 0,
            ..Self::parse(SERVER_VERSION).expect("the constant is a version")
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("3.10.0") > version("3.9.9"));
        assert_eq!(version("3.6.0-alpha.0+x").to_string(), "3.6.0");
        assert_eq!(Version::own_minor(), Version::V3_6);
        assert_eq!(Version::parse(MIN_PEER_VERSION), Some(Version::V3_5));
        assert!(Version::parse(MIN_CLUSTER_VERSION) < Version::parse(MIN_PEER_VERSION));
    }

    #[test]
    fn other_texts_are_no_version() {
        for text in [
            "",
            "not_decided",
            "3",
            "3.6",
            "3.6.",
            "v3.6.0",
            "3.+6.0",
            "3.6.0.1",
            "3..0",
            "+3.6.0",
            "3.6.x",
            "3.6.99999999999999999999",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
