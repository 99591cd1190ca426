//! Deliberate bugs, to test whether the simulator finds them.
//!
//! Development builds have all of them, so that the tests need no build of their own for them, and so does a release
//! build with the cargo feature `mutants`. [`choose`] activates one. Code that can misbehave calls [`bug!`](crate::bug)
//! with a name of the list below; in every other build that is constantly false and costs nothing. No program for users
//! chooses one, and their release builds do not compile with the feature.
//!
//! A new bug needs one line in the list, one `bug!` where it misbehaves, and one seed in the simulator's `mutants.txt`.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether this build contains the bugs.
pub const AVAILABLE: bool = cfg!(any(debug_assertions, feature = "mutants"));

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

            /// Its name, as in code and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Where such a bug was found or is described: an issue, a paper, a review.
            #[must_use]
            pub const fn origin(self) -> &'static str {
                match self {
                    $(Self::$name => $origin,)+
                }
            }

            /// The wrong behaviour, in one line.
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
    IndexBeforeRows: "etcd #13766", "the consistent index is written before the rows that it covers, in a batch of its own";
    CompactsWithoutIndex: "etcd #14685", "a batch that contains a compaction is written without its consistent index";
    CommitsBeforeSync: "etcd #14370", "a sole voter counts an entry as durable once it is handed to the disk";
    AcceptsBeforeDurable: "raft", "a follower accepts entries before they are durable";
    VotesBeforeDurable: "raft", "a vote is sent before it is durable";
    RetriesSync: "fsyncgate", "a failed sync is repeated instead of ending the member";
    ForgetsSegmentName: "ALICE", "the name of a new log segment is not made durable";
    TakesRotForTorn: "etcd #5230", "a broken record in the middle of the log is treated as a torn tail";
    LooksAtLastSector: "etcd #6515", "only the last sector of a record is examined for a torn tail";
    ProgressWhileBehind: "etcd #15220", "watchers that are behind get progress notifications";
    RewindsWatchers: "etcd #15271", "after a snapshot was installed, watchers start again at revision 1";
    HastensWatchers: "etcd #20221", "after a snapshot was installed, watchers of a future revision get current events";
    DropsEvents: "etcd #17529", "events for a full stream are dropped";
    CompactsTombstone: "etcd #18089", "a tombstone at the compact revision is removed";
    SkipsTombstone: "etcd #19179", "a start ignores a key that has only a tombstone left";
    FinishesCompactionEarly: "etcd #17780", "a compaction is marked as finished after its first step";
    ReadsCompacted: "etcd #18667", "a read of a compacted revision in a transaction returns no keys instead of an error";
    RepeatsEvent: "etcd #17247", "the last event of a transaction is sent twice";
    ReusesReadId: "etcd #20418", "a read index is requested under an id that was used before";
    ReadsBeforeCommit: "raft §8", "a new leader answers reads before it has committed an entry of its term";
    ReadsUnconfirmed: "raft §6.4", "a leader answers reads without confirming that it still leads";
    RevokesWhileDeposed: "etcd #15247", "a deposed leader continues to count the time of leases";
    ExpiresAtOnce: "etcd lessor", "a new leader lets all leases expire at once";
    SkipsCheckpoints: "etcd #13491", "a new leader writes no checkpoints of the leases that it takes over";
    PromotesInRaftAlone: "etcd #19557", "a promotion changes consensus but not the table of members";
    UpdatePromotes: "etcd #21694", "an update of a learner's URLs makes it a voter in the table of members";
    ForgetsLearners: "etcd #20893", "--force-new-cluster ignores the learners in the snapshot";
    ReconfiguresLate: "raft #456", "consensus gets a committed change of membership only at its next tick";
    RemovesSnapshotEarly: "etcd #18055", "the file of a received snapshot is removed before its rows are durable in the table";
    IgnoresSeal: "damaged journals of fjall", "a start does not compare the rows of the table with the seal of its last batch";
    SealsStateBefore: "damaged journals of fjall", "the seal of a batch describes the table before the batch, not after it";
    CommitsOlderTerms: "raft §5.4.2", "a leader commits entries of earlier terms by counting the members that have them";
    HashSkipsDeletions: "review of the simulator", "a hash leaves deletions out, on every member alike";
    LeadsWithoutQuorum: "raft §6.2", "a leader that is cut off from a quorum continues to lead";
    RenewsEndedLease: "review of the simulator", "a lease whose revocation is in the log is renewed";
    TakesNoCheckpointBack: "review of the simulator", "a follower ignores checkpoints that reset a lease to its full TTL";
    TakesAnyState: "review of the simulator", "a received snapshot is not compared with the state sent beside it";
    AnswersCompactionEarly: "review of the simulator", "a physical compaction is answered before its last rows are written";
    CompactsThePresent: "review of the simulator", "periodic compaction compacts to the current revision instead of that of a period ago";
    PassesQuotaSilently: "review of the simulator", "a transaction that exceeds the quota when it is applied raises no alarm";
    AppendsFromBelow: "raft progress", "a leader whose follower was unreachable starts again at the first entry it has";
    VotesWithinLease: "raft §6", "a follower that has a leader votes for another member";
    WritesToRemoved: "review of the simulator", "a leader continues to send entries to a removed member";
    PromotesUnready: "review of the simulator", "a learner is promoted even if its log is far behind";
    ReplacesOverRows: "review of the simulator", "rows that a received state does not contain stay in the table";
    SweepsPastRows: "review of the simulator", "every step of a compaction skips its first row";
    ForgetsCutPass: "review of the simulator", "a watcher whose batch in a catch-up pass was cut short continues after the pass";
    CountsIdsAnew: "etcd idutil", "request ids count from the wall clock of the start alone";
    ForgetsSparedTombstones: "review of the simulator", "a compaction does not sweep again the tombstones that the unfinished one before it has spared";
    WritesOldRowsLater: "review of the simulator", "rows from before a received snapshot are written after its rows";
    AddsByAddressAlone: "etcd's member ids", "an added member's id is computed like a founder's, so a removed founder that is added again gets its old id";
    SaysMoreByTheCount: "front door", "a range with filters sets `more` if only its count exceeds the limit";
    RenewsWhereItDoesNotLead: "front door", "a member that does not lead answers a renewal from the leases that it has applied";
    TakesUpOneHeldRequest: "front door", "of the requests that a full watch stream holds back, only one is handled for each report of room";
    AppendsLoseCount: "rafthttp", "the decoder of appends does not count the entries of short frames";
    ReportsSnapshotTwice: "raft progress", "the outcome of a snapshot to a peer is reported twice";
    ForgetsSnapshotReport: "raft progress", "a snapshot that did not reach its peer is not reported";
    KeepsAppendState: "rafthttp msgappv2", "a new stream of appends continues as if its reader had the state of an earlier connection";
    RetriesPost: "rafthttp pipeline", "a post that failed is sent again";
    BelievesOtherCluster: "rafthttp", "the id of the cluster in requests and answers of peers is not compared";
    IgnoresTarget: "rafthttp", "a stream that a peer wants to open at another member is opened";
    UnpinsTail: "etcd's catch-up entries", "the entries after a snapshot are not kept while it is on its way";
    InstallsBeforeSync: "ALICE", "a received snapshot is installed before its file is synced";
    ChecksWhenProposed: "etcd #14571", "permissions and the auth revision are not looked at again when an entry is applied";
    KeepsRevokedRanges: "etcd's cache of permissions", "what a role grants is not computed anew when a permission is revoked";
    ShowsKeysOfLease: "CVE-2023-32082", "the keys of a lease are shown to users who may not read them";
    WatchesBeyondKey: "GHSA-xg4h-6gfc-h4m8", "the permission for an open-ended watch is that for its first key";
    LocksUnconfirmed: "Jepsen, etcd 3.4.3", "a lock that was waited for is given without a look at one's own key";
    ForgetsNewMember: "etcd's v2 store", "the v2 state of a snapshot lacks members that have not published themselves";
}

/// Whether the named [`Mutant`] is the chosen one.
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        $crate::mutant::is($crate::mutant::Mutant::$name)
    };
}

/// The mutant of this process, counted from 1; 0 is none.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Activates one bug in the whole process; `None` deactivates it. Without effect in a build that does not contain the
/// bugs.
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(mutant.map_or(0, |mutant| mutant as u8 + 1), Ordering::Relaxed);
}

/// Whether this mutant is the chosen one; constantly false in a build without the bugs.
#[inline]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    AVAILABLE && CHOSEN.load(Ordering::Relaxed) == mutant as u8 + 1
}
