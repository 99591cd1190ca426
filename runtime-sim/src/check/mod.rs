//! Checkers: what must hold of a cluster, judged from outside its members by what can be observed, with true time.
//!
//! [`Truth`] gathers what is beyond doubt; each checker holds some promises of the reliability page against it, by their
//! numbers in [`LIST`]. Nothing here acts on the world, and nothing here shares code with what it judges.

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

/// One checker: sees everything in order, and says at once when a promise is broken.
pub trait Checker {
    /// Something was observed. The truth knows it already.
    ///
    /// # Errors
    /// The promise that is broken.
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict;
}

/// How many publications of a member lie between two looks at its whole history: `least`, or an eighth of the revisions it
/// has, so that a long run does not spend its time on looking.
fn pause(least: u64, view: &View) -> u64 {
    let history = view.kv.revision() - view.kv.compact_revision();
    least.max(history.unsigned_abs() / 8)
}

macro_rules! promises {
    ($($number:ident $sentence:literal,)*) => {
        /// Every promise that is checked: its number and what it says.
        pub const LIST: &[(&str, &str)] = &[$((stringify!($number), $sentence),)*];
    };
}

promises! {
    C1 "Every member's state, events and answers are those of an independent model fed with the committed log.",
    C2 "A write that is answered before another is asked for comes before it in the log.",
    C3 "A linearizable read shows nothing older than what was committed when it was asked for.",
    C4 "A serializable read shows a state the member had, and never an older one than before in the same life.",
    C5 "A read of the past is exact, and refused exactly where it is compacted or in the future.",
    C6 "A request is carried out once, never without an answer's entry, and never when it was refused for certain.",
    C7 "Revisions have no gap, transactions are one revision, and what changes nothing makes none.",
    C8 "A checker that sees no log finds short histories linearizable, too.",
    C9 "A watcher gets what it asked for and nothing else.",
    C10 "A watcher gets events in the order of revisions.",
    C11 "A watcher gets no event twice.",
    C12 "A revision comes whole, or in fragments that say so.",
    C13 "A watcher misses no event.",
    C14 "A watcher that comes back goes on where it was, or is told that it cannot.",
    C15 "A progress notification is true: nothing at or before its revision is still to come.",
    C16 "The previous pair is there exactly if it existed and is not compacted.",
    C17 "Creation and version of an event's pair are right.",
    C18 "A watcher of the future gets nothing of the past.",
    C19 "No watcher stalls without being told.",
    C20 "Headers are sane, creation comes first and cancellation last.",
    C21 "A slow watcher may be cancelled and never skips.",
    C22 "Compaction breaks no watcher silently.",
    C23 "A watcher that requires a leader is cancelled where there is none.",
    C24 "No lease ends before its time by its leader's clock, and only a leader ends one.",
    C25 "Who keeps a lease alive was leader after it was asked to.",
    C26 "All keys of a lease that ends go in one revision, and no others.",
    C27 "After a change of leader a lease has no more than was granted and no less than was left.",
    C28 "A lease ends eventually.",
    C29 "Lease ids and times to live are refused as etcd refuses them.",
    C30 "A write to a lease that does not exist has no effect.",
    C31 "Members have the same leases after the same entry.",
    C32 "A term has at most one leader.",
    C33 "Logs that agree in an entry's index and term agree in everything up to it.",
    C34 "A leader has every entry that was committed before.",
    C35 "Members that applied the same number of entries applied the same entries and have the same state.",
    C36 "A member votes once a term, and its vote is on disk before it leaves, whatever crashes.",
    C37 "What is applied or acknowledged is on the disks of a majority of the voters, and no member claims what it lacks.",
    C38 "Term, commit, applied index, revision and compact revision never go back, not even by a restart.",
    C39 "What was acknowledged or durable is still there.",
    C40 "After a restart state and applied index belong together.",
    C41 "Configuration of consensus, member table and model agree; changes come one at a time; no campaign passes over one; no member comes again under the id of one that was.",
    C42 "A snapshot is installed whole.",
    C43 "Members agree in the hash of every revision they can serve.",
    C44 "A cluster's id has one history, and a member that lost its disk does not vote under its old id.",
    C47 "Queues are bounded and nothing panics.",
    C48 "Assertions stay on.",
    C49 "A leader's commit index rises only to entries of its own term, and to what comes before those.",
    C50 "A physical compaction is answered once the table says that it is finished.",
    C51 "A compaction that no client asked for leaves so many revisions, or what was current a period ago.",
    C52 "A leader that passes its quota when it applies a write proposes its alarm, whether or not anything follows.",
    C53 "A leader appends nothing below what the follower acknowledged in that term.",
    C54 "A follower that heard its leader within an election timeout grants no other member its vote, unless the leader hands over.",
    C55 "Five seconds after a member applied the removal of another it sends it nothing more.",
    C56 "A learner is promoted only with most of what was committed when that was asked, on its disk.",
    L1 "After healing there is a leader within five election timeouts, and two more for every election that decided nothing.",
    L2 "After healing a write that is asked for is answered within six election timeouts, and as many more as the leader took.",
    L3 "After healing every member catches up within twenty election timeouts, and as many more as the leader took.",
    L4 "After healing terms grow by at most six; without pre-vote by what chance allows.",
    LOCK "A client that writes under a lock holds it, and one at a time does.",
    L5 "A leader that hears nothing of a quorum for long steps down, healed or not.",
}

/// What checkers must know of how members are started, beyond what concerns the log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Ticks of the longest election timeout there is; none is shorter by more than a tenth.
    pub election_ticks: u32,
    /// `--quota-backend-bytes` of all members; nothing where there is none, or it differs.
    pub quota: Option<u64>,
    /// What all members keep when they compact by themselves; nothing where it differs.
    pub retention: Option<AutoCompaction>,
}

impl Bounds {
    /// The time within which a follower that heard its leader does not believe it gone, by any clock that is not off by more
    /// than a twentieth; ticks may come two early.
    fn lease(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::from(self.election_ticks) * 85).saturating_sub(TWO_TICKS)
    }
}

/// Two ticks and a half.
const TWO_TICKS: std::time::Duration = std::time::Duration::from_millis(250);

/// All checkers, and the truth they judge by.
pub struct Checkers {
    truth: Truth,
    checkers: Vec<Box<dyn Checker>>,
}

impl Checkers {
    /// Checkers that have seen nothing; what is met of the remarkable is counted in `coverage`.
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

    /// Judges also what needs to know how members are started.
    #[must_use]
    pub fn within(mut self, bounds: Bounds) -> Self {
        self.checkers.push(Box::new(reign::Reigns::new(bounds)));
        self.checkers.push(Box::new(upkeep::Upkeep::new(bounds)));
        self
    }

    /// Records the history of keys as well, and puts it to a checker that sees no log at the end (C8). It is for short runs,
    /// and few of them.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.checkers.push(Box::new(history::History::default()));
        self
    }

    /// Something was observed.
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

    /// What is known of the cluster.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
}
