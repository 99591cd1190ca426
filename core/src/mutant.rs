//! Bugs put in on purpose, to see whether the simulator finds them.
//!
//! One build with the cargo feature `mutants` has them all, and `choose` picks one. Code that can misbehave calls
//! [`bug!`](crate::bug) with a name of the list below; in every other build that is constantly false and costs nothing.
//! The runtime crates that make programs for users do not compile with the feature.
//!
//! A new bug needs one line in the list, one `bug!` where it misbehaves, and one seed in the simulator's `mutants.txt`.

/// Whether this build can be made to misbehave.
pub const AVAILABLE: bool = cfg!(feature = "mutants");

macro_rules! mutants {
    ($($name:ident: $origin:literal, $words:literal;)+) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $(#[doc = $words] $name,)+
        }

        impl Mutant {
            /// All mutants.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name, as it is written in code and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Where such a bug is known from.
            #[must_use]
            pub const fn origin(self) -> &'static str {
                match self {
                    $(Self::$name => $origin,)+
                }
            }

            /// What it does wrong, in one line.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)+
                }
            }
        }
    };
}

mutants! {
    IndexBeforeRows: "etcd #13766", "the consistent index is written before the rows it covers, not with them";
    CompactsWithoutIndex: "etcd #14685", "a batch with a compaction in it goes without its consistent index";
    CommitsBeforeSync: "etcd #14370", "a sole voter counts an entry as durable when it is handed to the disk";
    AcceptsBeforeDurable: "raft", "a follower accepts entries before they are durable";
    VotesBeforeDurable: "raft", "a vote leaves before it is durable";
    RetriesSync: "fsyncgate", "a failed sync is tried again instead of ending the member";
    ForgetsSegmentName: "ALICE", "a new log segment's name is not made durable";
    TakesRotForTorn: "etcd #5230", "a broken record in the middle of the log counts as a torn tail";
    LooksAtLastSector: "etcd #6515", "only the last sector of a record is looked at for a torn tail";
    ProgressWhileBehind: "etcd #15220", "watchers that are behind hear of progress";
    RewindsWatchers: "etcd #15271", "after a snapshot was installed, watchers begin at the beginning";
    HastensWatchers: "etcd #20221", "after a snapshot was installed, watchers of the future get the present";
    DropsEvents: "etcd #17529", "events for a full stream are dropped";
    CompactsTombstone: "etcd #18089", "a tombstone at the compact revision is removed";
    SkipsTombstone: "etcd #19179", "a start skips a key of which only a tombstone is left";
    FinishesCompactionEarly: "etcd #17780", "a compaction is marked as finished after its first step";
    ReadsCompacted: "etcd #18667", "a read below the compact revision in a transaction finds nothing instead of failing";
    RepeatsEvent: "etcd #17247", "the last event of a transaction is emitted twice";
    ReusesReadId: "etcd #20418", "a read index is asked for under an id that was used before";
    ReadsBeforeCommit: "raft §8", "a new leader answers reads before it has committed an entry of its term";
    ReadsUnconfirmed: "raft §6.4", "a leader answers reads without asking whether it still leads";
    RevokesWhileDeposed: "etcd #15247", "a deposed leader goes on counting the time of leases";
    ExpiresAtOnce: "etcd lessor", "a new leader gives leases no time";
    SkipsCheckpoints: "etcd #13491", "a new leader does not write down what is left of the leases it finds";
    PromotesInRaftAlone: "etcd #19557", "a promotion changes consensus but not the table of members";
    UpdatePromotes: "etcd #21694", "an update of a learner's addresses makes it a voter in the table of members";
    ForgetsLearners: "etcd #20893", "--force-new-cluster forgets learners that the snapshot knows of";
    ReconfiguresLate: "raft #456", "a change of membership is committed, and consensus goes on as before until the next tick";
    RemovesSnapshotEarly: "etcd #18055", "a received snapshot's file goes before the table has its rows durably";
    IgnoresSeal: "damaged journals of fjall", "a start does not compare what it reads of the table with what its last batch says";
    SealsStateBefore: "damaged journals of fjall", "a batch says what the table held before it, not after";
    CommitsOlderTerms: "raft §5.4.2", "a leader commits entries of earlier terms by counting who has them";
    HashSkipsDeletions: "review of the simulator", "a hash leaves deletions out, on every member alike";
    LeadsWithoutQuorum: "raft §6.2", "a leader that hears nothing of a quorum goes on leading";
    RenewsEndedLease: "review of the simulator", "a lease whose end is in the log is kept alive";
    TakesNoCheckpointBack: "review of the simulator", "a follower does not hear that what was left of a lease is taken back";
    TakesAnyState: "review of the simulator", "a received snapshot is not compared with the state beside it";
    AnswersCompactionEarly: "review of the simulator", "a physical compaction is answered before its last rows are written";
    CompactsThePresent: "review of the simulator", "compaction by period goes to the present revision, not to that of a period ago";
    PassesQuotaSilently: "review of the simulator", "a transaction that passes the quota when it is applied raises no alarm";
    AppendsFromBelow: "raft progress", "a leader whose follower was unreachable begins again at its first entry";
    VotesWithinLease: "raft §6", "a follower that hears its leader votes for another";
    WritesToRemoved: "review of the simulator", "a leader goes on writing to a member that was removed";
    PromotesUnready: "review of the simulator", "a learner is promoted however little it has";
    ReplacesOverRows: "review of the simulator", "rows that a received state does not have stay in the table";
    SweepsPastRows: "review of the simulator", "every step of a compaction leaves out its first row";
    ForgetsCutPass: "review of the simulator", "a watcher whose share of a pass was cut short goes on behind the pass";
    CountsIdsAnew: "review of the simulator", "a member that starts does not look which request ids its log has";
    ForgetsSparedTombstones: "review of the simulator", "a compaction does not look again at what the one under way has spared";
    WritesOldRowsLater: "review of the simulator", "rows from before a received snapshot are written after it";
    AddsByAddressAlone: "etcd's member ids", "an added member's id is made as a founder's, so that a founder that was removed comes again under its id";
    SaysMoreByTheCount: "front door", "a range with filters says that there is more where only the count is above the limit";
    RenewsWhereItDoesNotLead: "front door", "a member that does not lead answers a renewal from the leases it has applied";
    TakesUpOneHeldRequest: "front door", "of the requests that a full watch stream holds back, only one is taken up for each report of room";
}

/// Whether the named [`Mutant`] is the chosen one.
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        $crate::mutant::is($crate::mutant::Mutant::$name)
    };
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::atomic::AtomicU8;

    /// The mutant of this process, counted from 1; 0 is none.
    pub(super) static CHOSEN: AtomicU8 = AtomicU8::new(0);
}

/// Makes the whole process misbehave in one way from now on; `None` ends that.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    let number = mutant.map_or(0, |mutant| mutant as u8 + 1);
    chosen::CHOSEN.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this mutant is the chosen one.
#[cfg(feature = "mutants")]
#[inline]
pub fn is(mutant: Mutant) -> bool {
    chosen::CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8 + 1
}

/// Whether this mutant is the chosen one: never in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn is(_mutant: Mutant) -> bool {
    false
}
