//! Identities: members, clusters and requests, by etcd's rules.

use std::fmt;

use sha1::{Digest as _, Sha1};

/// A member's id. It prints as lower-case hex without padding, as everywhere in etcd.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(pub u64);

impl MemberId {
    /// The id that stands for no member.
    pub const NONE: Self = Self(0);

    /// The id of a member with these peer URLs (in any order).
    ///
    /// Initial members use the cluster's token; a member added later has an empty token and the seconds since 1970 at
    /// which it was added, so that the same addresses added twice are two members.
    #[must_use]
    pub fn compute(peer_urls: &[String], token: &str, added_unix_seconds: Option<u64>) -> Self {
        let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
        urls.sort_unstable();
        let mut hash = Sha1::new();
        for url in urls {
            hash.update(url);
        }
        hash.update(token);
        if let Some(seconds) = added_unix_seconds {
            hash.update(seconds.to_string());
        }
        Self(first_eight(hash))
    }

    /// The id that `text` (hex, with or without padding) names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A cluster's id. It prints as lower-case hex without padding.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u64);

impl ClusterId {
    /// The id of the cluster that these members (in any order) founded.
    #[must_use]
    pub fn compute(founders: &[MemberId]) -> Self {
        let mut ids: Vec<MemberId> = founders.to_vec();
        ids.sort_unstable();
        let mut hash = Sha1::new();
        for id in ids {
            hash.update(id.0.to_be_bytes());
        }
        Self(first_eight(hash))
    }

    /// The id that `text` (hex, with or without padding) names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Generates request ids (and lease ids) that no other member generates, and no earlier run of this one.
///
/// From the top: 16 bits of the member, then 48 bits that count up. etcd begins to count at the milliseconds of the
/// start, shifted by 8 bits. A random number is added to that here. Without it, a run that starts when the wall clock
/// shows the time of an earlier start repeats the ids of that run, whose requests may still be on their way to the
/// leader or in its log, and not in the log of this member.
#[derive(Clone, Debug)]
pub struct RequestIdGenerator {
    prefix: u64,
    suffix: u64,
}

impl RequestIdGenerator {
    /// The generator of `member`, started `unix_ms` milliseconds after 1970. `random` is drawn for each start.
    #[must_use]
    pub const fn new(member: MemberId, unix_ms: u64, random: u64) -> Self {
        Self {
            prefix: member.0 << 48,
            suffix: (unix_ms << 8).wrapping_add(random) & SUFFIX_MASK,
        }
    }

    /// The next id.
    pub const fn next_id(&mut self) -> u64 {
        self.suffix = (self.suffix + 1) & SUFFIX_MASK;
        self.prefix | self.suffix
    }
}

/// The bits of an id below those of the member.
const SUFFIX_MASK: u64 = (1 << 48) - 1;

/// The first eight bytes of a digest, big-endian.
fn first_eight(hash: Sha1) -> u64 {
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Hex digits and nothing else: no sign, no prefix.
fn parse_hex(text: &str) -> Option<u64> {
    if text.starts_with('+') {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ids_are_those_a_live_etcd_computed() {
        let member = MemberId::compute(&urls(&["http://127.0.0.1:42380"]), "etcd-cluster", None);
        assert_eq!(member.to_string(), "667880157b8812c8");
        assert_eq!(ClusterId::compute(&[member]).to_string(), "dc50b8daae93b3e0");
    }

    #[test]
    fn an_id_depends_on_time_and_token_but_not_on_the_order_of_urls() {
        let forward = MemberId::compute(&urls(&["http://a:1", "http://b:1"]), "t", None);
        assert_eq!(
            forward,
            MemberId::compute(&urls(&["http://b:1", "http://a:1"]), "t", None)
        );
        assert_ne!(
            forward,
            MemberId::compute(&urls(&["http://a:1", "http://b:1"]), "u", None)
        );
        let added = |seconds| MemberId::compute(&urls(&["http://a:1"]), "", Some(seconds));
        assert_ne!(added(1), added(2));
        let (one, two) = (MemberId(1), MemberId(2));
        assert_eq!(ClusterId::compute(&[one, two]), ClusterId::compute(&[two, one]));
    }

    #[test]
    fn ids_print_unpadded_and_parse_back() {
        assert_eq!(MemberId(0xab).to_string(), "ab");
        assert_eq!(MemberId::parse("00ab"), Some(MemberId(0xab)));
        assert_eq!(ClusterId::parse("ffffffffffffffff"), Some(ClusterId(u64::MAX)));
        for bad in ["", "+1", "-1", "0x1", "g", "10000000000000000"] {
            assert_eq!(MemberId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn request_ids_count_within_their_member() {
        let mut ids = RequestIdGenerator::new(MemberId(0x12_3456), 0x01_0203_0405_06ff, 0);
        assert_eq!(ids.next_id(), 0x3456_0304_0506_ff01);
        assert_eq!(ids.next_id(), 0x3456_0304_0506_ff02);
        let mut last = RequestIdGenerator::new(MemberId(1), u64::MAX, 255);
        assert_eq!(
            last.next_id(),
            0x0001_0000_0000_0000,
            "the counter wraps and leaves the member's bits alone"
        );
    }
}
