//! The facts about the whole cluster: every member's log and state, the committed log, and the requests of clients with
//! their times.
//!
//! An entry counts as committed once the first member has applied it. Checkers decide whether that was right.

use std::collections::BTreeMap;

use prost::Message as _;
use quoin_core::api::Credentials;
use quoin_core::id::MemberId;
use quoin_core::member::{Recovered, Status};
use quoin_core::proto::etcdserverpb::InternalRaftRequest;
use quoin_core::proto::raftpb::{ConfChange, Entry, EntryType};
use quoin_core::store::View;
use quoin_core::time::Instant;

use super::{Coverage, Durable, Point};
use crate::observe::{ClientId, Observation, OpId, Verdict, Violation, ensure};
use quoin_model::call::{Answer, Call, Refusal};
use quoin_model::etcd::{Outcome, Rules, State};

/// The request of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A change of membership.
    Change(ConfChange),
    /// None: the first entry of a leader's term.
    Nothing,
    /// A request.
    Request(Box<InternalRaftRequest>),
}

impl Asked {
    /// The request of `entry`; none if it cannot be read, which the model reports better.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let is_change = entry.entry_type == EntryType::EntryConfChange as i32;
        if is_change && let Ok(change) = ConfChange::decode(entry.data.clone()) {
            return Self::Change(change);
        }
        if entry.data.is_empty() {
            return Self::Nothing;
        }
        InternalRaftRequest::decode(entry.data.clone())
            .map_or(Self::Nothing, |request| Self::Request(Box::new(request)))
    }

    /// The request's id, which its proposer drew; 0 for nothing.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::Change(change) => change.id,
            Self::Nothing => 0,
            Self::Request(request) => match request.id {
                0 => request.header.as_ref().map_or(0, |header| header.id),
                id => id,
            },
        }
    }
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// Its request.
    pub asked: Asked,
    /// When the first member applied it.
    pub at: Instant,
    /// That member.
    pub by: MemberId,
    /// The term that member was in.
    pub seen_in: u64,
    /// Its result, by the model.
    pub outcome: Outcome,
}

/// A member's log as it was handed to its disk.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Index of the snapshot that the entries follow.
    pub base_index: u64,
    /// Its term.
    pub base_term: u64,
    entries: Vec<Entry>,
}

impl Log {
    /// The log that was read back.
    #[must_use]
    pub fn read_back(recovered: &Recovered) -> Self {
        Self {
            base_index: recovered.snapshot_index,
            base_term: recovered.snapshot_term,
            entries: recovered.entries.clone(),
        }
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    /// The entry at `index`.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.base_index + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The term of the entry at `index`.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Entries from `index` on.
    pub fn from(&self, index: u64) -> impl Iterator<Item = &Entry> {
        let place = index.saturating_sub(self.base_index + 1);
        self.entries.iter().skip(usize::try_from(place).unwrap_or(usize::MAX))
    }

    /// Appends entries; one with an existing index replaces that one and everything after it. False if there is a gap.
    pub(super) fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else { return true };
        let Some(place) = first.index.checked_sub(self.base_index + 1) else {
            return false;
        };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if place > self.entries.len() {
            return false;
        }
        self.entries.truncate(place);
        self.entries.extend_from_slice(entries);
        true
    }

    fn start_after(&mut self, index: u64, term: u64) {
        *self = Self {
            base_index: index,
            base_term: term,
            entries: Vec::new(),
        };
    }
}

/// The facts about a member.
#[derive(Clone, Default)]
pub struct MemberFacts {
    /// Whether its process runs.
    pub is_up: bool,
    /// How often it has started.
    pub life: u64,
    /// Its log.
    pub log: Log,
    /// Its last status.
    pub status: Status,
    /// Its published state; none from its start until it publishes.
    pub view: Option<View>,
    /// The last entry in its published state.
    pub applied: u64,
    /// The last entry that it has certainly recorded as committed.
    pub commit: u64,
    /// The durable part of its log.
    pub disk: Durable,
    /// The durable part of its log when its disk was replaced: promises that rest on that were right.
    pub lost: Durable,
    /// Whether its disk was ever replaced or damaged.
    pub is_tampered: bool,
    /// Whether it started with nothing left of what it once had.
    pub is_wiped: bool,
    /// Whether its last end was a loss of power.
    pub lost_power: bool,
    /// Its life before this one.
    pub past: Past,
}

/// The state of a member when its last life ended.
#[derive(Clone, Default)]
pub struct Past {
    /// The durable part of its log; `None` if it need not have that any more.
    pub disk: Durable,
    /// Its last status.
    pub status: Status,
    /// The last entry in a state that it published, in any life.
    pub applied: u64,
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Op {
    /// The client.
    pub client: ClientId,
    /// Its user.
    pub who: Credentials,
    /// The member.
    pub member: MemberId,
    /// The call.
    pub call: Call,
    /// The time.
    pub invoked: Instant,
    /// How many entries were committed then.
    pub committed: u64,
    /// The greatest revision acknowledged then.
    pub acked_revision: i64,
    /// The last entry that the member had applied then.
    pub applied: u64,
    /// The life of the member.
    pub life: u64,
    /// When the member answered.
    pub replied: Option<Instant>,
    /// When the client got the answer, or gave up.
    pub returned: Option<Instant>,
}

/// Members that are not disturbed any more.
#[derive(Clone, Debug)]
pub struct Healed {
    /// Since when.
    pub at: Instant,
    /// The members.
    pub core: Vec<MemberId>,
    /// Their election timeout.
    pub election_timeout: std::time::Duration,
    /// Whether all of them hold a pre-vote before an election.
    pub pre_vote: bool,
    /// The highest term that any of them had then.
    pub term: u64,
}

/// All facts.
pub struct Truth {
    coverage: Coverage,
    rules: Rules,
    model: State,
    members: BTreeMap<MemberId, MemberFacts>,
    committed: Vec<Committed>,
    ops: BTreeMap<OpId, Op>,
    /// The users of clients.
    users: BTreeMap<ClientId, Credentials>,
    acked_revision: i64,
    healed: Option<Healed>,
    /// The last term in which a leader was observed, and since when.
    led: (u64, Instant),
    /// Entries up to here count as committed: those with which a cluster begins.
    decreed: u64,
    /// The member that is about to form a new cluster.
    founder: Option<MemberId>,
    /// How often that happened, and how many entries were kept the last time.
    founded: (u64, u64),
}

impl Truth {
    /// No facts.
    #[must_use]
    pub fn new(coverage: Coverage, rules: Rules) -> Self {
        Self {
            coverage,
            rules,
            model: State::with_rules(rules),
            members: BTreeMap::new(),
            committed: Vec::new(),
            ops: BTreeMap::new(),
            users: BTreeMap::new(),
            acked_revision: 1,
            healed: None,
            led: (0, Instant::ZERO),
            decreed: 0,
            founder: None,
            founded: (0, 0),
        }
    }

    /// Counts a situation.
    pub fn note(&self, point: Point) {
        self.coverage.note(point);
    }

    /// A member's disk was replaced by another or an older one, or damaged: it need not have what it had.
    fn tampered(&mut self, member: MemberId) {
        let facts = self.facts(member);
        facts.lost = std::mem::take(&mut facts.disk);
        facts.status = Status::default();
        facts.past = Past::default();
        facts.is_tampered = true;
    }

    /// `member` forms a new cluster with the first `kept` entries; what other members had beyond is dropped.
    fn refounded(&mut self, member: MemberId, kept: u64) {
        self.tampered(member);
        self.facts(member).lost = Durable::default();
        self.founder = Some(member);
        self.founded = (self.founded.0 + 1, kept);
        self.healed = None;
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        self.model = State::with_rules(self.rules);
        self.committed.truncate(kept);
        for known in &self.committed {
            self.model.apply(&known.entry);
        }
        self.acked_revision = self.model.revision();
    }

    /// Counts an error that a client got.
    pub(super) fn refused(&self, refusal: &Refusal) {
        self.coverage.refused(refusal);
    }

    /// The facts about a member that has started at least once.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&MemberFacts> {
        self.members.get(&id)
    }

    /// All members that have ever started.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, &MemberFacts)> {
        self.members.iter().map(|(id, facts)| (*id, facts))
    }

    /// The model, which has applied every committed entry and keeps all its past.
    #[must_use]
    pub fn model(&self) -> &State {
        &self.model
    }

    /// How many entries are committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// The committed entry at `index`, which counts from 1.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Committed> {
        let place = index.checked_sub(1)?;
        self.committed.get(usize::try_from(place).ok()?)
    }

    /// The user of a client.
    #[must_use]
    pub fn user_of(&self, client: ClientId) -> Credentials {
        self.users.get(&client).cloned().unwrap_or_default()
    }

    /// A client's request.
    #[must_use]
    pub fn op(&self, op: OpId) -> Option<&Op> {
        self.ops.get(&op)
    }

    /// All requests so far.
    pub fn ops(&self) -> impl DoubleEndedIterator<Item = (OpId, &Op)> {
        self.ops.iter().map(|(id, op)| (*id, op))
    }

    /// The greatest revision in any answer so far.
    #[must_use]
    pub fn acked_revision(&self) -> i64 {
        self.acked_revision
    }

    /// How often a member formed a new cluster, and how many entries it kept the last time: facts of checkers about
    /// later entries are void.
    #[must_use]
    pub fn founded(&self) -> (u64, u64) {
        self.founded
    }

    /// The last entry that counts as committed from the start, as those with which a cluster begins.
    #[must_use]
    pub fn decreed(&self) -> u64 {
        self.decreed
    }

    /// Since when the present leader leads, if there is one. Without one, deadlines after healing are suspended; how
    /// long that may last is another promise.
    #[must_use]
    pub fn led_since(&self) -> Option<Instant> {
        let (term, since) = self.led;
        let leads = |facts: &MemberFacts| facts.status.leads && facts.status.term == term;
        self.members.values().any(leads).then_some(since)
    }

    /// The undisturbed members and since when, if there are any.
    #[must_use]
    pub fn healed(&self) -> Option<&Healed> {
        self.healed.as_ref()
    }

    /// Takes an observation.
    ///
    /// # Errors
    /// If the observation is impossible: an entry is applied that no log has.
    pub fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict {
        self.learn(at, seen);
        match *seen {
            Observation::Started {
                member,
                recovered,
                view,
            } => self.started(at, member, recovered, view),
            Observation::Handed {
                member,
                batch,
                hard_state,
                entries,
            } => {
                let facts = self.facts(member);
                facts.disk.handed(batch, hard_state.copied(), entries);
                if let Some(state) = hard_state {
                    facts.commit = facts.commit.max(state.commit);
                }
                let last = facts.log.last();
                ensure(facts.log.append(entries), "C33", || {
                    let first = entries.first().map_or(0, |entry| entry.index);
                    format!("member {member} appends entry {first} to a log that ends at {last}")
                })
            }
            Observation::Published {
                member, view, status, ..
            } => self.published(at, member, view, status),
            _ => Ok(()),
        }
    }

    /// Records the facts of an observation.
    fn learn(&mut self, at: Instant, seen: &Observation<'_>) {
        match *seen {
            Observation::Tampered { member } => self.tampered(member),
            // How far its table was durable no longer counts.
            Observation::Remade { member } => self.facts(member).status.durable_index = 0,
            Observation::Refounded { member, kept } => self.refounded(member, kept),
            Observation::Ended { member, lost_power } => {
                let facts = self.facts(member);
                facts.is_up = false;
                facts.status.leads = false;
                facts.lost_power = lost_power;
            }
            Observation::Installed {
                member,
                batch,
                hard_state,
                index,
                term,
                ..
            } => {
                let facts = self.facts(member);
                facts.log.start_after(index, term);
                facts.disk.installed(batch, hard_state.copied(), index);
                facts.commit = facts.commit.max(index);
            }
            Observation::Identified { client, who } => drop(self.users.insert(client, who.clone())),
            Observation::Invoked {
                op,
                client,
                member,
                call,
            } => self.invoked(at, op, client, member, call),
            Observation::Replied { op, result, .. } => self.replied(at, op, result),
            Observation::Returned { op, .. } => {
                if let Some(op) = self.ops.get_mut(&op) {
                    op.returned = Some(at);
                }
            }
            Observation::Healed {
                core,
                election_timeout,
                pre_vote,
            } => {
                let terms = core.iter().filter_map(|id| self.members.get(id));
                self.healed = Some(Healed {
                    at,
                    core: core.to_vec(),
                    election_timeout,
                    pre_vote,
                    term: terms
                        .map(|facts| facts.status.term.max(facts.disk.hard_state.term))
                        .max()
                        .unwrap_or(0),
                });
            }
            Observation::Durable { member, batch } => self.facts(member).disk.durable(batch),
            _ => {}
        }
    }

    fn facts(&mut self, member: MemberId) -> &mut MemberFacts {
        self.members.entry(member).or_default()
    }

    fn started(&mut self, at: Instant, member: MemberId, recovered: &Recovered, view: &View) -> Verdict {
        let is_first = self.committed.is_empty() && self.member(member).is_none_or(|facts| facts.life == 0);
        if is_first {
            self.decreed = self.decreed.max(recovered.hard_state.commit);
        }
        if self.founder == Some(member) {
            self.founder = None;
            self.decreed = Log::read_back(recovered).last();
        }
        let facts = self.facts(member);
        let is_empty = recovered.entries.is_empty() && recovered.snapshot_index == 0;
        let lost = std::mem::take(&mut facts.lost);
        let past = Past {
            disk: std::mem::take(&mut facts.disk),
            status: facts.status,
            applied: facts.past.applied.max(facts.applied),
        };
        *facts = MemberFacts {
            is_up: true,
            life: facts.life + 1,
            log: Log::read_back(recovered),
            status: Status {
                term: recovered.hard_state.term,
                ..Status::default()
            },
            view: None,
            applied: view.applied_index,
            commit: recovered.hard_state.commit.max(recovered.applied),
            disk: Durable::read_back(recovered),
            lost,
            is_tampered: facts.is_tampered,
            is_wiped: facts.is_wiped || (facts.life > 0 && facts.applied > 0 && is_empty),
            lost_power: facts.lost_power,
            past,
        };
        self.advance(at, member, view.applied_index)
    }

    fn published(&mut self, at: Instant, member: MemberId, view: &View, status: &Status) -> Verdict {
        let facts = self.facts(member);
        facts.status = *status;
        facts.commit = facts.commit.max(status.commit_index);
        facts.applied = view.applied_index;
        facts.view = Some(view.clone());
        if status.leads && status.term > self.led.0 {
            self.led = (status.term, at);
        }
        self.advance(at, member, view.applied_index)
    }

    /// `member` has applied everything up to `index`.
    fn advance(&mut self, at: Instant, member: MemberId, index: u64) -> Verdict {
        while self.committed() < index {
            let next = self.committed() + 1;
            let Some(entry) = self.find(member, next).cloned() else {
                return Err(Violation {
                    checker: "C35",
                    words: format!("member {member} has applied up to entry {index}, and no log has entry {next}"),
                });
            };
            self.commit(at, member, entry);
        }
        Ok(())
    }

    /// The entry at `index` as `member` applied it: from its log, or from the log that its snapshot must have come
    /// from.
    fn find(&self, member: MemberId, index: u64) -> Option<&Entry> {
        let own = &self.members.get(&member)?.log;
        own.entry(index).or_else(|| {
            let mut others = self.members.values().map(|facts| &facts.log);
            others
                .find(|log| log.entry(index).is_some() && log.term(own.base_index) == Some(own.base_term))
                .and_then(|log| log.entry(index))
        })
    }

    fn commit(&mut self, at: Instant, by: MemberId, entry: Entry) {
        let asked = Asked::of(&entry);
        let outcome = self.model.apply(&entry);
        let seen_in = self.members.get(&by).map_or(0, |facts| facts.status.term);
        self.committed.push(Committed {
            entry,
            asked,
            at,
            by,
            seen_in,
            outcome,
        });
    }

    fn invoked(&mut self, at: Instant, op: OpId, client: ClientId, member: MemberId, call: &Call) {
        let (applied, life) = self
            .members
            .get(&member)
            .map_or((0, 0), |facts| (facts.applied, facts.life));
        let known = Op {
            client,
            who: self.user_of(client),
            member,
            call: call.clone(),
            invoked: at,
            committed: self.committed(),
            acked_revision: self.acked_revision,
            applied,
            life,
            replied: None,
            returned: None,
        };
        self.ops.insert(op, known);
    }

    fn replied(&mut self, at: Instant, op: OpId, result: Result<&Answer, &Refusal>) {
        if let Some(op) = self.ops.get_mut(&op) {
            op.replied = Some(at);
        }
        if let Some(header) = result.ok().and_then(Answer::header) {
            self.acked_revision = self.acked_revision.max(header.revision);
        }
    }
}
