//! Leases without a clock: which exist, and the TTLs that the log gives them. Each key stores the id of its lease.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{LeaseCheckpoint, LeaseGrantRequest};

use super::digest::Digest;
use super::refusal::{LEASE_EXISTS, LEASE_NOT_FOUND, TOO_LARGE_TTL};
use super::timeline::Timeline;
use crate::call::Refusal;

/// The longest TTL that is granted, in seconds.
pub(super) const MAX_TTL: i64 = 9_000_000_000;

/// A lease at some moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// The seconds granted.
    pub granted_ttl: i64,
    /// The seconds it had left at its last checkpoint; 0 if there was none since it was granted or renewed.
    ///
    /// Members of a cluster of a version before 3.6 do not store it, and lose it when they restart.
    pub remaining_ttl: i64,
    /// The keys attached to it, in order.
    pub keys: Vec<Bytes>,
}

/// The TTL of a lease, as the log gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ttl {
    pub(super) granted: i64,
    pub(super) remaining: i64,
}

/// All leases that ever existed.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    by_id: BTreeMap<i64, Timeline<Option<Ttl>>>,
}

impl Leases {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.now(id).is_some()
    }

    pub(super) fn now(&self, id: i64) -> Option<Ttl> {
        self.by_id.get(&id).and_then(|timeline| *timeline.now())
    }

    pub(super) fn at(&self, id: i64, index: u64) -> Option<Ttl> {
        self.by_id.get(&id).and_then(|timeline| *timeline.at(index))
    }

    /// The leases that existed, by id.
    pub(super) fn all_at(&self, index: u64) -> impl Iterator<Item = (i64, Ttl)> {
        let ttl = move |(id, timeline): (&i64, &Timeline<Option<Ttl>>)| timeline.at(index).map(|ttl| (*id, ttl));
        self.by_id.iter().filter_map(ttl)
    }

    /// Makes a lease and returns the TTL granted, which is never below the minimum.
    pub(super) fn grant(&mut self, index: u64, request: &LeaseGrantRequest, min_ttl: i64) -> Result<i64, Refusal> {
        // Members choose an id before they propose; 0 means "no lease" on a key.
        if request.id == 0 {
            return Err(LEASE_NOT_FOUND.into());
        }
        if request.ttl > MAX_TTL {
            return Err(TOO_LARGE_TTL.into());
        }
        if self.contains(request.id) {
            return Err(LEASE_EXISTS.into());
        }
        let granted = request.ttl.max(min_ttl);
        self.set(index, request.id, Some(Ttl { granted, remaining: 0 }));
        Ok(granted)
    }

    /// Sets remaining times of leases; those that do not exist are skipped.
    pub(super) fn checkpoint(&mut self, index: u64, checkpoints: &[LeaseCheckpoint]) {
        for checkpoint in checkpoints {
            if let Some(ttl) = self.now(checkpoint.id) {
                let remaining = checkpoint.remaining_ttl;
                self.set(index, checkpoint.id, Some(Ttl { remaining, ..ttl }));
            }
        }
    }

    pub(super) fn revoke(&mut self, index: u64, id: i64) -> Result<(), Refusal> {
        if !self.contains(id) {
            return Err(LEASE_NOT_FOUND.into());
        }
        self.set(index, id, None);
        Ok(())
    }

    fn set(&mut self, index: u64, id: i64, ttl: Option<Ttl>) {
        let timeline = self.by_id.entry(id).or_insert_with(|| Timeline::new(None));
        timeline.set(index, ttl);
    }

    pub(super) fn feed(&self, digest: &mut Digest) {
        for (id, timeline) in &self.by_id {
            if let Some(Ttl { granted, remaining }) = timeline.now() {
                for number in [id, granted, remaining] {
                    digest.signed(*number);
                }
            }
        }
    }
}
