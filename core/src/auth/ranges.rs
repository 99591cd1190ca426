//! The ranges of keys that a role grants, and whether those of several roles together cover a range.

use bytes::Bytes;

use super::access::KeyAccess;
use crate::proto::authpb::Permission;
use crate::proto::authpb::permission::Type;

/// The ranges that a role grants.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    read: Vec<Granted>,
    write: Vec<Granted>,
}

/// A range of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Granted {
    first: Bytes,
    /// The first key after it; `None` if the range goes to the last key.
    end: Option<Bytes>,
}

impl Granted {
    fn of(permission: &Permission) -> Self {
        let first = permission.key.clone();
        let end = match &permission.range_end[..] {
            [] => Some(next(&first)),
            [0] => None,
            _ => Some(permission.range_end.clone()),
        };
        Self { first, end }
    }

    /// Whether it ends before a key, or at it.
    fn ends_by(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_some_and(|end| &end[..] <= key)
    }
}

impl Grants {
    pub(super) fn of(permissions: &[Permission]) -> Self {
        // A type that this version does not know grants nothing, as in etcd.
        let with = |one: Type| {
            let kinds = [one as i32, Type::Readwrite as i32];
            let granting = permissions
                .iter()
                .filter(|permission| kinds.contains(&permission.perm_type));
            merged(granting.map(Granted::of).collect())
        };
        Self {
            read: with(Type::Read),
            write: with(Type::Write),
        }
    }

    fn ranges(&self, access: KeyAccess) -> &[Granted] {
        match access {
            KeyAccess::Read => &self.read,
            KeyAccess::Write => &self.write,
        }
    }

    /// The end of the range in which a key is: `Some(None)` if it goes to the last key. `None` if no range has the key.
    fn end_after(&self, access: KeyAccess, key: &[u8]) -> Option<Option<&Bytes>> {
        let ranges = self.ranges(access);
        let after = ranges.partition_point(|range| &range.first[..] <= key);
        let range = ranges[..after].last()?;
        (!range.ends_by(key)).then_some(range.end.as_ref())
    }
}

/// Whether all of these grants together cover a range of keys, whose end is as in a `RangeRequest`. Of a range without
/// keys they must cover the first key.
pub(super) fn cover<'a>(
    grants: impl Iterator<Item = &'a Grants> + Clone,
    access: KeyAccess,
    key: &[u8],
    range_end: &[u8],
) -> bool {
    let mut covered = key;
    loop {
        let mut ends = grants.clone().filter_map(|grants| grants.end_after(access, covered));
        let Some(mut farthest) = ends.next() else { return false };
        for end in ends {
            farthest = match (farthest, end) {
                (Some(one), Some(other)) => Some(one.max(other)),
                _ => None,
            };
        }
        // Each round ends farther than the one before.
        match farthest {
            None => return true,
            Some(_) if range_end.is_empty() => return true,
            Some(end) if range_end != [0] && range_end <= &end[..] => return true,
            Some(end) => covered = end,
        }
    }
}

/// The ranges by first key. Ranges that overlap or adjoin become one.
fn merged(mut ranges: Vec<Granted>) -> Vec<Granted> {
    ranges.sort_by(|one, other| one.first.cmp(&other.first));
    let mut merged: Vec<Granted> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.first) => {
                last.end = match (last.end.take(), range.end) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    _ => None,
                };
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The key right after a key.
fn next(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}
