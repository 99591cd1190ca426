//! Checkers: what must hold for a cluster, checked from outside its members on observations with true time.
//!
//! [`Truth`] keeps the facts; each checker compares them with some promises, by their numbers in [`LIST`]. Checkers do
//! not act on the world, and share no code with what they check.

mod auth;
pub mod coverage;
mod durable;
mod history;
pub mod lease;
mod liveness;
pub mod lock;
mod raft;
mod reads;
mod reign;
mod replay;
pub mod sometimes;
mod state;
mod storage;
#[cfg(test)]
mod tests;
mod truth;
mod upkeep;
pub mod watch;

pub use coverage::{Coverage, Point};
pub use durable::Durable;
pub use truth::{Asked, Committed, Healed, Log, MemberFacts, Op, Past, Truth};

use quoin_core::config::AutoCompaction;
use quoin_core::store::View;
use quoin_core::time::Instant;

use crate::observe::{Observation, Verdict};
use quoin_model::etcd::Rules;

/// One checker: gets all observations in order, and returns the first violation at once.
pub trait Checker {
    /// Takes an observation. The truth has taken it already.
    ///
    /// # Errors
    /// The promise that was broken.
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict;
}

/// How many publications of a member lie between two comparisons of its whole history: `least`, or an eighth of its
/// revisions if that is more, so that a long run does not spend its time on comparisons.
fn pause(least: u64, view: &View) -> u64 {
    let history = view.kv.revision() - view.kv.compact_revision();
    least.max(history.unsigned_abs() / 8)
}

macro_rules! promises {
    ($($number:ident $sentence:literal,)*) => {
        /// Every promise that is checked: its number and its text.
        pub const LIST: &[(&str, &str)] = &[$((stringify!($number), $sentence),)*];
    };
}

promises! {
    C1 "Every member's state, events and answers are those of an independent model fed with the committed log.",
    C2 "A write that is answered before another is requested comes before it in the log.",
    C3 "A linearizable read returns nothing older than the state committed when it was requested.",
    C4 "A serializable read returns a state that the member had, and never an older one than before in the same life.",
    C5 "A read of the past is exact, and is refused exactly if its revision is compacted or in the future.",
    C6 "A request is carried out once, never without the entry of its answer, and never after a definite refusal.",
    C7 "Revisions have no gap, a transaction is one revision, and a request that changes nothing makes none.",
    C8 "Short histories are linearizable, by a checker that does not use the log.",
    C9 "A watcher gets the events it requested and no others.",
    C10 "A watcher gets events in the order of revisions.",
    C11 "A watcher gets no event twice.",
    C12 "A revision is sent whole, or in marked fragments.",
    C13 "A watcher misses no event.",
    C14 "A watcher that resumes continues where it was, or gets an error if it cannot.",
    C15 "A progress notification is true: no event at or before its revision follows it.",
    C16 "The previous pair is sent exactly if it existed and is not compacted.",
    C17 "Create revision and version of an event's pair are right.",
    C18 "A watcher of a future revision gets no earlier event.",
    C19 "No watcher stalls without an error.",
    C20 "Headers are valid, the creation comes first and the cancellation last.",
    C21 "A slow watcher may be cancelled, but skips no event.",
    C22 "Compaction breaks no watcher silently.",
    C23 "A watcher that requires a leader is cancelled if there is none.",
    C24 "No lease ends before its time by its leader's clock, and only a leader ends one.",
    C25 "A member that renews a lease was leader after the request was made.",
    C26 "When a lease ends, all its keys and no others are deleted at one revision.",
    C27 "After a change of leader a lease has at most its granted time and at least its remaining time.",
    C28 "A lease ends eventually.",
    C29 "Lease ids and TTLs are refused as by etcd.",
    C30 "A write to a lease that does not exist has no effect.",
    C31 "Members have the same leases after the same entry.",
    C32 "A term has at most one leader.",
    C33 "Logs that agree in an entry's index and term agree in everything up to it.",
    C34 "A leader has every entry that was committed before.",
    C35 "Members that applied the same number of entries applied the same entries and have the same state.",
    C36 "A member votes once a term, and its vote is on disk before it leaves, whatever crashes.",
    C37 "What is applied or acknowledged is on the disks of a majority of the voters, and no member claims what it does not have.",
    C38 "Term, commit, applied index, revision and compact revision never decrease, not even across a restart.",
    C39 "Nothing that was acknowledged or durable is lost.",
    C40 "After a restart state and applied index belong together.",
    C41 "Configuration of consensus, member table and model agree; changes are made one at a time; no member campaigns with an unapplied one; no id of a removed member is used again.",
    C42 "A snapshot is installed completely.",
    C43 "Members agree on the hash of every revision that they can serve.",
    C44 "A cluster's id has one history, and a member that lost its disk does not vote under its old id.",
    C45 "A user learns no key that it may not read: not from an answer, an event or an error.",
    C46 "Members agree on users and permissions, an answer or a refusal follows from them, and a token that has ended is not accepted.",
    C47 "Queues are bounded and nothing panics.",
    C48 "Assertions stay on.",
    C49 "A leader's commit index rises only to entries of its own term, and to what comes before those.",
    C50 "A physical compaction is answered only when the table records that it is finished.",
    C51 "A compaction that no client requested keeps the configured number of revisions, or those current a period ago.",
    C52 "A leader that exceeds its quota when it applies a write proposes its alarm, even if no other request follows.",
    C53 "A leader appends nothing below the index that the follower acknowledged in that term.",
    C54 "A follower that had a message of its leader within an election timeout votes for no other member, unless the leader hands over.",
    C55 "Five seconds after a member applied the removal of another it sends it no more messages, except what it forwards to the leader it had.",
    C56 "A learner is promoted only if its disk has most of what was committed at the request.",
    C57 "The outcome of every snapshot to a peer is reported to its sender exactly once, unless the sender dies before.",
    C58 "A request of another cluster, or for another member, is refused, and a refusal by another cluster is not believed.",
    C59 "The v2 state of a snapshot has all members.",
    C60 "A follower that acknowledged a snapshot needs no other one for half a minute after its arrival was reported, while its leader leads.",
    C61 "A proposal is posted to the leader once, whatever becomes of the post.",
    C62 "Entries arrive with the place in the log and the term with which their leader sent them.",
    L1 "After healing there is a leader within five election timeouts, plus two for every election without a winner.",
    L2 "After healing a write is answered within six election timeouts, plus the time until there was a leader.",
    L3 "After healing every member catches up within twenty election timeouts, plus the time until there was a leader.",
    L4 "After healing terms grow by at most six; without pre-vote by a bound that chance allows.",
    LOCK "A client that writes under a lock holds it, and only one at a time does.",
    L6 "After healing members that run are connected within fifteen seconds.",
    L5 "A leader without contact to a quorum steps down after a time, healed or not.",
}

/// Settings of the members that checkers need, besides those that concern the log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Ticks of the longest election timeout; no member's is shorter by more than a tenth.
    pub election_ticks: u32,
    /// `--quota-backend-bytes` of all members; `None` if there is none, or it differs.
    pub quota: Option<u64>,
    /// How long a simple token is valid without use.
    pub token_ttl: std::time::Duration,
    /// The automatic compaction of all members; `None` if it differs.
    pub retention: Option<AutoCompaction>,
}

impl Bounds {
    /// The time after a leader's message within which a follower does not give the leader up, by any clock that is
    /// wrong by at most a twentieth; ticks may come two early.
    fn lease(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::from(self.election_ticks) * 85).saturating_sub(TWO_TICKS)
    }
}

/// Two ticks and a half.
const TWO_TICKS: std::time::Duration = std::time::Duration::from_millis(250);

/// All checkers, and the truth that they use.
pub struct Checkers {
    truth: Truth,
    checkers: Vec<Box<dyn Checker>>,
}

impl Checkers {
    /// Checkers without any observation; situations are counted in `coverage`.
    #[must_use]
    pub fn new(coverage: Coverage, rules: Rules) -> Self {
        Self {
            truth: Truth::new(coverage, rules),
            checkers: vec![
                Box::new(raft::Raft::default()),
                Box::new(replay::Replay::default()),
                Box::new(reads::Reads),
                Box::new(storage::Storage::default()),
                Box::new(watch::WatchChecker::default()),
                Box::new(lease::LeaseChecker::new(lease::LeaseRules::of(rules))),
                Box::new(lock::LockChecker::default()),
                Box::new(liveness::Liveness::default()),
                Box::new(coverage::Observer::default()),
            ],
        }
    }

    /// Also checks what depends on the members' settings.
    #[must_use]
    pub fn within(mut self, bounds: Bounds) -> Self {
        self.checkers.push(Box::new(reign::Reigns::new(bounds)));
        self.checkers.push(Box::new(upkeep::Upkeep::new(bounds)));
        self.checkers.push(Box::new(auth::AuthChecker::new(bounds.token_ttl)));
        self
    }

    /// Also records the history of keys, and checks it at the end without the log (C8). Only for few and short runs.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.checkers.push(Box::new(history::History::default()));
        self
    }

    /// Takes an observation.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict {
        self.truth.see(at, seen)?;
        for checker in &mut self.checkers {
            checker.see(at, seen, &self.truth)?;
        }
        Ok(())
    }

    /// The facts about the cluster.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
}
