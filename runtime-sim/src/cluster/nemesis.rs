//! The faults of a run, as a list that can be read, reduced and repeated.
//!
//! # Fault model
//! **Processes** die between two of their outputs or in the middle of a disk call, alone or with the power, while they run
//! or while they start (up to four times in a row), all at once too; come back soon, or after hours, or with other flags;
//! or stand still for up to five minutes and find everything that has arrived meanwhile.
//! **Clocks**: a monotonic clock runs up to 5 % fast or slow and never goes back; a wall clock jumps by up to ten years; a
//! node is not woken for a while.
//! **Operators** add, promote, remove, replace and move members, change their addresses, defragment, move leadership, restart
//! one after another, and at the very end of some runs found a new cluster from one member.
//! The network's and the disk's faults are described in [`super::net`], `super::wire` and [`crate::disk`].
//!
//! # What must be survivable
//! At most a minority of the members may lose what they had on disk: a lost disk, an old backup, rot. Such a member does not
//! come back under its name; it may be removed, and another take its place.

use std::fmt;

use quoin_core::time::Instant;

use crate::faults::FaultKind;
use crate::fuse::Touch;

/// The target of a fault; resolved when it begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// The machine with this number, modulo those that take part.
    Machine(usize),
    /// The leader.
    Leader,
    /// Of the members that do not lead, the one with this number.
    Follower(usize),
    /// The machine that was added last.
    Newest,
}

/// Flags that a member starts with from then on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags {
    /// `--election-timeout`, in milliseconds.
    pub election_ms: u64,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--quota-backend-bytes`.
    pub quota_bytes: Option<u64>,
    /// `--auto-compaction-retention`, in revisions; 0 is off.
    pub kept_revisions: u64,
    /// Feature gates `LeaseCheckpoint` and `LeaseCheckpointPersist`.
    pub checkpoints: bool,
}

/// A fault with all its parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The fault of its kind on one machine.
    One(FaultKind, Who),
    /// On all machines, or on one that is drawn when it begins.
    All(FaultKind),
    /// This many of a thousand messages are lost.
    Drop {
        /// How many.
        permille: u64,
    },
    /// This many of a thousand messages arrive twice.
    Duplicate {
        /// How many.
        permille: u64,
    },
    /// Messages are late by this time on average.
    Delay {
        /// Milliseconds.
        mean_ms: u64,
    },
    /// All links are slow.
    Bandwidth {
        /// Bytes in a second.
        bytes_per_second: u64,
    },
    /// A partition between the machines whose bit is set and the others.
    Split {
        /// A bit for each machine.
        left: u64,
    },
    /// The same, except that one machine reaches both.
    Bridge {
        /// A bit for each machine.
        left: u64,
        /// That machine.
        bridge: Who,
    },
    /// One direction of a link is cut.
    OneWay {
        /// The sender.
        from: Who,
        /// The receiver.
        to: Who,
    },
    /// A machine is isolated and connected in turns.
    Flap {
        /// The machine.
        who: Who,
        /// Milliseconds between changes.
        every_ms: u64,
    },
    /// Messages of this type are lost.
    KindLost {
        /// The type.
        kind: i32,
    },
    /// This many of a thousand writes are damaged in this way.
    Damage {
        /// The damage.
        how: FaultKind,
        /// How many.
        permille: u64,
    },
    /// Old messages arrive again.
    Stale {
        /// How many.
        frames: u64,
    },
    /// A fault of a disk.
    Disk {
        /// The machine.
        who: Who,
        /// The fault.
        how: FaultKind,
        /// Its other parameters: the call, the number of calls that succeed first, the slowness.
        amount: u64,
    },
    /// A process dies after a number of points, or at a call of a kind.
    Crash {
        /// The machine.
        who: Who,
        /// The points that are passed first.
        points: u64,
        /// The kind of call.
        at: Option<Touch>,
        /// Whether the power is lost too.
        power: bool,
        /// Milliseconds until it is started again.
        away_ms: u64,
    },
    /// The next member that installs a snapshot dies during it, after a number of points, or at a call of a kind.
    TakeoverCrash {
        /// Half as many points are passed first, counted from when its log (even) or its table (odd) takes the
        /// snapshot.
        points: u64,
        /// The kind of call.
        at: Option<Touch>,
        /// Whether the power is lost too.
        power: bool,
        /// Milliseconds until it is started again.
        away_ms: u64,
    },
    /// The next member that receives a snapshot dies when a part of its file is written.
    ArrivalCrash {
        /// How many tenths of the file.
        tenth: u64,
        /// After all tenths, the points that are passed first.
        points: u64,
        /// Whether the power is lost too.
        power: bool,
        /// Milliseconds until it is started again.
        away_ms: u64,
    },
    /// A process dies, and again while it starts.
    RecoveryCrash {
        /// The machine.
        who: Who,
        /// The points that are passed first.
        points: u64,
        /// How often.
        times: u64,
        /// Whether the power is lost too.
        power: bool,
    },
    /// All machines lose power.
    RoomPowerLoss {
        /// Milliseconds until it is started again.
        away_ms: u64,
    },
    /// A machine loses power and stays down.
    LongOutage {
        /// The machine.
        who: Who,
        /// Minutes that pass on its clocks.
        minutes: u64,
    },
    /// A member is restarted with other flags.
    FlagChange {
        /// The machine.
        who: Who,
        /// The flags.
        flags: Flags,
    },
    /// A monotonic clock runs at this rate, in millionths.
    Drift {
        /// The machine.
        who: Who,
        /// The rate.
        rate: u64,
    },
    /// A wall clock jumps.
    WallJump {
        /// The machine.
        who: Who,
        /// Milliseconds, forwards or back.
        by_ms: i64,
    },
    /// Acknowledgements of heartbeats are late, while all members are read from.
    LateAcks {
        /// Milliseconds at most.
        most_ms: u64,
    },
    /// This many of a thousand snapshots arrive with the state of another one.
    MixedSnapshot {
        /// How many.
        permille: u64,
    },
    /// A process dies, and starts when its wall clock shows the time of its last start, or a little less.
    ClockSetBack {
        /// The machine.
        who: Who,
        /// Milliseconds less.
        back_ms: u64,
    },
    /// Compactions at the revisions of two deletions.
    CompactPair {
        /// Milliseconds between them.
        apart_ms: u64,
    },
    /// A member is removed and added again at its address.
    Readd {
        /// The machine.
        who: Who,
        /// Whether its operator does not empty its disk at first.
        old_disk: bool,
    },
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::One(kind, _) | Self::All(kind) => *kind,
            Self::Drop { .. } => FaultKind::Drop,
            Self::Duplicate { .. } => FaultKind::Duplicate,
            Self::Delay { .. } => FaultKind::Delay,
            Self::Bandwidth { .. } => FaultKind::Bandwidth,
            Self::Split { .. } => FaultKind::Split,
            Self::Bridge { .. } => FaultKind::Bridge,
            Self::OneWay { .. } => FaultKind::OneWay,
            Self::Flap { .. } => FaultKind::Flap,
            Self::KindLost { .. } => FaultKind::KindLost,
            Self::Damage { how, .. } | Self::Disk { how, .. } => *how,
            Self::Stale { .. } => FaultKind::StaleFrame,
            Self::Crash { power, .. } | Self::TakeoverCrash { power, .. } | Self::ArrivalCrash { power, .. } => {
                if *power {
                    FaultKind::PowerLoss
                } else {
                    FaultKind::Crash
                }
            }
            Self::RecoveryCrash { .. } => FaultKind::RecoveryCrash,
            Self::RoomPowerLoss { .. } => FaultKind::RoomPowerLoss,
            Self::LongOutage { .. } => FaultKind::LongOutage,
            Self::FlagChange { .. } => FaultKind::FlagChange,
            Self::Drift { .. } => FaultKind::Drift,
            Self::WallJump { .. } => FaultKind::WallJump,
            Self::LateAcks { .. } => FaultKind::LateAcks,
            Self::MixedSnapshot { .. } => FaultKind::MixedSnapshot,
            Self::ClockSetBack { .. } => FaultKind::ClockSetBack,
            Self::CompactPair { .. } => FaultKind::CompactPair,
            Self::Readd { .. } => FaultKind::Readd,
        }
    }
}

/// A fault, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Planned {
    /// When it begins.
    pub at: Instant,
    /// When it ends, if it lasts.
    pub until: Instant,
    /// The fault.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {:?}", self.at, self.until, self.fault)
    }
}
