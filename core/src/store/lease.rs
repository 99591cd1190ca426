//! Leases as every member has them: the granted times and the attached keys. This file has no clock; the leader's lease
//! clock is in the lessor.

use std::fmt;

use bytes::Bytes;

use super::check;
use crate::error::Error;
use crate::mvcc::tree::{Live, Tree};

/// One lease. A clone is O(1).
#[derive(Clone)]
pub struct Lease {
    ttl: i64,
    remaining_ttl: i64,
    keys: Tree<Vec<Bytes>, ()>,
}

impl Lease {
    /// A lease without keys.
    pub(super) fn new(ttl: i64, remaining_ttl: i64) -> Self {
        Self {
            ttl,
            remaining_ttl,
            keys: Tree::default(),
        }
    }

    /// The seconds granted.
    #[must_use]
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// The seconds that remained at the last checkpoint; 0 if there was none.
    #[must_use]
    pub fn remaining_ttl(&self) -> i64 {
        self.remaining_ttl
    }

    /// The attached keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter().map(|(key, ())| key)
    }

    /// The attached keys as they are now; O(1).
    #[must_use]
    pub fn all_keys(&self) -> LeaseKeys {
        LeaseKeys(self.keys.clone())
    }

    /// How many keys are attached.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.size().entries
    }
}

/// The keys that were attached to a lease at one moment. A clone is O(1).
#[derive(Clone, Default)]
pub struct LeaseKeys(Tree<Vec<Bytes>, ()>);

impl LeaseKeys {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.size().entries
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().map(|(key, ())| key)
    }
}

impl FromIterator<Bytes> for LeaseKeys {
    fn from_iter<I: IntoIterator<Item = Bytes>>(keys: I) -> Self {
        let mut tree = Tree::default();
        for key in keys {
            tree.insert(&key, ());
        }
        Self(tree)
    }
}

impl PartialEq for LeaseKeys {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for LeaseKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// All leases by id. A clone is O(1) and does not change.
#[derive(Clone, Default)]
pub struct Leases {
    by_id: Tree<Vec<i64>, Lease>,
}

impl Leases {
    /// The lease with this id.
    #[must_use]
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// All leases in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    /// The leases with a row id of at least `from`, in the order of their rows. Row ids are unsigned, so negative ids
    /// come last.
    pub(super) fn iter_as_rows(&self, from: u64) -> impl Iterator<Item = (i64, &Lease)> {
        let from = from.cast_signed();
        let positive = (from >= 0).then(|| self.by_id.range(&from, None));
        let negative = self.by_id.range(if from < 0 { &from } else { &i64::MIN }, Some(&0));
        positive
            .into_iter()
            .flatten()
            .chain(negative)
            .map(|(id, lease)| (*id, lease))
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.size().entries
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a lease of at least `min_ttl` seconds and returns the seconds that it got.
    ///
    /// Any id but 0 is legal, negative ones too.
    pub(super) fn grant(&mut self, id: i64, ttl: i64, min_ttl: i64) -> Result<i64, Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        check::lease_ttl(ttl)?;
        if self.get(id).is_some() {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(min_ttl);
        self.restore(id, Lease::new(ttl, 0));
        Ok(ttl)
    }

    /// Adds a lease read from the table.
    pub(super) fn restore(&mut self, id: i64, lease: Lease) {
        self.by_id.insert(&id, lease);
    }

    /// Ends a lease; the caller deletes its keys.
    pub(super) fn revoke(&mut self, id: i64) -> Option<Lease> {
        self.by_id.remove(&id)
    }

    /// Records how many seconds a lease has left; false if there is no such lease.
    pub(super) fn checkpoint(&mut self, id: i64, remaining_ttl: i64) -> bool {
        self.by_id
            .update(&id, |lease| lease.remaining_ttl = remaining_ttl)
            .is_some()
    }

    /// Moves a key that was just put from its former lease to its present one; 0 is none.
    ///
    /// A lease that does not exist gets no key.
    pub(super) fn reattach(&mut self, key: &Bytes, before: i64, now: i64) {
        if before != now {
            self.detach(key, before);
        }
        if now != 0 {
            self.by_id.update(&now, |lease| {
                if lease.keys.get(key).is_none() {
                    // A copy: the key itself may be a slice of a much larger entry, which it would keep in memory.
                    lease.keys.insert(&Bytes::copy_from_slice(key), ());
                }
            });
        }
    }

    /// Detaches a key from a lease.
    pub(super) fn detach(&mut self, key: &Bytes, id: i64) {
        if id != 0 {
            self.by_id.update(&id, |lease| lease.keys.remove(key));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ttl, remaining_ttl, .. } = self;
        write!(f, "{ttl}s, {remaining_ttl}s remaining, {} keys", self.key_count())
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Live for Lease {
    fn is_live(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_LEASE_TTL_SECONDS;

    fn keys(leases: &Leases, id: i64) -> Vec<&[u8]> {
        leases.get(id).unwrap().keys().map(|key| &key[..]).collect()
    }

    #[test]
    fn grants_follow_etcds_limits() {
        let table = [
            ((0, 10), Err(Error::LeaseNotFound)),
            ((1, 10), Ok(10)),
            ((1, 10), Err(Error::LeaseExists)),
            ((1, MAX_LEASE_TTL_SECONDS + 1), Err(Error::LeaseTtlTooLarge)),
            ((-7, 0), Ok(2)),
            ((i64::MIN, -5), Ok(2)),
            ((i64::MAX, MAX_LEASE_TTL_SECONDS), Ok(MAX_LEASE_TTL_SECONDS)),
        ];
        let mut leases = Leases::default();
        for ((id, ttl), expected) in table {
            assert_eq!(leases.grant(id, ttl, 2), expected, "grant {id} {ttl}");
        }
        assert_eq!(
            leases.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            [i64::MIN, -7, 1, i64::MAX]
        );
    }

    #[test]
    fn a_key_is_attached_to_at_most_one_lease_and_only_if_it_exists() {
        let mut leases = Leases::default();
        leases.grant(1, 10, 2).unwrap();
        leases.grant(2, 10, 2).unwrap();
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        leases.reattach(&b, 0, 1);
        leases.reattach(&a, 0, 1);
        let before = leases.clone();
        leases.reattach(&a, 1, 2);
        assert_eq!((keys(&leases, 1), keys(&leases, 2)), (vec![&b"b"[..]], vec![&b"a"[..]]));
        assert_eq!(keys(&before, 1), [b"a", b"b"], "a view taken before stays");
        leases.reattach(&b, 1, 9);
        leases.detach(&a, 2);
        assert_eq!(
            (keys(&leases, 1).len(), keys(&leases, 2).len(), leases.get(9).is_none()),
            (0, 0, true)
        );
    }
}
