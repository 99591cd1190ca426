//! etcd's store as a specification: keys with their revisions, one revision for all, transactions, reads of the past,
//! compaction. It has no leases, no watches, and no errors for malformed requests, because the checked histories
//! contain none.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Spec, digest_of};

/// The specification.
#[derive(Clone, Copy, Debug)]
pub struct Kv;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Drop the history before a revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
    },
    /// One operation.
    One(Op),
    /// Several operations, depending on the keys.
    Txn {
        /// Keys with the mod revision that each must have (0: the key does not exist).
        compare: Vec<(Bytes, i64)>,
        /// Done if all conditions hold.
        success: Vec<Op>,
        /// Done otherwise.
        failure: Vec<Op>,
    },
}

/// An operation, alone or in a transaction. A range without an end is one key; the end `\0` is past the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Delete the keys of a range.
    DeleteRange {
        /// The first key.
        key: Bytes,
        /// The first key after the range.
        end: Option<Bytes>,
    },
    /// Set a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Read the keys of a range.
    Range {
        /// The first key.
        key: Bytes,
        /// The first key after the range.
        end: Option<Bytes>,
        /// The revision to read at; the current one if it is not above 0.
        revision: i64,
    },
}

/// A reply. Revisions are those of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a compaction.
    Compacted {
        /// The store's revision.
        revision: i64,
    },
    /// To one operation.
    One {
        /// The store's revision after it.
        revision: i64,
        /// Its result.
        reply: OpReply,
    },
    /// The request was refused, and nothing was done.
    Refused(Refusal),
    /// To a transaction.
    Txn {
        /// The store's revision after it.
        revision: i64,
        /// Whether all conditions held.
        succeeded: bool,
        /// The result of each operation.
        replies: Vec<OpReply>,
    },
}

/// The result of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// The number of deleted keys.
    Deleted(usize),
    /// The key was set.
    Put,
    /// The keys, in their order.
    Range(Vec<KeyValue>),
}

/// A revision that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was compacted.
    Compacted,
    /// It does not exist yet.
    Future,
}

/// A key as it is at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision that last set it.
    pub mod_revision: i64,
    /// How often it was set since it was created.
    pub version: i64,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    revision: i64,
    compacted: i64,
    /// Digest of all writes so far, which determines `keys`.
    past: u128,
    /// Every key's versions, oldest first.
    keys: BTreeMap<Bytes, Arc<Vec<Version>>>,
}

/// One write of a key; `live` is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    mod_revision: i64,
    live: Option<KeyValue>,
}

impl Reply {
    /// The revision of the header; a refusal has none.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Compacted { revision } | Self::One { revision, .. } | Self::Txn { revision, .. } => Some(*revision),
            Self::Refused(_) => None,
        }
    }
}

impl OpReply {
    fn tells_of_no_write(&self) -> bool {
        matches!(self, Self::Range(_) | Self::Deleted(0))
    }
}

impl Store {
    /// A store without keys.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            past: 0,
            keys: BTreeMap::new(),
        }
    }

    /// The state after a request, and its reply.
    #[must_use]
    pub fn execute(&self, request: &Request) -> (Self, Reply) {
        let done = match request {
            Request::Compact { revision } => self.compact(*revision),
            Request::One(op) => self.execute_all(std::slice::from_ref(op)).map(|(store, mut replies)| {
                let revision = store.revision;
                let reply = replies.pop().expect("one thing has one reply");
                (store, Reply::One { revision, reply })
            }),
            Request::Txn {
                compare,
                success,
                failure,
            } => {
                let succeeded = compare.iter().all(|(key, expected)| {
                    let found = self.live(key, i64::MAX).map_or(0, |found| found.mod_revision);
                    found == *expected
                });
                let ops = if succeeded { success } else { failure };
                self.execute_all(ops).map(|(store, replies)| {
                    let revision = store.revision;
                    let reply = Reply::Txn {
                        revision,
                        succeeded,
                        replies,
                    };
                    (store, reply)
                })
            }
        };
        done.unwrap_or_else(|refusal| (self.clone(), Reply::Refused(refusal)))
    }

    fn compact(&self, revision: i64) -> Result<(Self, Reply), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::Future);
        }
        let mut store = self.clone();
        store.compacted = revision;
        let revision = self.revision;
        Ok((store, Reply::Compacted { revision }))
    }

    /// All writes of a transaction have one revision. Revisions to read are checked before anything is written.
    fn execute_all(&self, ops: &[Op]) -> Result<(Self, Vec<OpReply>), Refusal> {
        for op in ops {
            if let Op::Range { revision, .. } = op
                && *revision > 0
            {
                if *revision > self.revision {
                    return Err(Refusal::Future);
                }
                if *revision < self.compacted {
                    return Err(Refusal::Compacted);
                }
            }
        }
        let mut store = self.clone();
        let next = self.revision + 1;
        let replies: Vec<_> = ops.iter().map(|op| store.execute_one(op, next)).collect();
        if replies.iter().any(|reply| !reply.tells_of_no_write()) {
            store.revision = next;
        }
        Ok((store, replies))
    }

    fn execute_one(&mut self, op: &Op, next: i64) -> OpReply {
        match op {
            Op::DeleteRange { key, end } => {
                let live = self.range(key, end.as_ref(), i64::MAX);
                for found in &live {
                    self.write(&found.key, next, None);
                }
                OpReply::Deleted(live.len())
            }
            Op::Put { key, value } => {
                let before = self.live(key, i64::MAX);
                let set = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: before.map_or(next, |before| before.create_revision),
                    mod_revision: next,
                    version: before.map_or(0, |before| before.version) + 1,
                };
                self.write(key, next, Some(set));
                OpReply::Put
            }
            Op::Range { key, end, revision } => {
                let at = if *revision > 0 { *revision } else { i64::MAX };
                OpReply::Range(self.range(key, end.as_ref(), at))
            }
        }
    }

    fn write(&mut self, key: &Bytes, mod_revision: i64, live: Option<KeyValue>) {
        let value = live.as_ref().map(|live| &live.value);
        self.past = digest_of(&(self.past, mod_revision, key, value));
        let versions = self.keys.entry(key.clone()).or_default();
        Arc::make_mut(versions).push(Version { mod_revision, live });
    }

    fn live(&self, key: &Bytes, at: i64) -> Option<&KeyValue> {
        live_at(self.keys.get(key)?, at)
    }

    fn range(&self, key: &Bytes, end: Option<&Bytes>, at: i64) -> Vec<KeyValue> {
        let Some(end) = end else {
            return self.live(key, at).cloned().into_iter().collect();
        };
        let inside = |found: &Bytes| end.as_ref() == b"\0" || found < end;
        let behind_start = self.keys.range(key.clone()..);
        let found = behind_start.take_while(|(found, _)| inside(found));
        found
            .filter_map(|(_, versions)| live_at(versions, at).cloned())
            .collect()
    }
}

fn live_at(versions: &[Version], at: i64) -> Option<&KeyValue> {
    let version = versions.iter().rev().find(|version| version.mod_revision <= at)?;
    version.live.as_ref()
}

impl Spec for Kv {
    type State = Store;
    type Input = Request;
    type Output = Reply;

    fn initial(&self) -> Store {
        Store::empty()
    }

    fn step(&self, state: &Store, input: &Request, output: Option<&Reply>) -> Option<Store> {
        // Most operations that do not fit are recognised by their revision, without executing anything.
        let possible = state.revision..=state.revision + 1;
        let revision = output.and_then(Reply::revision);
        if revision.is_some_and(|revision| !possible.contains(&revision)) {
            return None;
        }
        let (next, reply) = state.execute(input);
        output.is_none_or(|output| *output == reply).then_some(next)
    }

    fn digest(&self, state: &Store) -> u128 {
        digest_of(&(state.revision, state.compacted, state.past))
    }

    fn hint(&self, _input: &Request, output: &Reply) -> Option<i64> {
        output.revision()
    }

    fn level(&self, state: &Store) -> Option<i64> {
        Some(state.revision)
    }

    fn changes_nothing(&self, input: &Request, output: Option<&Reply>) -> bool {
        match output {
            Some(Reply::Compacted { .. }) => false,
            Some(Reply::One { reply, .. }) => reply.tells_of_no_write(),
            Some(Reply::Refused(_)) => true,
            Some(Reply::Txn { replies, .. }) => replies.iter().all(OpReply::tells_of_no_write),
            None => match input {
                Request::Compact { .. } => false,
                Request::One(op) => is_read(op),
                Request::Txn { success, failure, .. } => success.iter().chain(failure).all(is_read),
            },
        }
    }
}

fn is_read(op: &Op) -> bool {
    matches!(op, Op::Range { .. })
}
