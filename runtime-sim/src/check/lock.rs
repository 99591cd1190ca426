//! Locks: a client that writes under a lock holds it. The lock is etcd's recipe: each key is the lock's name, a slash
//! and the session's lease in hex, and the one with the lowest creation revision holds it. A guarded write compares its
//! creation revision. A critical section without such a guard is not checked: it is not safe.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::{Compare, TxnRequest, request_op};
use quoin_core::time::Instant;

use std::collections::BTreeMap;

use super::{Asked, Checker, Truth};
use crate::observe::{Observation, Verdict, ensure};
use quoin_model::call::Answer;
use quoin_model::etcd::State;

/// The name of this checker in violations.
const LOCK: &str = "LOCK";

/// The default prefix of the keys of locks.
const PREFIX: &[u8] = b"lock/";

/// Checks guarded writes in the committed log, and the answers by which clients hold a lock.
#[derive(Debug)]
pub struct LockChecker {
    prefix: Bytes,
    looked: u64,
    /// The creation revision of the holder that wrote last under each lock.
    writers: BTreeMap<Bytes, i64>,
    guarded: u64,
    fenced: u64,
}

impl Default for LockChecker {
    fn default() -> Self {
        Self::new(PREFIX)
    }
}

impl Checker for LockChecker {
    fn see(&mut self, _at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        if truth.committed() < self.looked {
            // A new cluster was formed, and what the log had beyond is dropped.
            self.looked = 0;
            self.writers.clear();
        }
        while self.looked < truth.committed() {
            self.looked += 1;
            let asked = truth.entry(self.looked).map(|committed| &committed.asked);
            if let Some(Asked::Request(request)) = asked
                && let Some(txn) = &request.txn
            {
                self.txn(self.looked, txn, truth.model())?;
            }
        }
        match seen {
            Observation::Replied {
                result: Ok(answer @ Answer::Lock(lock)),
                ..
            } => self.granted(&lock.key, answer.revision(), truth),
            _ => Ok(()),
        }
    }
}

impl LockChecker {
    /// A checker of the locks whose keys begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &'static [u8]) -> Self {
        Self {
            prefix: Bytes::from_static(prefix),
            looked: 0,
            writers: BTreeMap::new(),
            guarded: 0,
            fenced: 0,
        }
    }

    /// The number of guarded writes that were carried out, and of those refused because their lock was lost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.guarded, self.fenced)
    }

    /// An answer, under a header of this revision, gives a client the lock by this key.
    ///
    /// # Errors
    /// If the key did not exist then, or another one came before it.
    pub fn granted(&self, key: &[u8], revision: i64, truth: &Truth) -> Verdict {
        let model = truth.model();
        let created = model.key_at(key, revision).map(|kv| kv.create_revision);
        ensure(created.is_some(), LOCK, || {
            format!(
                "the lock is given to {:?}, which is not there at revision {revision}",
                text(key)
            )
        })?;
        self.holds(key, created.unwrap_or(0), revision, model)
    }

    fn txn(&mut self, index: u64, txn: &TxnRequest, model: &State) -> Verdict {
        let Some((key, created)) = txn.compare.iter().find_map(|compare| self.guard(compare)) else {
            return Ok(());
        };
        let is_put = |op: &quoin_core::proto::etcdserverpb::RequestOp| {
            matches!(op.request, Some(request_op::Request::RequestPut(_)))
        };
        if !txn.success.iter().any(is_put) {
            return Ok(());
        }
        let before = model.revision_at(index - 1);
        let is_there = model
            .key_at(key, before)
            .is_some_and(|kv| kv.create_revision == created);
        if !is_there || model.revision_at(index) == before {
            self.fenced += 1;
            return Ok(());
        }
        self.guarded += 1;
        self.holds(key, created, before, model)?;
        let name = Bytes::copy_from_slice(name_of(key));
        let last = self.writers.entry(name).or_insert(created);
        ensure(*last <= created, LOCK, || {
            let key = text(key);
            format!("entry {index} writes as {key:?}, made at {created}, after the holder made at {last} wrote")
        })?;
        *last = created;
        Ok(())
    }

    /// The lock key and creation revision in the condition of a guarded write.
    fn guard<'a>(&self, compare: &'a Compare) -> Option<(&'a [u8], i64)> {
        let is_equal = compare.result == CompareResult::Equal as i32 && compare.target == CompareTarget::Create as i32;
        match compare.target_union {
            Some(TargetUnion::CreateRevision(created))
                if is_equal && created > 0 && compare.range_end.is_empty() && compare.key.starts_with(&self.prefix) =>
            {
                Some((&compare.key, created))
            }
            _ => None,
        }
    }

    /// Whether no key before `key` exists at a revision.
    fn holds(&self, key: &[u8], created: i64, revision: i64, model: &State) -> Verdict {
        let name = name_of(key);
        let mut keys = model.live(revision);
        let earlier = keys.find(|kv| name_of(&kv.key) == name && kv.create_revision < created);
        ensure(earlier.is_none(), LOCK, || {
            format!(
                "{:?}, made at {created}, acts as holder at revision {revision}, where {:?} came before it",
                text(key),
                earlier.map(|kv| &kv.key)
            )
        })
    }
}

/// The lock's name with its slash: the part before the session.
fn name_of(key: &[u8]) -> &[u8] {
    let slash = key.iter().rposition(|byte| *byte == b'/');
    &key[..slash.map_or(0, |place| place + 1)]
}

fn text(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use quoin_core::proto::etcdserverpb::{PutRequest, RequestOp};

    use super::super::tests::story::{self, grant, put, revoke, txn};
    use super::*;

    type Story = story::Story<LockChecker>;

    /// Leases 1 and 2 wait for a lock with keys made at revisions 2 and 3.
    fn story() -> Story {
        let mut story = Story::new(LockChecker::default());
        for request in [grant(1, 60), grant(2, 60), put("lock/x/1", 1), put("lock/x/2", 2)] {
            story.commit(request).expect("no write is guarded yet");
        }
        story
    }

    /// A write guarded by a lock key and its creation revision.
    fn guarded(key: &'static str, created: i64) -> TxnRequest {
        let guard = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: key.into(),
            target_union: Some(TargetUnion::CreateRevision(created)),
            ..Compare::default()
        };
        let put = PutRequest {
            key: "guarded".into(),
            value: key.into(),
            ..PutRequest::default()
        };
        TxnRequest {
            compare: vec![guard],
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(put)),
            }],
            ..TxnRequest::default()
        }
    }

    fn broken(verdict: &Verdict) -> Option<&'static str> {
        verdict.as_ref().err().map(|violation| violation.checker)
    }

    #[test]
    fn holders_write_one_after_the_other() {
        let mut story = story();
        assert_eq!(story.commit(txn(guarded("lock/x/1", 2))), Ok(()));
        assert_eq!(story.commit(revoke(1)), Ok(()));
        assert_eq!(story.commit(txn(guarded("lock/x/1", 2))), Ok(()), "it is fenced off");
        assert_eq!(story.commit(txn(guarded("lock/x/2", 3))), Ok(()));
        assert_eq!(story.checker.counts(), (2, 1));
    }

    #[test]
    fn a_client_that_waits_for_the_lock_does_not_write() {
        let mut story = story();
        assert_eq!(broken(&story.commit(txn(guarded("lock/x/2", 3)))), Some(LOCK));
    }

    #[test]
    fn a_lock_is_given_to_a_key_that_is_there_and_comes_first() {
        let mut story = story();
        assert_eq!(story.checker.granted(b"lock/x/1", 3, &story.truth), Ok(()));
        assert_eq!(broken(&story.checker.granted(b"lock/x/2", 3, &story.truth)), Some(LOCK));
        story.commit(revoke(1)).expect("no write");
        assert_eq!(broken(&story.checker.granted(b"lock/x/1", 4, &story.truth)), Some(LOCK));
        assert_eq!(story.checker.granted(b"lock/x/2", 4, &story.truth), Ok(()));
    }
}
