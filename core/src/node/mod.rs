//! The node: a [`Member`] (consensus, reads, log) and a [`Store`] (the applied state), with the lessor, the compactor
//! and the keeper of the cluster version. Committed entries go from the member into the store; the consequences of
//! applying them go to the other machines, to clients, readers and the disk.
//!
//! One turn takes any number of inputs and appends all effects to the host's buffer. Consensus is driven after all
//! inputs of a turn, so that a full mailbox becomes one batch for the disk. Later work is started by another input, or
//! by time: each machine has a deadline, and the node's [`Timer`] is the earliest.

mod apply;
mod clocks;
mod cluster_version;
mod compaction;
mod compactor;
mod config;
mod lessor;
mod line;
mod requests;
mod snapshot;
mod tally;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use crate::auth::TokenChange;
use crate::bug;
use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::jobs::{TableJob, TableRows};
use crate::limits::APPLY_TURN_ROWS;
use crate::member::{Halt, Member, MemberTimer, Output, Recovered, Status, Token};
use crate::mvcc::{Compacted, Event};
use crate::proto::raftpb::Entry;
use crate::store::{self, Applied, Store};
use crate::time::Instant;

pub use clocks::LeaseTimes;
pub use compactor::Retention;
pub use config::Config;
pub use line::{Done, Effect, Input, PeerEvent, Request, Response};
pub use tally::{CompactionEnd, LateHeartbeat, LeaderChange, LeaseCounts, Tally};

use cluster_version::VersionKeeper;
use compaction::SpaceRelease;
use compactor::Compactor;
use lessor::Lessor;
use writes::Writes;

/// Answers to requests.
type Replies = Vec<(Token, Result<Response, Error>)>;

/// The timers of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Committed entries wait for the next turn, because the last one had reached its bound.
    Apply,
    /// The auto-compactor checks whether to compact.
    AutoCompact,
    /// The next step of freeing a compaction's space.
    CompactStep,
    /// The lessor looks for expired leases, or a renewal of an expired lease reaches its deadline.
    Lessor,
    /// The member: consensus, proposals or reads.
    Member(MemberTimer),
    /// The members' versions are compared.
    Version,
}

/// A member's consensus and applied state with their timers, as a machine without I/O.
pub struct Node {
    config: Config,
    member: Member,
    store: Store,
    lessor: Lessor,
    compactor: Option<Compactor>,
    compaction: SpaceRelease,
    versions: VersionKeeper,
    writes: Writes,
    /// The state of a received snapshot, until the log continues after it.
    received: Option<Box<Store>>,
    /// Entries that are committed and not yet applied: the work of one turn is bounded.
    unapplied: VecDeque<Entry>,
    /// When to continue applying them.
    apply_at: Option<Instant>,
    applied: Applied,
    /// The NOSPACE alarm is proposed, and the outcome is not known yet.
    alarm_proposed: bool,
    /// Learners that an update described as voters. etcd up to 3.6.11 writes such updates, and from then on takes the
    /// member for a voter. The set is not stored: a start begins with an empty set.
    ambiguous: BTreeSet<MemberId>,
    /// Requests to promote a learner that are not answered. Their outcomes are counted.
    promoting: BTreeSet<Token>,
    published: Option<Status>,
    /// The member ticked in this turn, so a status of which only counters changed is published.
    ticked: bool,
    /// The counts of this turn, or of the last one.
    tally: Tally,
    // State of the present turn.
    outputs: Vec<Output>,
    replies: Replies,
    /// Clients that asked for the list of leases. It is read at the turn's end, to match the view published with it.
    lists_wanted: Vec<Token>,
    events: Vec<Event>,
    tokens: Vec<TokenChange>,
    /// A snapshot replaced the state.
    restored: bool,
    compacted: Vec<Compacted>,
    /// Rows changed in the turn; each entry counts as at least one.
    rows_in_turn: usize,
    halt: Option<Halt>,
    halted: bool,
}

impl Node {
    /// A node that continues where its log and its table end. `unix_ms` is the wall clock at `now`.
    ///
    /// Nothing is decided yet: the first [`Node::step`] is due at once.
    ///
    /// # Errors
    /// A fault if log and table contradict each other.
    pub fn start(
        config: Config,
        recovered: Recovered,
        store: Store,
        seed: u64,
        unix_ms: u64,
        now: Instant,
    ) -> Result<Self, Fault> {
        let view = store.view();
        let recovered = Recovered {
            applied: store.consistent_index(),
            conf_state: store.conf_state().clone(),
            ..recovered
        };
        let auto_compactor = |retention| Compactor::new(retention, now, view.kv.revision());
        let mut lessor = Lessor::new(view.lease_clocks(), config.member.lease_checkpoint);
        lessor.call_as(store.own_caller());
        Ok(Self {
            member: Member::start(config.member.clone(), recovered, seed, unix_ms, now)?,
            lessor,
            compactor: config.auto_compaction.map(auto_compactor),
            compaction: SpaceRelease::new(view.kv.compact_revision(), now),
            versions: VersionKeeper::new(config.server_version, config.max_cluster_version),
            config,
            store,
            writes: Writes::default(),
            received: None,
            unapplied: VecDeque::new(),
            apply_at: None,
            applied: Applied::default(),
            alarm_proposed: false,
            ambiguous: BTreeSet::new(),
            promoting: BTreeSet::new(),
            published: None,
            ticked: false,
            outputs: Vec::new(),
            replies: Vec::new(),
            lists_wanted: Vec::new(),
            events: Vec::new(),
            tokens: Vec::new(),
            restored: false,
            compacted: Vec::new(),
            rows_in_turn: 0,
            tally: Tally::default(),
            halt: None,
            halted: false,
        })
    }

    /// One turn: takes every input, handles every timer that is due, and appends all effects.
    pub fn step(&mut self, now: Instant, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Effect>) {
        self.tally = Tally::default();
        for input in inputs {
            self.take(now, input);
        }
        if !self.halted {
            self.wake(now);
            self.settle(now, out);
            self.member.schedule_requests();
        }
        self.finish_tally();
        self.emit(out);
    }

    /// The counts of the last [`Node::step`]. A host that keeps metrics adds them before it carries out the effects, so
    /// that a request is counted before its client has the answer.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Adds the counts that are known only at the end of a turn.
    fn finish_tally(&mut self) {
        self.tally.applied = std::mem::take(&mut self.applied.counts);
        self.tally.dropped = self.member.take_drops();
        self.tally.downgrade = self.applied.downgrade_begun.take();
        self.tally.version = self.applied.version_set.take();
        let before = self.published.map_or(MemberId::NONE, |status| status.leader);
        let to = self.member.leader();
        self.tally.leader = (to != before).then(|| LeaderChange {
            from: before,
            to,
            term: self.member.term(),
        });
    }

    /// When to call [`Node::step`] at the latest, and for which timer.
    pub fn deadline(&self) -> Option<(Instant, Timer)> {
        if self.member.has_halted() {
            return None;
        }
        let own = [
            (self.apply_at, Timer::Apply),
            (self.compactor.as_ref().map(Compactor::deadline), Timer::AutoCompact),
            (self.compaction.deadline(), Timer::CompactStep),
            (self.lessor.deadline(), Timer::Lessor),
            (self.versions.deadline(), Timer::Version),
        ];
        let own = own.into_iter().filter_map(|(at, timer)| Some((at?, timer)));
        let member = self.member.deadline().map(|(at, timer)| (at, Timer::Member(timer)));
        own.chain(member).min()
    }

    /// The applied state.
    pub fn view(&self) -> store::View {
        self.store.view()
    }

    /// The status of the member.
    pub fn status(&self) -> Status {
        self.member.status()
    }

    /// Asserts, in this order, besides everything that [`Member::check`] asserts:
    ///
    /// - member and store have applied the same entries, under the same configuration;
    /// - every lease has a clock, and no clock is without a lease; clocks run only on a leader;
    /// - no state of the turn is left.
    pub fn check(&self) {
        self.member.check();
        let applied = self.store.consistent_index();
        if !self.halted {
            assert_eq!(
                self.member.applied_index(),
                applied,
                "member and store have applied the same entries"
            );
            assert_eq!(
                self.member.conf_state(),
                self.store.conf_state(),
                "member and store have the same configuration"
            );
        }
        self.lessor.check(self.store.view().leases.iter().map(|(id, _)| id));
        assert!(
            !self.lessor.is_primary() || self.member.leads(),
            "a deposed leader counts no lease's time"
        );
        assert!(
            self.outputs.is_empty()
                && self.replies.is_empty()
                && self.lists_wanted.is_empty()
                && self.events.is_empty()
                && self.tokens.is_empty(),
            "nothing is left of the turn"
        );
    }

    /// Takes one input.
    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Cancel(token) => self.cancel(token),
            Input::Done(done) => self.done(now, done),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Peer(event) => self.peer(now, event),
            Input::Request {
                token,
                request,
                deadline,
            } => self.request(now, token, request, deadline),
            Input::Snapshot { from, message, store } => self.snapshot(now, from, message, store),
            Input::Wake => {}
        }
        self.follow_leadership();
    }

    /// Stops the lessor if this member lost its leadership. Called after every call that may end the leadership.
    fn follow_leadership(&mut self) {
        if self.lessor.is_primary() && !self.member.leads() && !bug!(RevokesWhileDeposed) {
            self.lessor.follow(&mut self.member);
        }
    }

    /// Lets every machine handle its due timers.
    fn wake(&mut self, now: Instant) {
        if self.member.overslept(now) && !bug!(RevokesWhileDeposed) {
            self.lessor.slept();
        }
        while let Some((_, timer)) = self.deadline().filter(|(at, _)| *at <= now) {
            match timer {
                // Nothing else to do: every turn applies entries.
                Timer::Apply => self.apply_at = None,
                Timer::AutoCompact => {
                    let revision = self.store.view().kv.revision();
                    if let Some(compactor) = &mut self.compactor {
                        compactor.wake(now, revision, &mut self.member);
                    }
                }
                Timer::CompactStep => self.compact_step(now),
                Timer::Lessor => self.lessor.wake(now, &mut self.member, &mut self.replies),
                Timer::Member(timer) => {
                    self.ticked |= timer == MemberTimer::Tick;
                    self.member.wake(now, &mut self.outputs);
                    self.follow_leadership();
                }
                Timer::Version => self.look_at_versions(now),
            }
        }
    }

    fn look_at_versions(&mut self, now: Instant) {
        let cluster = self.store.view().cluster;
        self.versions.look(now, &mut self.member, &cluster);
    }

    /// Drives consensus and applies its committed entries, until there is nothing more to do or the turn's bound is
    /// reached.
    fn settle(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.rows_in_turn = 0;
        loop {
            let committed = self.member.drain(now, &mut self.outputs);
            self.follow_leadership();
            self.unapplied.extend(committed);
            let is_quiet = self.outputs.is_empty() && self.unapplied.is_empty();
            self.handle_outputs(now, out);
            self.apply(now);
            if is_quiet || self.halted {
                return;
            }
            if self.rows_in_turn >= APPLY_TURN_ROWS {
                self.apply_at = Some(now);
                return self.handle_outputs(now, out);
            }
        }
    }

    /// Turns the member's outputs into effects and answers.
    fn handle_outputs(&mut self, now: Instant, out: &mut Vec<Effect>) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Failed(origin, error) => self.outcome(now, origin, Err(error)),
                Output::Halt(halt) => {
                    self.lessor.follow(&mut self.member);
                    self.halted = true;
                    self.halt = Some(halt);
                }
                Output::Installed => self.adopt(now, out),
                Output::Log(job) => out.push(Effect::Log(job)),
                Output::Read(reader, outcome) => self.read_outcome(now, reader, outcome),
                Output::Send { to, messages } => self.send(now, to, messages, out),
                Output::Transferred(token, outcome) => self.reply(token, outcome.map(|()| Response::Moved)),
            }
        }
    }

    /// Ends the turn: the publication, then answers, then rows to write, then the halt, if the member ended.
    fn emit(&mut self, out: &mut Vec<Effect>) {
        if self.halted {
            self.lessor.stop(&mut self.replies);
            self.compaction.stop(&mut self.replies);
        }
        if !self.tokens.is_empty() {
            out.push(Effect::Tokens(std::mem::take(&mut self.tokens)));
        }
        let (status, ticked) = (self.status(), std::mem::take(&mut self.ticked));
        let is_news = match &self.published {
            None => true,
            Some(before) => status.is_news_after(before) || (ticked && status != *before),
        };
        let restored = std::mem::take(&mut self.restored);
        if is_news || restored || !self.events.is_empty() || !self.compacted.is_empty() {
            if restored {
                self.events.clear();
            }
            let events = self.events.drain(..).collect();
            out.extend(self.compacted.drain(..).map(Effect::Hash));
            out.push(Effect::Publish {
                view: self.store.view(),
                events,
                restored,
                status,
            });
            self.published = Some(status);
        }
        if !self.lists_wanted.is_empty() {
            // One list for all requests of the turn.
            let leases = self.lessor.times();
            for token in std::mem::take(&mut self.lists_wanted) {
                let leases = leases.clone();
                self.reply(token, Ok(Response::Leases { leases }));
            }
        }
        out.extend(
            self.replies
                .drain(..)
                .map(|(token, result)| Effect::Reply { token, result }),
        );
        if let Some(batch) = self.writes.begin() {
            out.push(Effect::Table(TableJob {
                batch,
                index: self.store.consistent_index(),
                rows: TableRows::Changed(self.store.take_ops(&mut self.applied)),
            }));
        }
        out.extend(self.halt.take().map(Effect::Halt));
    }

    fn reply(&mut self, token: Token, result: Result<Response, Error>) {
        if self.promoting.remove(&token) {
            self.tally.promoted(result.as_ref().err().copied());
        }
        self.replies.push((token, result));
    }
}
