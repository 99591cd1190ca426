//! Bugs put in on purpose, to see whether the simulator finds them: the mutants M01 to M36.
//!
//! One build with the cargo feature `mutants` holds them all, and [`choose`] picks one. In every other build [`is`] is
//! constantly false and costs nothing. The runtime crates that make programs for users do not compile with the feature.

/// Whether this build can be made to misbehave.
pub const AVAILABLE: bool = cfg!(feature = "mutants");

/// A deliberate bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its number.
    pub number: u8,
    /// What it does wrong.
    pub words: &'static str,
    /// Where such a bug is known from.
    pub origin: &'static str,
}

const fn mutant(number: u8, origin: &'static str, words: &'static str) -> Mutant {
    Mutant { number, words, origin }
}

/// All there are. Numbers that are missing belong to features that do not exist yet.
pub const ALL: &[Mutant] = &[
    mutant(
        1,
        "etcd #13766",
        "the consistent index is written before the rows it covers, not with them",
    ),
    mutant(
        2,
        "etcd #14685",
        "a batch with a compaction in it goes without its consistent index",
    ),
    mutant(
        3,
        "etcd #14370",
        "a sole voter counts an entry as durable when it is handed to the disk",
    ),
    mutant(4, "raft", "a follower accepts entries before they are durable"),
    mutant(5, "raft", "a vote leaves before it is durable"),
    mutant(
        6,
        "fsyncgate",
        "a failed sync is tried again instead of ending the member",
    ),
    mutant(7, "ALICE", "a new log segment's name is not made durable"),
    mutant(
        8,
        "etcd #5230",
        "a broken record in the middle of the log counts as a torn tail",
    ),
    mutant(
        9,
        "etcd #6515",
        "only the last sector of a record is looked at for a torn tail",
    ),
    mutant(14, "etcd #15220", "watchers that are behind hear of progress"),
    mutant(
        15,
        "etcd #15271",
        "after a snapshot was installed, watchers begin at the beginning",
    ),
    mutant(
        16,
        "etcd #20221",
        "after a snapshot was installed, watchers of the future get the present",
    ),
    mutant(17, "etcd #17529", "events for a full stream are dropped"),
    mutant(18, "etcd #18089", "a tombstone at the compact revision is removed"),
    mutant(
        19,
        "etcd #19179",
        "a start skips a key of which only a tombstone is left",
    ),
    mutant(
        20,
        "etcd #17780",
        "a compaction is marked as finished after its first step",
    ),
    mutant(
        21,
        "etcd #18667",
        "a read below the compact revision in a transaction finds nothing instead of failing",
    ),
    mutant(22, "etcd #17247", "the last event of a transaction is emitted twice"),
    mutant(
        23,
        "etcd #20418",
        "a read index is asked for under an id that was used before",
    ),
    mutant(
        24,
        "raft §8",
        "a new leader answers reads before it has committed an entry of its term",
    ),
    mutant(
        25,
        "raft §6.4",
        "a leader answers reads without asking whether it still leads",
    ),
    mutant(
        26,
        "etcd #15247",
        "a deposed leader goes on counting the time of leases",
    ),
    mutant(27, "etcd lessor", "a new leader gives leases no time"),
    mutant(
        28,
        "etcd #13491",
        "a new leader does not write down what is left of the leases it finds",
    ),
    mutant(
        29,
        "etcd #19557",
        "a promotion changes consensus but not the table of members",
    ),
    mutant(
        30,
        "etcd #21694",
        "an update of a learner's addresses makes it a voter in the table of members",
    ),
    mutant(
        31,
        "etcd #20893",
        "--force-new-cluster forgets learners that the snapshot knows of",
    ),
    mutant(
        32,
        "raft #456",
        "a change of membership is committed, and consensus goes on as before until the next tick",
    ),
    mutant(
        33,
        "etcd #18055",
        "a received snapshot's file goes before the table has its rows durably",
    ),
    mutant(
        35,
        "found by damaging fjall's journals",
        "a start does not compare what it reads of the table with what its last batch says",
    ),
    mutant(
        36,
        "found by damaging fjall's journals",
        "a batch says what the table held before it, not after",
    ),
];

#[cfg(feature = "mutants")]
mod chosen {
    use std::sync::atomic::AtomicU8;

    /// The mutant of this process; 0 is none.
    pub(super) static CHOSEN: AtomicU8 = AtomicU8::new(0);
}

/// Makes the whole process misbehave in one way from now on; 0 ends that.
#[cfg(feature = "mutants")]
pub fn choose(number: u8) {
    chosen::CHOSEN.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this mutant is the chosen one.
#[cfg(feature = "mutants")]
#[inline]
pub fn is(number: u8) -> bool {
    chosen::CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == number
}

/// Whether this mutant is the chosen one: there are none in this build.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn is(_number: u8) -> bool {
    false
}
