//! Leases as their clients know them: which must exist, and until when at least.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::store::View;
use quoin_core::time::Instant;

use super::witness::Witness;
use super::{Verdict, ensure};

/// A lease that a client was granted.
#[derive(Clone, Copy, Debug)]
struct Granted {
    ttl: i64,
    /// When the client asked for it, or last asked to keep it alive: it was so later than that.
    since: Instant,
    /// The last entry applied when it was asked for.
    after_index: u64,
}

/// All leases that clients know.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseBook {
    granted: BTreeMap<i64, Granted>,
    /// How many clients are ending each lease, and when the last of them stopped to wait.
    ending: BTreeMap<i64, (u32, Instant)>,
}

impl LeaseBook {
    /// A client was granted a lease it asked for at `since`, when entries up to `after_index` were applied.
    pub(super) fn granted(&mut self, id: i64, ttl: i64, since: Instant, after_index: u64) {
        self.granted.insert(
            id,
            Granted {
                ttl,
                since,
                after_index,
            },
        );
    }

    /// A client was told that a lease lives on for `ttl` seconds, which it asked for at `since`.
    pub(super) fn renewed(&mut self, id: i64, ttl: i64, since: Instant) {
        if let Some(granted) = self.granted.get_mut(&id).filter(|granted| granted.since <= since) {
            // It may have been granted anew meanwhile, to somebody who never heard of it.
            (granted.ttl, granted.since) = (ttl, since);
        }
    }

    /// A client asks to end a lease.
    pub(super) fn asked_to_end(&mut self, id: i64) {
        self.ending.entry(id).or_insert((0, Instant::ZERO)).0 += 1;
    }

    /// A client that asked to end a lease does not wait any more.
    pub(super) fn stopped_asking(&mut self, id: i64, now: Instant) {
        let ending = self.ending.entry(id).or_insert((1, now));
        *ending = (ending.0.saturating_sub(1), now);
    }

    /// An entry that ends a lease goes to the log: a client asked for it, or its time is over.
    pub(super) fn ends(&self, id: i64, now: Instant) -> Verdict {
        let Some(granted) = self.granted.get(&id) else {
            return Ok(());
        };
        let asked = self
            .ending
            .get(&id)
            .is_some_and(|(asking, until)| *asking > 0 || *until >= granted.since);
        let ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0));
        ensure(asked || granted.since + ttl <= now, || {
            format!(
                "lease {id} ends at {now}, was kept alive after {} and has {}s",
                granted.since, granted.ttl
            )
        })
    }

    /// Every lease that was granted is there, or an entry ended it; keys and leases name each other.
    pub(super) fn check(&self, view: &View, witness: &Witness) -> Verdict {
        for (id, granted) in &self.granted {
            match view.leases.get(*id) {
                Some(lease) => ensure(
                    lease.ttl() == granted.ttl || witness.revoked_at(*id) > granted.after_index,
                    || format!("lease {id} was granted {}s and has {}s", granted.ttl, lease.ttl()),
                )?,
                None => ensure(witness.revoked_at(*id) > granted.after_index, || {
                    format!("lease {id} was granted and is gone for no reason")
                })?,
            }
        }
        let named = view.kv.leased_keys().filter(|(_, id)| view.leases.get(*id).is_some());
        let mut named: Vec<(i64, &[u8])> = named.map(|(key, id)| (id, key)).collect();
        named.sort_unstable();
        let attached = view
            .leases
            .iter()
            .flat_map(|(id, lease)| lease.keys().map(move |key| (id, &key[..])));
        let attached: Vec<(i64, &[u8])> = attached.collect();
        ensure(named == attached, || {
            format!("keys name leases {named:?}, and leases hold keys {attached:?}")
        })
    }
}
