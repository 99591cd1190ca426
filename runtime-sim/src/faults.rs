//! Every kind of fault in a simulated cluster, and how often each has struck: the list of the fault model.
//!
//! The models themselves are described where they are implemented: the network's in `cluster::net` and `cluster::wire`, the disk's in `disk`,
//! the table's in `table`, those of processes, clocks and operators in `cluster::nemesis`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! kinds {
    ($($family:literal: $($name:ident $words:literal,)*)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum FaultKind { $($(#[doc = $words] $name,)*)* }

        impl FaultKind {
            /// All kinds, by family.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// A description in one sentence.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $($(Self::$name => $words,)*)* }
            }

            /// The part of the simulation that it strikes.
            #[must_use]
            pub const fn family(self) -> &'static str {
                match self { $($(Self::$name => $family,)*)* }
            }
        }
    };
}

kinds! {
    "network":
        Drop "A message is lost.",
        Duplicate "A message arrives twice.",
        Delay "A message is late, so that later ones overtake it.",
        Clog "A link stalls and then delivers everything at once.",
        Bandwidth "A link carries few bytes a second.",
        Isolate "One member is cut off from all others, in both directions.",
        Split "The members are cut into two halves without a link between them.",
        Bridge "Two halves have no link between them, except through one member.",
        Ring "Every member reaches only its neighbours.",
        OneWay "One direction of a link is dead.",
        Deaf "A member, often the leader, sends messages but receives none.",
        ClientCut "Clients do not reach a member, other members do.",
        Flap "A partition comes and goes.",
        KindLost "All messages of one kind are lost.",
        Reset "Connections are reset: of the bytes in transit a part arrives, streams end.",
        FlippedFrame "The kind or the length of a frame is garbled.",
        CutFrame "A write is cut short, and its connection reset.",
        SplicedFrame "Before a frame come bytes that begin another one, or none.",
        StaleFrame "An old message arrives again.",
        MisaddressedFrame "A connection leads to a member that was not meant.",
        LateAcks "Only acknowledgements of heartbeats are late, while many clients read.",
        MixedSnapshot "A snapshot arrives with a state of another snapshot.",
        SlowSnapshot "Few bytes a second reach a member that needs snapshots, while leaders change.",
    "disk":
        LostSectors "A loss of power takes sectors that were not synced.",
        LostNames "A loss of power takes creations, renames and removals that were not synced.",
        TornSector "A loss of power leaves a sector half written.",
        ZeroTail "A loss of power leaves a file's new length without its content.",
        SyncError "A sync fails, but the pages count as clean.",
        SilentSyncError "A sync fails but returns no error.",
        WriteError "A write, rename or removal fails.",
        ReadError "A read fails, once or permanently.",
        RottenBit "A bit at rest flips.",
        SmearedBytes "Bytes at rest are overwritten.",
        ZeroedSector "A sector at rest reads as zeros.",
        StaleSector "A sector at rest reads as it was before its last write.",
        SwappedSectors "Two sectors at rest are exchanged.",
        NoSpace "A write or a creation finds the disk full.",
        SlowDisk "Every call takes long.",
        StalledDisk "The disk answers no call for a while.",
        LostDisk "A member comes back with an empty disk.",
        OldBackup "A member comes back with an older state of its disk.",
        StalledTable "The table, but not the disk, answers no call for a while.",
    "process":
        Crash "A process dies between two of its outputs.",
        PowerLoss "A machine loses power: what was not synced may be lost.",
        RecoveryCrash "A process dies while it starts.",
        RoomPowerLoss "All machines lose power at once.",
        LongOutage "A machine is down for hours.",
        Pause "A process is suspended, then handles everything that has arrived.",
        FlagChange "A member starts again with other flags.",
    "clock":
        Drift "A member's clock runs fast or slow.",
        WallJump "A member's wall clock jumps.",
        TickStarvation "A member is not woken for a while.",
        ClockSetBack "A process dies and starts again when the wall clock again shows the time of its last start.",
    "operation":
        AddVoter "A voter is added.",
        AddLearner "A learner is added.",
        Promote "A learner is promoted.",
        Remove "A member is removed.",
        Replace "A member is removed and another takes its place.",
        UpdateUrls "A member's addresses change.",
        MoveLeader "Leadership is moved.",
        Defragment "A member defragments.",
        ForceNewCluster "A member founds a cluster of its own with --force-new-cluster.",
        RollingRestart "The members are restarted one after another.",
        QuotaRace "Several writes that exceed the quota only together arrive at once.",
        CompactPair "Two compactions at revisions of deletions are requested within moments.",
        Readd "A member is removed and added again at its address, with an empty disk or, at first, its old one.",
    "table":
        DamagedRow "A bit of a row of the table flips, and the table's engine does not notice.",
        LostRow "A row of the table is gone.",
        LostBucket "A bucket of the table is empty.",
        OldBucket "A bucket of the table is as it was when it was last opened.",
}

/// How often each kind has struck; clones share the counts.
#[derive(Clone, Debug)]
pub struct Struck {
    counts: Arc<[AtomicU64]>,
}

impl Default for Struck {
    fn default() -> Self {
        Self {
            counts: FaultKind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Struck {
    /// Counts one.
    pub fn note(&self, kind: FaultKind) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it struck.
    #[must_use]
    pub fn count(&self, kind: FaultKind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// Adds another run's counts.
    pub fn add(&self, other: &Self) {
        for (mine, theirs) in self.counts.iter().zip(other.counts.iter()) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
