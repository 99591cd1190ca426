//! A second store that never crashes: fed with the member's log, it has what the member must have.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use quoin_core::member::Recovered;
use quoin_core::proto::etcdserverpb::InternalRaftRequest;
use quoin_core::proto::raftpb::{Entry, EntryType};
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig, View};

use super::{Verdict, ensure};

/// The log as it was handed to the disk, and the store it makes.
pub(super) struct Witness {
    log: BTreeMap<u64, Entry>,
    store: Store,
    applied: Applied,
    /// The entries that end leases: lease and index.
    revokes: BTreeSet<(i64, u64)>,
}

impl Witness {
    /// A store that nothing was applied to.
    #[must_use]
    pub(super) fn new(config: StoreConfig) -> Self {
        Self {
            log: BTreeMap::new(),
            store: Store::new(config),
            applied: Applied::default(),
            revokes: BTreeSet::new(),
        }
    }

    /// Entries were handed to the disk. Returns the leases they end.
    pub(super) fn handed(&mut self, entries: &[Entry]) -> Vec<i64> {
        let mut ended = Vec::new();
        for entry in entries {
            self.cut(entry.index);
            self.log.insert(entry.index, entry.clone());
            if let Some(lease) = revoked(entry) {
                self.revokes.insert((lease, entry.index));
                ended.push(lease);
            }
        }
        ended
    }

    /// The log was read back: entries up to `committed` are what they were, and the rest may be gone.
    pub(super) fn recovered(&mut self, recovered: &Recovered, committed: u64) -> Verdict {
        let last = recovered
            .entries
            .last()
            .map_or(recovered.snapshot_index, |entry| entry.index);
        ensure(last >= committed, || {
            format!("the log ends at {last}, and entry {committed} was applied")
        })?;
        self.cut(last + 1);
        for entry in &recovered.entries {
            match self.log.get(&entry.index) {
                Some(known) => ensure(known == entry || entry.index > committed, || {
                    format!("entry {} was {known:?} and now is {entry:?}", entry.index)
                })?,
                // Boot itself wrote the first entries.
                None => ensure(self.store.consistent_index() < entry.index, || {
                    format!("entry {} was never handed to the disk", entry.index)
                })?,
            }
            if self.log.get(&entry.index) != Some(entry) {
                self.handed(std::slice::from_ref(entry));
            }
        }
        Ok(())
    }

    /// Compares the member's state with what its log makes.
    pub(super) fn compare(&mut self, view: &View) -> Verdict {
        self.apply_to(view.applied_index)?;
        self.store.check();
        let own = self.store.view();
        ensure(own.applied_index == view.applied_index, || {
            format!(
                "the state is at entry {}, the witness at {}",
                view.applied_index, own.applied_index
            )
        })?;
        ensure(
            own.kv.revision() == view.kv.revision() && own.kv.compact_revision() == view.kv.compact_revision(),
            || format!("keys are at {:?} and should be at {:?}", view.kv, own.kv),
        )?;
        // Where there is no key, the hash is over what compaction has not removed yet, which is not the log's to say.
        ensure(
            view.kv.key_count() == 0 || own.kv.hash_kv(0) == view.kv.hash_kv(0),
            || {
                format!(
                    "at entry {} the hash is {:?} and should be {:?}",
                    view.applied_index,
                    view.kv.hash_kv(0),
                    own.kv.hash_kv(0)
                )
            },
        )?;
        ensure(leases(&own) == leases(view), || {
            format!(
                "at entry {} leases are {:?} and should be {:?}",
                view.applied_index,
                leases(view),
                leases(&own)
            )
        })?;
        ensure(own.alarms == view.alarms && own.cluster == view.cluster, || {
            format!(
                "alarms or members are {:?} {:?} and should be {:?} {:?}",
                view.alarms, view.cluster, own.alarms, own.cluster
            )
        })
    }

    /// The last entry that ends a lease; 0 if there is none.
    #[must_use]
    pub(super) fn revoked_at(&self, lease: i64) -> u64 {
        self.revokes
            .range((lease, 0)..=(lease, u64::MAX))
            .next_back()
            .map_or(0, |(_, index)| *index)
    }

    fn apply_to(&mut self, index: u64) -> Verdict {
        while self.store.consistent_index() < index {
            let next = self.store.consistent_index() + 1;
            let Some(entry) = self.log.get(&next) else {
                return ensure(false, || {
                    format!("entry {next} is applied and was never handed to the disk")
                });
            };
            let context = ApplyContext {
                quota_bytes: None,
                wanted: &|_| false,
            };
            let applied = self.store.apply(entry, context, &mut self.applied);
            ensure(applied.is_ok(), || {
                format!("entry {next} cannot be applied: {applied:?}")
            })?;
            self.applied.clear();
        }
        Ok(())
    }

    /// Forgets the entries from `index` on.
    fn cut(&mut self, index: u64) {
        if self.log.last_key_value().is_some_and(|(last, _)| *last >= index) {
            drop(self.log.split_off(&index));
            self.revokes.retain(|(_, at)| *at < index);
        }
    }
}

type LeaseFacts = Vec<(i64, i64, i64, Vec<bytes::Bytes>)>;

fn leases(view: &View) -> LeaseFacts {
    let facts = |(id, lease): (i64, &quoin_core::store::Lease)| {
        (id, lease.ttl(), lease.remaining_ttl(), lease.keys().cloned().collect())
    };
    view.leases.iter().map(facts).collect()
}

/// The lease that an entry ends.
fn revoked(entry: &Entry) -> Option<i64> {
    if entry.entry_type != EntryType::EntryNormal as i32 || entry.data.is_empty() {
        return None;
    }
    InternalRaftRequest::decode(entry.data.clone())
        .ok()?
        .lease_revoke
        .map(|revoke| revoke.id)
}
