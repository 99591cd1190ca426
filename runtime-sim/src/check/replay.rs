//! C1, C2, C6 and C7, and the readers' part of C42: every member's events, states and answers are those of the model at
//! the same entry of the committed log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quoin_core::error::{Code, Error};
use quoin_core::id::MemberId;
use quoin_core::limits::MAX_TXN_OPS;
use quoin_core::membership::ConfChangeContext;
use quoin_core::mvcc::{Event, EventKind};
use quoin_core::proto::etcdserverpb::request_op::Request as OpRequest;
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, ResponseHeader, TxnRequest};
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType};
use quoin_core::store::View;
use quoin_core::time::Instant;

use super::{Asked, Checker, Committed, Op, Truth, pause, state};
use crate::observe::{Observation, OpId, Verdict, Violation, ensure};
use quoin_model::call::{Answer, AuthCall, Call, Refusal};
use quoin_model::etcd;

/// A member's whole state is compared at most once in this many publications.
const COMPARE_EVERY: u64 = 32;

/// The last state that a member published.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    revision: i64,
    publications: u64,
    /// The publication at which the whole history is compared next.
    compare_due: u64,
    /// A snapshot was installed, but its state is not published yet.
    installed: bool,
}

/// The checker.
#[derive(Debug, Default)]
pub(super) struct Replay {
    members: BTreeMap<MemberId, Seen>,
    /// The number of committed entries checked.
    committed: u64,
    /// The last entry with each request id.
    ids: BTreeMap<u64, u64>,
    /// Entries whose answer was given.
    claimed: BTreeSet<u64>,
    answered: BTreeSet<OpId>,
    /// How many requests write each value.
    values: BTreeMap<Bytes, u32>,
    /// Values of requests that were definitely refused.
    refused: BTreeMap<Bytes, OpId>,
    /// How often a new cluster was formed.
    founded: u64,
}

impl Checker for Replay {
    fn see(&mut self, _at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Started { member, view, .. } => {
                let revision = view.kv.revision();
                self.members.insert(
                    member,
                    Seen {
                        revision,
                        ..Seen::default()
                    },
                );
                self.look_at_committed(truth)
            }
            Observation::Installed { member, .. } => {
                self.members.entry(member).or_default().installed = true;
                Ok(())
            }
            Observation::Published {
                member,
                view,
                events,
                restored,
                ..
            } => {
                self.look_at_committed(truth)?;
                self.published(member, view, events, restored, truth)
            }
            Observation::Invoked { call, .. } => {
                for value in values(call) {
                    *self.values.entry(value).or_default() += 1;
                }
                Ok(())
            }
            Observation::Replied { op, member, result } => self.replied(op, member, result, truth),
            Observation::Finished => {
                for (id, facts) in truth.members().filter(|(_, facts)| facts.is_up) {
                    if let Some(view) = &facts.view {
                        whole("C1", id, view, truth)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Replay {
    fn published(&mut self, member: MemberId, view: &View, events: &[Event], restored: bool, truth: &Truth) -> Verdict {
        let seen = self.members.entry(member).or_default();
        let before = seen.revision;
        seen.revision = view.kv.revision();
        seen.publications += 1;
        if restored || std::mem::take(&mut seen.installed) {
            return whole("C42", member, view, truth);
        }
        if !events.is_empty() || before != seen.revision {
            gapless(member, before, view.kv.revision(), events)?;
            let expected = truth.model().events(before + 1, view.kv.revision());
            let wrong = (events.len() != expected.len())
                .then_some(events.len().min(expected.len()))
                .or_else(|| {
                    events
                        .iter()
                        .zip(expected)
                        .position(|(found, known)| !state::is_same(found, known))
                });
            if let Some(place) = wrong {
                let (found, known) = (events.get(place), expected.get(place));
                return fail("C1", format!("member {member} sends {found:?} instead of {known:?}"));
            }
        }
        if seen.publications >= seen.compare_due {
            seen.compare_due = seen.publications + pause(COMPARE_EVERY, view);
            return whole("C1", member, view, truth);
        }
        state::revisions(view, truth).or_else(|words| fail("C1", format!("member {member}: {words}")))
    }

    /// Requests in the log are applied once, and not if they were refused.
    fn look_at_committed(&mut self, truth: &Truth) -> Verdict {
        let (founded, kept) = truth.founded();
        if self.founded != founded {
            self.founded = founded;
            self.committed = self.committed.min(kept);
            self.claimed.retain(|index| *index <= kept);
            self.ids.retain(|_, index| *index <= kept);
        }
        while let Some(known) = truth.entry(self.committed + 1) {
            self.committed += 1;
            let (id, index) = (known.asked.id(), known.entry.index);
            let before = self.ids.insert(id, index).filter(|_| id != 0);
            if let Some(before) = before.filter(|before| !may_share_id(*before, known, truth)) {
                return fail("C6", format!("request {id:x} is in entries {before} and {index}"));
            }
            if self.refused.is_empty() || known.outcome.result.is_err() {
                continue;
            }
            let Asked::Request(request) = &known.asked else {
                continue;
            };
            for value in values_of(request) {
                let refused = self.refused.get(&value).and_then(|op| truth.op(*op));
                if refused.is_some_and(|op| asks(&known.asked, &op.call)) {
                    let words = format!("a request with the value {value:?} was refused and is entry {index}");
                    return fail("C6", words);
                }
            }
        }
        Ok(())
    }

    fn replied(&mut self, name: OpId, member: MemberId, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
        let Some(op) = truth.op(name) else {
            return fail("C6", format!("request {} was never made and is answered", name.0));
        };
        ensure(self.answered.insert(name), "C6", || {
            format!("request {} is answered twice", name.0)
        })?;
        ensure(op.member == member, "C6", || {
            format!("request {} to member {} is answered by {member}", name.0, op.member)
        })?;
        match result {
            Ok(answer) => {
                let refusal = etcd::check(&op.call, MAX_TXN_OPS).err();
                if let Some(refusal) = refusal.filter(|_| is_about_keys(&op.call)) {
                    return fail(
                        "C1",
                        format!("{:?} is answered and should be refused: {}", op.call, refusal.message),
                    );
                }
                if op.call.is_read() {
                    return Ok(());
                }
                self.answered_ok(name, op, answer, truth)
            }
            Err(refusal) if op.call.is_read() || !is_certain(refusal) => Ok(()),
            Err(refusal) => self.refused(name, op, refusal, truth),
        }
    }

    /// The answer is that of exactly one entry, which was proposed after the request was made.
    fn answered_ok(&mut self, name: OpId, op: &Op, answer: &Answer, truth: &Truth) -> Verdict {
        let answer = bare(answer);
        let mut unequal = None;
        for index in self.candidates(op, op.committed + 1, truth) {
            let outcome = truth.entry(index).map(|known| known.outcome.result.clone());
            if outcome
                .as_ref()
                .is_some_and(|outcome| outcome.as_ref().map(bare) == Ok(answer.clone()))
            {
                self.claimed.insert(index);
                return Ok(());
            }
            unequal = unequal.or(outcome.map(|outcome| (index, outcome)));
        }
        if let Some((index, outcome)) = unequal {
            let words = format!(
                "request {} is entry {index}, answered {answer:?} and should be {outcome:?}",
                name.0
            );
            return fail("C1", words);
        }
        if let Some(index) = self.candidates(op, 1, truth).first() {
            let words = format!(
                "request {} is entry {index} at best, and {} were committed when it was made",
                name.0, op.committed
            );
            return fail("C2", words);
        }
        fail(
            "C6",
            format!("request {} is answered {answer:?} and is in no entry", name.0),
        )
    }

    fn refused(&mut self, name: OpId, op: &Op, refusal: &Refusal, truth: &Truth) -> Verdict {
        let candidates = self.candidates(op, op.committed + 1, truth);
        let outcome = |index: &u64| truth.entry(*index).map(|known| &known.outcome.result);
        let equal = candidates
            .iter()
            .find(|index| outcome(index) == Some(&Err(refusal.clone())));
        if let Some(index) = equal {
            self.claimed.insert(*index);
            return Ok(());
        }
        ensure(!only_apply_says(&op.call, refusal), "C6", || {
            format!("request {} is refused ({}) and is in no entry", name.0, refusal.message)
        })?;
        let unique: Vec<Bytes> = values(&op.call)
            .into_iter()
            .filter(|value| !value.is_empty() && self.values.get(value) == Some(&1))
            .collect();
        if unique.is_empty() {
            return Ok(());
        }
        if let Some(index) = candidates
            .iter()
            .find(|index| outcome(index).is_some_and(Result::is_ok))
        {
            let words = format!(
                "request {} is refused ({}) and is entry {index}",
                name.0, refusal.message
            );
            return fail("C6", words);
        }
        self.refused.extend(unique.into_iter().map(|value| (value, name)));
        Ok(())
    }

    /// Entries from `first` on that belong to this request and cannot belong to another.
    fn candidates(&self, op: &Op, first: u64, truth: &Truth) -> Vec<u64> {
        // A promotion is forwarded to the leader, which proposes it.
        let is_passed_on = matches!(op.call, Call::MemberPromote(_));
        let proposer = op.member.0 << 48;
        let is_proposer = |known: &Committed| is_passed_on || known.asked.id() & (0xffff << 48) == proposer;
        let fits = |index: &u64| {
            let known = truth.entry(*index).filter(|_| !self.claimed.contains(index));
            known.is_some_and(|known| is_proposer(known) && asks(&known.asked, &op.call))
        };
        (first..=truth.committed()).filter(fits).collect()
    }
}

/// Whether an entry may have the request id of the one at `before`.
///
/// A member whose wall clock was set back draws the ids of an earlier life again, except those that it finds in its
/// log. If the state with which it started covers `before`, it cannot avoid that id, nor can a member of etcd. It does
/// no harm: that entry is never applied again in this life, so its outcome never answers the later request. A write
/// that is carried out twice is a different matter: it is found by its value, which no other write has. The proposals
/// that a member makes at every start are alike each time.
fn may_share_id(before: u64, known: &Committed, truth: &Truth) -> bool {
    let proposer = known.asked.id() >> 48;
    let mut proposers = truth.members().filter(|(id, _)| id.0 & 0xffff == proposer);
    let is_same = truth
        .entry(before)
        .is_some_and(|first| first.entry.data == known.entry.data);
    let is_unlike_others = match &known.asked {
        Asked::Request(request) => values_of(request).iter().any(|value| !value.is_empty()),
        Asked::Change(_) | Asked::Nothing => false,
    };
    !(is_same && is_unlike_others) && proposers.any(|(_, facts)| facts.log.base_index >= before)
}

fn fail(checker: &'static str, words: String) -> Verdict {
    Err(Violation { checker, words })
}

fn whole(checker: &'static str, member: MemberId, view: &View, truth: &Truth) -> Verdict {
    state::compare(view, truth).or_else(|words| fail(checker, format!("member {member}: {words}")))
}

/// C7: events are whole revisions without a gap, and each pair is consistent in itself.
fn gapless(member: MemberId, before: i64, now: i64, events: &[Event]) -> Verdict {
    let mut last = before;
    for event in events {
        let kv = &event.kv;
        let follows = kv.mod_revision == last + 1 || (kv.mod_revision == last && last > before);
        ensure(follows, "C7", || {
            format!(
                "member {member}: an event of revision {} follows revision {last}",
                kv.mod_revision
            )
        })?;
        last = kv.mod_revision;
        let is_put = event.kind == EventKind::Put;
        let sane = !is_put || (kv.version >= 1 && (kv.version == 1) == (kv.create_revision == kv.mod_revision));
        ensure(sane && kv.create_revision <= kv.mod_revision, "C7", || {
            format!("member {member}: a pair contradicts itself: {kv:?}")
        })?;
    }
    ensure(last == now, "C7", || {
        format!("member {member} is at revision {now}, and its events end at {last}")
    })
}

/// Whether an entry holds a client's request.
fn asks(asked: &Asked, call: &Call) -> bool {
    match asked {
        Asked::Nothing => false,
        Asked::Change(change) => changes(change, call),
        Asked::Request(request) => match call {
            Call::Alarm(call) => request.alarm.as_ref() == Some(call),
            Call::Auth(call) => AuthCall::of(request).map(unhashed).as_ref() == Some(&unhashed(call.clone())),
            Call::Authenticate(call) => request
                .authenticate
                .as_ref()
                .is_some_and(|asked| asked.name == call.name),
            Call::Compact(call) => request.compaction.as_ref() == Some(call),
            Call::DeleteRange(call) => request.delete_range.as_ref() == Some(call),
            Call::LeaseGrant(call) => request.lease_grant.as_ref().is_some_and(|grant| grants(grant, call)),
            Call::LeaseRevoke(call) => request.lease_revoke.as_ref() == Some(call),
            Call::Put(call) => request.put.as_ref() == Some(call),
            Call::Txn(call) => request.txn.as_ref() == Some(call),
            _ => false,
        },
    }
}

/// A change without its password: a hash of it is in the log.
fn unhashed(mut change: AuthCall) -> AuthCall {
    match &mut change {
        AuthCall::UserAdd(request) => (request.password, request.hashed_password) = Default::default(),
        AuthCall::UserChangePassword(request) => (request.password, request.hashed_password) = Default::default(),
        _ => {}
    }
    change
}

/// Without an id, the member chooses one.
fn grants(grant: &LeaseGrantRequest, call: &LeaseGrantRequest) -> bool {
    grant.ttl == call.ttl && (call.id == 0 || call.id == grant.id)
}

fn changes(change: &ConfChange, call: &Call) -> bool {
    let context = ConfChangeContext::from_json(&change.context).unwrap_or_default();
    let is = |kind: ConfChangeType| change.change_type == kind as i32;
    let same_urls = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        urls == context.member.peer_urls
    };
    match call {
        Call::MemberAdd(call) => {
            let learner = is(ConfChangeType::AddLearnerNode);
            (learner || is(ConfChangeType::AddNode))
                && !context.is_promote
                && learner == call.is_learner
                && same_urls(&call.peer_urls)
        }
        Call::MemberPromote(call) => is(ConfChangeType::AddNode) && context.is_promote && change.node_id == call.id,
        Call::MemberRemove(call) => is(ConfChangeType::RemoveNode) && change.node_id == call.id,
        Call::MemberUpdate(call) => {
            change.change_type == ConfChange::UPDATE_NODE && change.node_id == call.id && same_urls(&call.peer_urls)
        }
        _ => false,
    }
}

/// An answer with only those parts that the log determines.
pub(super) fn bare(answer: &Answer) -> Answer {
    let is_of_log = matches!(
        answer,
        Answer::Alarm(_)
            | Answer::Auth(_)
            | Answer::DeleteRange(_)
            | Answer::LeaseGrant(_)
            | Answer::LeaseLeases(_)
            | Answer::LeaseRevoke(_)
            | Answer::Put(_)
            | Answer::Range(_)
            | Answer::Status(_)
            | Answer::Txn(_)
    );
    let kept = is_of_log.then(|| ResponseHeader {
        revision: answer.revision(),
        ..ResponseHeader::default()
    });
    let mut answer = answer.clone();
    if let Some(header) = answer.header_place() {
        *header = kept;
    }
    // Another checker compares it with its entry.
    if let Answer::Authenticate(response) = &mut answer {
        response.token.clear();
    }
    answer
}

/// Whether an error means that the request had no effect and never will have.
pub(super) fn is_certain(refusal: &Refusal) -> bool {
    let uncertain = [
        Code::Canceled,
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Unavailable,
    ];
    refusal.message == Error::TooManyRequests.message()
        || !uncertain.iter().any(|code| i32::from(code.number()) == refusal.code)
}

/// Whether this error can only be found by applying an entry.
fn only_apply_says(call: &Call, refusal: &Refusal) -> bool {
    let is = |error: Error| refusal.message == error.message();
    match call {
        Call::Compact(_) => is(Error::Compacted) || is(Error::FutureRevision),
        Call::LeaseGrant(_) => is(Error::LeaseExists),
        Call::LeaseRevoke(_) => is(Error::LeaseNotFound),
        _ => false,
    }
}

pub(super) fn is_about_keys(call: &Call) -> bool {
    matches!(
        call,
        Call::Put(_) | Call::DeleteRange(_) | Call::Range(_) | Call::Txn(_)
    )
}

/// The values that a request writes.
fn values(call: &Call) -> Vec<Bytes> {
    let mut values = Vec::new();
    match call {
        Call::Put(put) => values.push(put.value.clone()),
        Call::Txn(txn) => values_of_txn(txn, &mut values),
        _ => {}
    }
    values
}

fn values_of(request: &InternalRaftRequest) -> Vec<Bytes> {
    let mut values = Vec::new();
    values.extend(request.put.as_ref().map(|put| put.value.clone()));
    if let Some(txn) = &request.txn {
        values_of_txn(txn, &mut values);
    }
    values
}

fn values_of_txn(txn: &TxnRequest, values: &mut Vec<Bytes>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(OpRequest::RequestPut(put)) => values.push(put.value.clone()),
            Some(OpRequest::RequestTxn(nested)) => values_of_txn(nested, values),
            Some(OpRequest::RequestRange(_) | OpRequest::RequestDeleteRange(_)) | None => {}
        }
    }
}
