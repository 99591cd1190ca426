//! The node: a [`Member`] and a [`Store`], composed. Committed entries go from the member into the store; what applying
//! them leads to goes back to the member, to clients, readers and the disk.
//!
//! One turn takes any number of causes and appends every consequence to a buffer the host lends; nothing stays pending
//! that time alone, or a report of the host, would not bring about. Within a turn consensus is driven once all causes are
//! in, so that a full mailbox becomes one batch for the disk.

mod apply;
mod line;
mod requests;
mod snapshot;
mod tally;
mod upkeep;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::limits::{APPLY_TURN_ROWS, COMPACTION_BATCH_REVISIONS};
use crate::member::{self, BatchId, Compactor, Halt, Member, Output, Recovered, Retention, Status, Timer, Token};
use crate::mvcc::{Compacted, Event};
use crate::proto::raftpb::Entry;
use crate::store::{self, Applied, Store};
use crate::time::Instant;
use crate::version::Version;

pub use line::{Done, Effect, Input, PeerEvent, Request, Response};
pub use tally::{CompactionEnd, LateHeartbeat, LeaderChange, LeaseCounts, Tally};

use writes::Writes;

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's part.
    pub member: member::Config,
    /// `--quota-backend-bytes`; `None` is without bound.
    pub quota_bytes: Option<u64>,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto_compaction: Option<Retention>,
    /// `--compaction-batch-limit`.
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_sleep_interval: Duration,
    /// The version this member runs, of which the cluster's is the least.
    pub server_version: Version,
}

impl Config {
    /// etcd's defaults for the member `id`.
    #[must_use]
    pub fn new(id: MemberId) -> Self {
        Self {
            member: member::Config::new(id),
            quota_bytes: Some(2 * 1024 * 1024 * 1024),
            auto_compaction: None,
            compaction_batch_limit: COMPACTION_BATCH_REVISIONS,
            compaction_sleep_interval: Duration::from_millis(10),
            server_version: Version::V3_6,
        }
    }
}

/// A client that keeps alive a lease whose end is being decided.
#[derive(Clone, Copy, Debug)]
struct LateRenewal {
    lease: i64,
    token: Token,
    deadline: Instant,
}

/// The physical part of compaction, and who waits for it.
#[derive(Debug, Default)]
struct Compaction {
    /// The last revision whose superseded rows began to be deleted.
    revision: i64,
    /// When that began, until it is done.
    begun: Option<Instant>,
    waiting: Vec<(Token, store::Response)>,
    /// Done in memory; to be answered when this batch is written.
    written: Vec<(BatchId, Token, store::Response)>,
}

/// The machine.
pub struct Node {
    config: Config,
    member: Member,
    store: Store,
    writes: Writes,
    /// The state of a received snapshot, until the log goes on after it.
    received: Option<Box<Store>>,
    /// Entries that are committed and not applied yet: a turn applies a bounded amount.
    unapplied: VecDeque<Entry>,
    applied: Applied,
    compaction: Compaction,
    compactor: Option<Compactor>,
    late_renewals: Vec<LateRenewal>,
    /// Clients that want the keys of the lease they asked about.
    keys_wanted: BTreeSet<Token>,
    peer_versions: BTreeMap<MemberId, Version>,
    version_proposed: bool,
    alarm_proposed: bool,
    published: Option<Status>,
    /// Counters are shown at every tick.
    ticked: bool,
    /// What the turn under way, or the last one, did.
    tally: Tally,
    // The turn under way.
    outputs: Vec<Output>,
    replies: Vec<(Token, Result<Response, Error>)>,
    /// Clients that get the leases as they are when the turn ends: the list is of the moment of the view published with it.
    lists_wanted: Vec<Token>,
    events: Vec<Event>,
    /// A snapshot replaced the state.
    restored: bool,
    compacted: Vec<Compacted>,
    /// Rows changed in the turn; an entry counts as one at least.
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
    /// A fault where log and table contradict each other.
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
        let leases = view.lease_clocks();
        let mut member = Member::start(config.member.clone(), recovered, leases, seed, unix_ms, now)?;
        let compactor = config
            .auto_compaction
            .map(|retention| Compactor::new(retention, now, view.kv.revision()));
        if let Some(compactor) = &compactor {
            member.timers.set(Timer::AutoCompact, now + compactor.interval());
        }
        // A compaction that a restart interrupted goes on.
        member.timers.set(Timer::CompactStep, now);
        Ok(Self {
            config,
            member,
            store,
            writes: Writes::default(),
            received: None,
            unapplied: VecDeque::new(),
            applied: Applied::default(),
            compaction: Compaction {
                revision: view.kv.compact_revision(),
                ..Compaction::default()
            },
            compactor,
            late_renewals: Vec::new(),
            keys_wanted: BTreeSet::new(),
            peer_versions: BTreeMap::new(),
            version_proposed: false,
            alarm_proposed: false,
            published: None,
            ticked: false,
            outputs: Vec::new(),
            replies: Vec::new(),
            lists_wanted: Vec::new(),
            events: Vec::new(),
            restored: false,
            compacted: Vec::new(),
            rows_in_turn: 0,
            tally: Tally::default(),
            halt: None,
            halted: false,
        })
    }

    /// One turn: takes every cause, runs what is due, and appends every consequence.
    pub fn step(&mut self, now: Instant, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Effect>) {
        self.tally = Tally::default();
        for input in inputs {
            self.take(now, input);
        }
        if !self.halted {
            self.wake(now);
            self.settle(now, out);
            self.schedule();
        }
        self.finish_tally();
        self.emit(out);
    }

    /// What the last [`Node::step`] did, in numbers. A host that keeps metrics adds it to them before it carries out the
    /// effects, so that a client finds its request counted once it is answered.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Adds to the tally what only the whole turn shows.
    fn finish_tally(&mut self) {
        self.tally.applied = std::mem::take(&mut self.applied.counts);
        self.tally.version = self.applied.version_set.take();
        let before = self.published.map_or(MemberId::NONE, |status| status.leader);
        let to = self.member.leader();
        self.tally.leader = (to != before).then(|| LeaderChange {
            from: before,
            to,
            term: self.member.term(),
        });
    }

    /// When to call [`Node::step`] at the latest, and why.
    pub fn deadline(&self) -> Option<(Instant, Timer)> {
        self.member.timers.deadline()
    }

    /// The applied state.
    pub fn view(&self) -> store::View {
        self.store.view()
    }

    /// What the member says of itself.
    pub fn status(&self) -> Status {
        self.member.status()
    }

    /// Asserts, in this order, besides what [`Member::check`] asserts:
    ///
    /// - member and store have applied the same entries, under the same configuration;
    /// - every lease has a clock, and only leases have;
    /// - nothing is left of the turn.
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
        let leases: Vec<i64> = self.store.view().leases.iter().map(|(id, _)| id).collect();
        assert_eq!(
            self.member.lease_ids(),
            leases,
            "every lease has a clock, and only leases have"
        );
        assert!(
            self.outputs.is_empty()
                && self.replies.is_empty()
                && self.lists_wanted.is_empty()
                && self.events.is_empty(),
            "nothing is left of the turn"
        );
    }

    /// One cause.
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
    }

    /// Runs every timer that is due.
    fn wake(&mut self, now: Instant) {
        while let Some(timer) = self.member.timers.pop_due(now) {
            match timer {
                // Being awake is all these are for: their work is done in every turn.
                Timer::Apply => {}
                Timer::AutoCompact => self.auto_compact(now),
                Timer::CompactStep => self.compact_step(now),
                Timer::Deadline => self.expire_requests(now),
                Timer::Expiry => self.member.expire_leases(now),
                Timer::Publish => self.member.publish(now),
                Timer::Read => self.member.expire_reads(now, &mut self.outputs),
                Timer::Removed => self.member.halt(Halt::Removed, &mut self.outputs),
                Timer::Tick => {
                    self.ticked = true;
                    self.member.tick(now, &mut self.outputs);
                }
                Timer::Version => self.decide_version(now),
            }
        }
    }

    /// Drives consensus and applies what it commits, until nothing moves any more or the turn is long enough.
    fn settle(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.rows_in_turn = 0;
        loop {
            let committed = self.member.drain(now, &mut self.outputs);
            self.unapplied.extend(committed);
            let is_quiet = self.outputs.is_empty() && self.unapplied.is_empty();
            self.handle_outputs(now, out);
            self.apply(now);
            if is_quiet || self.halted {
                return;
            }
            if self.rows_in_turn >= APPLY_TURN_ROWS {
                self.member.timers.set(Timer::Apply, now);
                return self.handle_outputs(now, out);
            }
        }
    }

    /// Turns what the member says into effects and answers.
    fn handle_outputs(&mut self, now: Instant, out: &mut Vec<Effect>) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Failed(origin, error) => self.outcome(now, origin, Err(error)),
                Output::Halt(halt) => {
                    self.halted = true;
                    self.halt = Some(halt);
                }
                Output::Install {
                    batch,
                    index,
                    term,
                    conf_state,
                    hard_state,
                } => out.push(Effect::Install {
                    batch,
                    index,
                    term,
                    conf_state,
                    hard_state,
                }),
                Output::Installed => self.adopt(now, out),
                Output::Persist {
                    batch,
                    hard_state,
                    entries,
                    sync,
                } => {
                    out.push(Effect::Persist {
                        batch,
                        hard_state,
                        entries,
                        sync,
                    });
                }
                Output::Read(reader, outcome) => self.read_outcome(now, reader, outcome),
                Output::Send { to, messages } => self.send(now, to, messages, out),
                Output::Snapshot {
                    index,
                    term,
                    conf_state,
                } => out.push(Effect::Snapshot {
                    index,
                    term,
                    conf_state,
                }),
                Output::Transferred(token, outcome) => self.reply(token, outcome.map(|()| Response::Moved)),
            }
        }
    }

    /// Ends the turn: what readers see, then answers, then rows to write, then the end if this is it.
    fn emit(&mut self, out: &mut Vec<Effect>) {
        if self.halted {
            self.answer_late_renewals(|_| true, Err(Error::Stopped));
            for (token, _) in std::mem::take(&mut self.compaction.waiting) {
                self.reply(token, Err(Error::Stopped));
            }
            for (_, token, _) in std::mem::take(&mut self.compaction.written) {
                self.reply(token, Err(Error::Stopped));
            }
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
            out.push(Effect::Publish {
                view: self.store.view(),
                events,
                restored,
                compacted: std::mem::take(&mut self.compacted),
                status,
            });
            self.published = Some(status);
        }
        if !self.lists_wanted.is_empty() {
            // One list for all who ask in one turn.
            let leases = self.member.leases();
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
            let (index, term) = (self.store.consistent_index(), self.store.term());
            out.push(Effect::Store {
                batch,
                ops: self.store.take_ops(&mut self.applied),
                index,
                term,
            });
        }
        out.extend(self.halt.take().map(Effect::Halt));
    }

    /// Starts the timers that follow from who waits for what.
    fn schedule(&mut self) {
        self.member.schedule_requests();
        let late = self.late_renewals.iter().map(|renewal| renewal.deadline).min();
        let deadline = self.member.timers.at(Timer::Deadline).into_iter().chain(late).min();
        if !self.halted {
            self.member.timers.put(Timer::Deadline, deadline);
        }
    }

    fn reply(&mut self, token: Token, result: Result<Response, Error>) {
        self.keys_wanted.remove(&token);
        self.replies.push((token, result));
    }
}
