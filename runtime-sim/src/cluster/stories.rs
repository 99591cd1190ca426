//! Stories: combinations of faults that have an effect only together. A quarter of the usual runs with faults has one,
//! once or several times. They have random numbers of their own.

use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::mvcc::EventKind;
use quoin_core::proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::World;
use super::draw::{PEACE, millis};
use super::nemesis::{Fault, Planned, Who};
use super::plan::Plan;
use crate::choose::one_of;
use crate::faults::FaultKind;
use crate::observe::Verdict;
use quoin_model::call::Call;

/// Kinds of faults that are met in stories only.
pub(super) const STORIES: [FaultKind; 8] = [
    FaultKind::LateAcks,
    FaultKind::MixedSnapshot,
    FaultKind::SlowSnapshot,
    FaultKind::StalledTable,
    FaultKind::ClockSetBack,
    FaultKind::QuotaRace,
    FaultKind::CompactPair,
    FaultKind::Readd,
];

/// Milliseconds between the steps that lead to a pair of compactions.
const PAIR_STEP_MS: u64 = 300;

/// A story.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Story {
    /// A deposed leader gets late messages from the time when it led.
    LateAcks,
    /// Members that were away are sent snapshots, some with the state of another one.
    MixedSnapshots,
    /// A member dies while a snapshot arrives.
    SnapshotDeath,
    /// A member needs another snapshot while one arrives, or soon after.
    SnapshotsInARow,
    /// A member whose table stalls falls behind until it needs a snapshot.
    StalledTable,
    /// Processes start at the time of an earlier start.
    ClockSetBack,
    /// Compactions follow each other closely.
    CompactPairs,
    /// A removed member is added again.
    Readd,
    /// A learner that no member has reached yet is to be promoted.
    EarlyPromotion,
    /// The quota is exceeded by writes each of which alone would fit.
    QuotaRace,
}

const ALL: [Story; 10] = [
    Story::LateAcks,
    Story::MixedSnapshots,
    Story::SnapshotDeath,
    Story::SnapshotsInARow,
    Story::StalledTable,
    Story::ClockSetBack,
    Story::CompactPairs,
    Story::Readd,
    Story::EarlyPromotion,
    Story::QuotaRace,
];

/// The story of `seed`, if it has one.
pub(super) fn draw_story(seed: u64, plan: &Plan) -> Vec<Planned> {
    let mut prng = Prng::new(seed).fork("nemesis/story");
    let (begin, end) = (millis(PEACE), millis(plan.heals_after).saturating_sub(8_000));
    if prng.below(4) > 0 || begin >= end {
        return Vec::new();
    }
    let story = one_of(&mut prng, &ALL);
    let times = match story {
        Story::LateAcks | Story::ClockSetBack => prng.range(2..6),
        Story::CompactPairs => prng.range(4..20),
        Story::Readd | Story::QuotaRace => 1,
        Story::MixedSnapshots
        | Story::SnapshotDeath
        | Story::SnapshotsInARow
        | Story::StalledTable
        | Story::EarlyPromotion => prng.range(1..3),
    };
    let mut faults = Vec::new();
    for _ in 0..times {
        let at = prng.range(begin..end);
        tell(story, at, &mut prng, plan, &mut faults);
    }
    faults
}

/// Plans the faults of a story from this moment on, in milliseconds.
fn tell(story: Story, at: u64, prng: &mut Prng, plan: &Plan, faults: &mut Vec<Planned>) {
    let election = plan.config.election_ms;
    let time = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
    let mut plan = |at: u64, lasts: u64, fault: Fault| {
        faults.push(Planned {
            at: time(at),
            until: time(at + lasts),
            fault,
        });
    };
    let follower = Who::Follower(prng.below(4) as usize);
    let machine = Who::Machine(prng.below(5) as usize);
    match story {
        Story::LateAcks => {
            let most_ms = election / 2 + prng.below(election * 3 / 2);
            plan(at, election * 5, Fault::LateAcks { most_ms });
            let away = at + prng.below(election);
            plan(away, election * 4, Fault::One(FaultKind::Isolate, Who::Leader));
        }
        Story::MixedSnapshots => {
            plan(at, 25_000, Fault::MixedSnapshot { permille: 500 });
            for round in 0..3 {
                plan(at + round * 6_000, 3_000, Fault::One(FaultKind::Isolate, follower));
            }
        }
        Story::SnapshotDeath => {
            // While it is away, the others write until their logs no longer reach back to it.
            plan(at, 1_600, Fault::LateAcks { most_ms: 1 });
            plan(at, 1_500, Fault::One(FaultKind::Isolate, follower));
            let death = Fault::ArrivalCrash {
                // The last tenth has the points at which the file and what follows it become durable.
                tenth: prng.below(16).min(10),
                points: prng.below(12),
                power: prng.below(2) == 0,
                away_ms: one_of(prng, &[1, 100, 3_000]),
            };
            plan(at, 8_000, death);
        }
        Story::SnapshotsInARow => {
            plan(at, 9_000, Fault::LateAcks { most_ms: 1 });
            plan(at, 9_000, Fault::One(FaultKind::SlowSnapshot, machine));
            for round in 0..4 {
                let begin = at + round * 2_200;
                plan(begin, 1_000, Fault::One(FaultKind::Isolate, machine));
                let moves = begin + 1_200 + prng.below(1_000);
                plan(moves, 0, Fault::One(FaultKind::MoveLeader, Who::Leader));
            }
        }
        Story::StalledTable => {
            plan(
                at,
                5_000 + prng.below(3_000),
                Fault::One(FaultKind::StalledTable, machine),
            );
            // When it is cut off it has more writes than its lane takes. The others continue until their logs no longer
            // reach back to it, and the writes that it lacks are compacted.
            plan(at + 50, 1_200, Fault::LateAcks { most_ms: 1 });
            plan(at + 1_300, 1_600, Fault::LateAcks { most_ms: 1 });
            plan(
                at + 1_250,
                2_000 + prng.below(1_000),
                Fault::One(FaultKind::Isolate, machine),
            );
            for later in [2_200, 2_900] {
                plan(at + later, 0, Fault::All(FaultKind::CompactPair));
            }
            let again = Fault::Crash {
                who: machine,
                points: 1,
                at: None,
                power: false,
                away_ms: 100,
            };
            plan(at + 9_500, 1_000, again);
        }
        Story::ClockSetBack => {
            let back_ms = one_of(prng, &[0, 0, 1, 2, 20, 50]);
            plan(at, 0, Fault::ClockSetBack { who: machine, back_ms });
        }
        Story::CompactPairs => {
            let apart_ms = one_of(prng, &[1, 5, 15, 40, 200]);
            plan(at, 1_500, Fault::CompactPair { apart_ms });
        }
        Story::QuotaRace => plan(at, 0, Fault::All(FaultKind::QuotaRace)),
        Story::Readd => {
            let old_disk = prng.below(2) == 0;
            plan(at, 0, Fault::Readd { who: machine, old_disk });
        }
        Story::EarlyPromotion => {
            plan(at, 0, Fault::All(FaultKind::AddLearner));
            plan(at + 50, 8_000, Fault::One(FaultKind::Isolate, Who::Newest));
            for later in [100, 2_000, 4_000] {
                plan(at + later, 0, Fault::All(FaultKind::Promote));
            }
        }
    }
}

impl World<'_> {
    /// A fault that is met in stories only begins.
    pub(super) fn story_begins(&mut self, planned: usize, fault: Fault) -> Verdict {
        match fault {
            Fault::LateAcks { .. } => {
                self.activate(planned, 0, 0);
                self.fault_flaps(planned)
            }
            Fault::CompactPair { .. } => self.pair_goes_on(planned),
            Fault::All(FaultKind::CompactPair) => self.compact_all(),
            Fault::One(FaultKind::StalledTable, who) => {
                let machine = self.resolve(who);
                self.struck.note(FaultKind::StalledTable);
                let until = self.plan.faults[planned].until;
                self.machines[machine].site.table.set_stall(until);
                Ok(())
            }
            Fault::ClockSetBack { who, back_ms } => {
                let machine = self.resolve(who);
                self.set_clock_back(machine, back_ms)
            }
            Fault::All(FaultKind::QuotaRace) => self.race_for_quota(),
            _ => {
                self.activate(planned, 0, 0);
                Ok(())
            }
        }
    }

    /// Sends a read of a key to every member and a write to one of them, so that messages are late.
    pub(super) fn ask_all(&mut self) -> Verdict {
        let ups = self.machines.iter().filter(|machine| machine.is_up());
        let members: Vec<MemberId> = ups.map(|machine| machine.id).collect();
        for member in members {
            let range = RangeRequest {
                key: "b".into(),
                ..RangeRequest::default()
            };
            self.ask_one(member, Call::Range(range))?;
        }
        let put = PutRequest {
            key: "b".into(),
            value: format!("o{}", self.operator.asked).into(),
            ..PutRequest::default()
        };
        self.ask_any(Call::Put(put), false)
    }

    /// Sends every member a write that fits the rest of the quota; two of them together do not.
    pub(super) fn race_for_quota(&mut self) -> Verdict {
        let size = self.newest_view().map_or(u64::MAX, |view| view.size_bytes);
        let quota = self.plan.config.quota_backend_bytes.unwrap_or(0);
        let value_bytes = usize::try_from(quota.saturating_sub(size) * 6 / 10).unwrap_or(0);
        let ups = self.machines.iter().filter(|machine| machine.is_up());
        let members: Vec<MemberId> = ups.map(|machine| machine.id).collect();
        if value_bytes > 1_000 {
            self.struck.note(FaultKind::QuotaRace);
            for member in members {
                let mut value = format!("o{}.", self.operator.asked).into_bytes();
                value.resize(value_bytes, b'.');
                let put = PutRequest {
                    key: "b".into(),
                    value: value.into(),
                    ..PutRequest::default()
                };
                self.ask_one(member, Call::Put(put))?;
            }
        }
        Ok(())
    }

    /// The next step of a pair of compactions: compact everything, so that the pair is short; write two keys; delete
    /// each; compact at the last deletion but one and, soon after, at the last.
    pub(super) fn pair_goes_on(&mut self, planned: usize) -> Verdict {
        let it = self.plan.faults[planned];
        let Fault::CompactPair { apart_ms } = it.fault else {
            return Ok(());
        };
        let delete = |key: &'static str| {
            Call::DeleteRange(DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            })
        };
        let step = self.now.saturating_since(it.at).as_millis() / u128::from(PAIR_STEP_MS);
        let next = match step {
            0 => {
                self.compact_all()?;
                for key in ["y", "z"] {
                    let value = format!("o{}", self.operator.asked).into();
                    let key = key.into();
                    let put = PutRequest {
                        key,
                        value,
                        ..PutRequest::default()
                    };
                    self.ask_any(Call::Put(put), true)?;
                }
                PAIR_STEP_MS
            }
            1 | 2 => {
                self.ask_any(delete(if step == 1 { "y" } else { "z" }), true)?;
                PAIR_STEP_MS
            }
            _ => {
                self.struck.note(FaultKind::CompactPair);
                self.compact_at_deletion()?;
                apart_ms
            }
        };
        if step < 3 || self.now == it.at + Duration::from_millis(3 * PAIR_STEP_MS) {
            self.flap_later(planned, next);
        }
        Ok(())
    }

    /// Requests a compaction of everything superseded.
    fn compact_all(&mut self) -> Verdict {
        let newest = self.newest_view().map_or(0, |view| view.kv.revision());
        self.operator.compacted = newest - 1;
        let (revision, physical) = (newest - 1, false);
        self.ask_any(Call::Compact(CompactionRequest { revision, physical }), false)
    }

    /// Requests a compaction after the last one, at the revision of the last deletion but one, or of the last; if there
    /// is none, just before the newest revision.
    pub(super) fn compact_at_deletion(&mut self) -> Verdict {
        let Some(view) = self.newest_view() else { return Ok(()) };
        let newest = view.kv.revision();
        let from = view.kv.compact_revision().max(self.operator.compacted) + 1;
        let history = view.kv.events_since(from, usize::MAX);
        let deletions = history.filter(|event| event.kind() == EventKind::Delete);
        let mut revisions: Vec<i64> = deletions.map(|event| event.revision().main).collect();
        revisions.dedup();
        let revision = revisions.iter().rev().take(2).next_back().copied();
        let revision = revision.unwrap_or(newest - 1);
        self.operator.compacted = revision;
        let physical = self.prng.below(2) == 0;
        self.ask_any(Call::Compact(CompactionRequest { revision, physical }), false)
    }

    /// A process dies and starts at the wall time of its last start, or a little less.
    pub(super) fn set_clock_back(&mut self, machine: usize, back_ms: u64) -> Verdict {
        let now = self.now;
        let at = &mut self.machines[machine];
        if !at.is_up() {
            return Ok(());
        }
        self.struck.note(FaultKind::ClockSetBack);
        let away = Duration::from_millis(1);
        let by = (at.clock.wall_ms(now + away) + back_ms).saturating_sub(at.woke_ms);
        at.clock.jump(-i64::try_from(by).unwrap_or(0));
        self.down_for(machine, false, away)
    }
}
