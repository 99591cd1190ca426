//! C35, C37, C38, C39, C40, C43, C47 and C48: what is applied, what is durable, what is left after a restart, and
//! whether members agree.

use std::collections::BTreeMap;

use quoin_core::id::MemberId;
use quoin_core::limits::{MAX_APPEND_BYTES, MAX_INFLIGHT_REQUESTS, MAX_REQUEST_BYTES};
use quoin_core::member::{Recovered, Status};
use quoin_core::mvcc::HashKv;
use quoin_core::proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::store::View;
use quoin_core::time::Instant;

use super::raft::configuration;
use super::{Checker, MemberFacts, Truth, pause, state};
use crate::observe::{Observation, Verdict, Violation, ensure};
use quoin_model::call::{Answer, Call};

/// A hash is made at most once in this many publications of a member.
const HASH_EVERY: u64 = 64;

/// The largest number of proposals that a member makes for itself.
const OWN_PROPOSALS_MAX: u64 = 64;

/// The part of the state that is equal on all members after the same entry.
type Digest = (i64, i64, u64, usize, usize);

/// The last observed state of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    publications: u64,
    /// The publication at which a hash is made next.
    hash_due: u64,
    applied: u64,
    revision: i64,
    /// One more than the compact revision, which is -1 before the first.
    compacted: u64,
    finished: i64,
    term: u64,
    commit: u64,
    durable: u64,
}

/// The checker.
#[derive(Debug, Default)]
pub(super) struct Storage {
    members: BTreeMap<MemberId, Last>,
    /// The number of committed entries checked.
    committed: u64,
    digests: BTreeMap<u64, Digest>,
    hashes: BTreeMap<(i64, i64), (u32, MemberId)>,
    /// How often a new cluster was formed.
    founded: u64,
}

impl Checker for Storage {
    fn see(&mut self, _at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Sent { member, message, .. } => sent(member, message, truth),
            Observation::Published {
                member, view, status, ..
            } => {
                self.look_at_committed(truth)?;
                self.published(member, view, status, truth)
            }
            Observation::Started {
                member,
                recovered,
                view,
            } => {
                self.members.insert(member, Last::default());
                self.look_at_committed(truth)?;
                started(member, recovered, view, truth)
            }
            Observation::Replied {
                member,
                result: Ok(Answer::HashKv(response)),
                ..
            } => self.hash_answered(member, response, truth),
            Observation::Faulted { member, fault, excused } => ensure(excused, "C47", || {
                format!("member {member} stops by itself, and its disk is not to blame: {fault}")
            }),
            _ => Ok(()),
        }
    }
}

impl Storage {
    /// C37: an entry was on the disks of a majority of the voters when the first member applied it.
    ///
    /// The leader counts by the configuration that it has applied. A change is proposed only when the one before is
    /// applied, so that this is the configuration of the last change before the entry, or of the one before that.
    fn look_at_committed(&mut self, truth: &Truth) -> Verdict {
        let (founded, kept) = truth.founded();
        if self.founded != founded {
            self.founded = founded;
            self.committed = self.committed.min(kept);
            self.digests.clear();
            self.hashes.clear();
        }
        if self.committed == truth.committed() {
            return Ok(());
        }
        // Logs match: a log with the last entry has those before it, too.
        let Some(last) = truth.entry(truth.committed()) else {
            return Ok(());
        };
        self.committed = truth.committed();
        let (index, term) = (last.entry.index, last.entry.term);
        if index <= truth.decreed() {
            return Ok(());
        }
        let is_quorum = |voters: &[u64]| {
            let has = |id: &&u64| {
                let facts = truth.member(MemberId(**id));
                facts.is_some_and(|facts| facts.disk.has(index, term) || facts.lost.has(index, term))
            };
            voters.is_empty() || voters.iter().filter(has).count() > voters.len() / 2
        };
        let now = configuration(truth, index - 1).0;
        if is_quorum(&now) {
            return Ok(());
        }
        let change = (1..index)
            .rev()
            .find(|before| configuration(truth, *before - 1).0 != now);
        let before = change.map_or(Vec::new(), |change| configuration(truth, change - 1).0);
        ensure(change.is_some() && is_quorum(&before), "C37", || {
            let on: Vec<_> = truth
                .members()
                .filter(|(_, facts)| facts.disk.has(index, term))
                .map(|(id, _)| id.0)
                .collect();
            format!("entry {index} of term {term} is applied and durable on {on:x?} of the voters {now:x?}")
        })
    }

    fn published(&mut self, member: MemberId, view: &View, status: &Status, truth: &Truth) -> Verdict {
        honest(member, view, status)?;
        let expected = truth.entry(view.applied_index).map_or(0, |known| known.entry.term);
        ensure(view.term == expected, "C35", || {
            let (index, found) = (view.applied_index, view.term);
            format!("member {member} has applied entry {index} of term {found}, and others that of term {expected}")
        })?;
        let last = self.members.entry(member).or_default();
        forward(member, last, view, status)?;
        let publications = last.publications + 1;
        let is_swept = view.kv.finished_compact() != last.finished;
        let is_hashed = publications >= last.hash_due.max(HASH_EVERY);
        *last = Last {
            publications,
            hash_due: if is_hashed {
                publications + pause(HASH_EVERY, view)
            } else {
                last.hash_due
            },
            applied: view.applied_index,
            revision: view.kv.revision(),
            compacted: compacted(view),
            finished: view.kv.finished_compact(),
            term: status.term,
            commit: status.commit_index,
            durable: status.durable_index,
        };
        let Some(facts) = truth.member(member) else {
            return Ok(());
        };
        ensure(
            !status.published || view.applied_index >= facts.past.applied,
            "C38",
            || {
                let (index, past) = (view.applied_index, facts.past.applied);
                format!("member {member} serves again at entry {index}, and had applied {past} before it restarted")
            },
        )?;
        let bound = (facts.disk.last(), facts.applied);
        ensure(bound.1 <= bound.0, "C37", || {
            format!(
                "member {member} has applied entry {}, and its disk has {}",
                bound.1, bound.0
            )
        })?;
        self.digest(member, view)?;
        if is_swept {
            swept(member, view, truth)?;
        }
        if is_hashed {
            return self.hash(member, view, truth);
        }
        Ok(())
    }

    /// C35.
    fn digest(&mut self, member: MemberId, view: &View) -> Verdict {
        let digest: Digest = (
            view.kv.revision(),
            view.kv.compact_revision(),
            view.term,
            view.kv.key_count(),
            view.leases.len(),
        );
        let known = *self.digests.entry(view.applied_index).or_insert(digest);
        ensure(known == digest, "C35", || {
            let index = view.applied_index;
            format!("after entry {index} member {member} has {digest:?}, and others have {known:?}")
        })
    }

    /// C43: at present, and at a revision of the past.
    fn hash(&mut self, member: MemberId, view: &View, truth: &Truth) -> Verdict {
        swept(member, view, truth)?;
        let (from, to) = (view.kv.compact_revision().max(1), view.kv.revision());
        for revision in [to, from + (to - from) / 2] {
            match view.kv.hash_kv(revision) {
                Ok(hash) => self.compare_hash(member, hash, view.applied_index, truth)?,
                Err(error) => {
                    let words = format!("member {member} cannot hash revision {revision}: {error}");
                    return Err(Violation { checker: "C43", words });
                }
            }
        }
        Ok(())
    }

    fn hash_answered(&mut self, member: MemberId, response: &HashKvResponse, truth: &Truth) -> Verdict {
        let hash = HashKv {
            hash: response.hash,
            compact_revision: response.compact_revision,
            hash_revision: response.hash_revision,
        };
        let applied = truth.member(member).map_or(0, |facts| facts.applied);
        self.compare_hash(member, hash, applied, truth)
    }

    /// If no key is left, etcd hashes what compaction has not deleted yet, on which members need not agree.
    ///
    /// All members may be wrong alike, so the first hash is compared with the model's, if the model is compacted as
    /// far.
    fn compare_hash(&mut self, member: MemberId, hash: HashKv, applied: u64, truth: &Truth) -> Verdict {
        if truth.model().live(hash.hash_revision).next().is_none() {
            return Ok(());
        }
        let covers = (hash.hash_revision, hash.compact_revision);
        let model = truth.model();
        if !self.hashes.contains_key(&covers) && model.compact_revision_at(applied) == hash.compact_revision {
            let revision = hash.hash_revision;
            let expected = match model.answer(&Call::HashKv(HashKvRequest { revision }), applied) {
                Ok(Answer::HashKv(expected)) => expected.hash,
                Ok(_) | Err(_) => hash.hash,
            };
            ensure(hash.hash == expected, "C43", || {
                let found = hash.hash;
                format!(
                    "the hash of (revision, compacted) {covers:?} is {found:x} at {member} and should be {expected:x}"
                )
            })?;
        }
        let (known, by) = *self.hashes.entry(covers).or_insert((hash.hash, member));
        ensure(known == hash.hash, "C43", || {
            let (revision, compacted) = covers;
            let found = hash.hash;
            format!(
                "the hash of revision {revision}, compacted at {compacted}, is {found:x} at {member} and {known:x} at {by}"
            )
        })
    }
}

/// C37: everything that a message claims to be on disk is there, and so is its term. C47: messages are bounded.
fn sent(member: MemberId, message: &Message, truth: &Truth) -> Verdict {
    let kind = MessageType::try_from(message.msg_type);
    match kind {
        Ok(
            MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgSnapshot,
        ) => {}
        _ => return Ok(()),
    }
    let Some(facts) = truth.member(member) else {
        return Ok(());
    };
    ensure(facts.disk.hard_state.term >= message.term, "C37", || {
        let (term, durable) = (message.term, facts.disk.hard_state.term);
        format!("member {member} sends {kind:?} in term {term}, and on its disk is term {durable}")
    })?;
    if kind == Ok(MessageType::MsgAppendResponse) && !message.reject {
        let is_late = message.term < facts.disk.hard_state.term;
        let reached = if is_late { facts.disk.reached(message.term) } else { 0 };
        let last = facts.disk.last().max(reached);
        return ensure(last >= message.index, "C37", || {
            let index = message.index;
            format!("member {member} says it has entry {index}, and its disk ends at {last}")
        });
    }
    if message.entries.len() > 1 {
        let bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
        return ensure(bytes <= MAX_APPEND_BYTES + MAX_REQUEST_BYTES, "C47", || {
            format!("member {member} sends {bytes} bytes of entries at once")
        });
    }
    Ok(())
}

/// C47 and C48: a member's status is consistent and within its limits.
fn honest(member: MemberId, view: &View, status: &Status) -> Verdict {
    let makes_sense = status.applied_index == view.applied_index
        && status.applied_index <= status.commit_index
        && status.durable_index <= status.applied_index
        && (!status.leads || status.leader == member)
        && status.member == member;
    ensure(makes_sense, "C48", || {
        format!(
            "member {member} has applied entry {} and says {status:?}",
            view.applied_index
        )
    })?;
    let limit = MAX_INFLIGHT_REQUESTS as u64 + OWN_PROPOSALS_MAX;
    ensure(status.proposals_pending <= limit, "C47", || {
        format!("member {member} has {} proposals under way", status.proposals_pending)
    })
}

/// C43: the rows that a finished compaction left.
fn swept(member: MemberId, view: &View, truth: &Truth) -> Verdict {
    state::compacted(view, truth).map_err(|words| Violation {
        checker: "C43",
        words: format!("member {member}: {words}"),
    })
}

fn compacted(view: &View) -> u64 {
    (view.kv.compact_revision() + 1).cast_unsigned()
}

/// C38, within a life.
fn forward(member: MemberId, last: &Last, view: &View, status: &Status) -> Verdict {
    let pairs = [
        ("applied index", last.applied, view.applied_index),
        ("term", last.term, status.term),
        ("commit index", last.commit, status.commit_index),
        ("durable index", last.durable, status.durable_index),
        (
            "revision",
            last.revision.cast_unsigned(),
            view.kv.revision().cast_unsigned(),
        ),
        ("compact revision, plus one,", last.compacted, compacted(view)),
    ];
    match pairs.iter().find(|(_, before, now)| now < before) {
        None => Ok(()),
        Some((what, before, now)) => {
            let words = format!("member {member}: the {what} goes back from {before} to {now}");
            Err(Violation { checker: "C38", words })
        }
    }
}

/// C38, C39 and C40 of a restart.
fn started(member: MemberId, recovered: &Recovered, view: &View, truth: &Truth) -> Verdict {
    let Some(facts) = truth.member(member) else {
        return Ok(());
    };
    if facts.life > 1 && !facts.is_wiped {
        came_back(member, recovered, facts)?;
    }
    ensure(view.applied_index == recovered.applied, "C40", || {
        let (state, log) = (view.applied_index, recovered.applied);
        format!("member {member} has the state of entry {state} and takes it for that of {log}")
    })?;
    let expected = truth.entry(view.applied_index).map_or(0, |known| known.entry.term);
    ensure(view.term == expected, "C40", || {
        let (index, found) = (view.applied_index, view.term);
        format!("member {member} comes back at entry {index} of term {found}, which is of term {expected}")
    })?;
    state::compare(view, truth).map_err(|words| Violation {
        checker: "C40",
        words: format!("member {member} comes back: {words}"),
    })
}

fn came_back(member: MemberId, recovered: &Recovered, facts: &MemberFacts) -> Verdict {
    let (past, state) = (&facts.past, recovered.hard_state);
    let durable = past.disk.hard_state;
    let has_vote = state.term > durable.term || durable.vote == 0 || state.vote == durable.vote;
    ensure(state.term >= durable.term && has_vote, "C38", || {
        format!("member {member} comes back with {state:?}, and {durable:?} was durable")
    })?;
    let (applied, known) = (recovered.applied, past.status.durable_index);
    ensure(applied >= known, "C38", || {
        format!("member {member} comes back at entry {applied}, and said that {known} was durable")
    })?;
    let bound = past.disk.bound();
    let last = facts.log.last();
    ensure(last >= bound, "C39", || {
        format!("member {member} comes back with entries to {last}, and {bound} were durable")
    })?;
    let lost = (facts.log.base_index + 1..=bound).find(|index| {
        past.disk
            .term(*index)
            .is_some_and(|term| facts.log.term(*index) != Some(term))
    });
    match lost {
        None => Ok(()),
        Some(index) => {
            let words = format!("member {member} comes back with another entry {index} than was durable");
            Err(Violation { checker: "C39", words })
        }
    }
}
