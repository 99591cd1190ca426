//! Which faults a seed has: a fifth of all seeds none, half of them two to four kinds, the rest any. Long runs have few of a few
//! kinds, far apart, short ones next to none.

use std::ops::Range;
use std::time::Duration;

use quoin_core::proto::raftpb::MessageType;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::nemesis::{Fault, Flags, Planned, Who};
use super::plan::{Plan, SNAPSHOT_COUNTS, Shape};
use super::stories::{STORIES, draw_story};
use crate::choose::one_of;
use crate::faults::FaultKind;
use crate::fuse::Touch;

/// No fault before this time: a cluster must have formed.
pub(super) const PEACE: Duration = Duration::from_secs(4);
/// Some processes die earlier nevertheless, in milliseconds.
const EARLY: Range<u64> = 20..500;
/// A year.
const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

/// The faults of `seed`, by the time at which they begin.
pub(super) fn draw_faults(seed: u64, plan: &Plan) -> Vec<Planned> {
    let mut prng = Prng::new(seed).fork("nemesis");
    let mut faults = match plan.shape {
        Shape::Long => draw_rare(&mut prng, plan),
        Shape::Short => draw_mild(&mut prng, plan),
        Shape::Usual => draw_many(&mut prng, plan),
    };
    if !faults.is_empty() && plan.shape == Shape::Usual && prng.below(20) == 0 {
        // The last fault of a run: it ends the former cluster.
        let at = Instant::ZERO + plan.heals_after;
        let who = Who::Leader;
        faults.push(Planned {
            at,
            until: at,
            fault: Fault::One(FaultKind::ForceNewCluster, who),
        });
        if prng.below(2) == 0 {
            // A learner that exists then is to be removed afterwards.
            let before = Duration::from_millis(prng.range(1_000..8_000));
            faults.push(Planned {
                at: Instant::ZERO + plan.heals_after.saturating_sub(before),
                until: at,
                fault: Fault::All(FaultKind::AddLearner),
            });
        }
    }
    if !faults.is_empty() && plan.shape == Shape::Usual {
        faults.append(&mut draw_table_damage(seed, plan));
        faults.append(&mut draw_story(seed, plan));
    }
    faults.sort_by_key(|planned| planned.at);
    faults
}

/// The faults of long runs, every few minutes: mostly changes of leader, each followed by a quiet time. Flags do not
/// change, so that it is known whether leases are checkpointed.
const RARE: [FaultKind; 14] = [
    FaultKind::MoveLeader,
    FaultKind::MoveLeader,
    FaultKind::Crash,
    FaultKind::Crash,
    FaultKind::PowerLoss,
    FaultKind::RoomPowerLoss,
    FaultKind::Isolate,
    FaultKind::Isolate,
    FaultKind::Split,
    FaultKind::Deaf,
    FaultKind::Pause,
    FaultKind::Drift,
    FaultKind::RollingRestart,
    FaultKind::Defragment,
];

fn draw_rare(prng: &mut Prng, plan: &Plan) -> Vec<Planned> {
    let apart = one_of(prng, &[100_000, 330_000, 400_000, 700_000]);
    let end = millis(plan.heals_after);
    let mut faults = Vec::new();
    let mut at = prng.range(10_000..apart);
    while at < end {
        let kind = one_of(prng, &RARE);
        let lasts = if kind == FaultKind::Drift { apart } else { 10_000 };
        let until = (at + 1_000 + prng.below(lasts)).min(end);
        faults.extend(planned(kind, prng, at..until, plan));
        at += prng.range(apart / 2..apart * 3 / 2);
    }
    faults
}

/// The faults of short runs: few requests have an unknown outcome.
const MILD: [FaultKind; 8] = [
    FaultKind::Crash,
    FaultKind::Delay,
    FaultKind::Duplicate,
    FaultKind::Isolate,
    FaultKind::MoveLeader,
    FaultKind::Pause,
    FaultKind::StaleFrame,
    FaultKind::WallJump,
];

fn draw_mild(prng: &mut Prng, plan: &Plan) -> Vec<Planned> {
    let (begin, end) = (millis(PEACE), millis(plan.heals_after));
    let mut faults = Vec::new();
    for _ in 0..prng.below(4) {
        let kind = one_of(prng, &MILD);
        let at = prng.range(begin..end);
        let until = (at + 50 + prng.below(3_000)).min(end);
        faults.extend(planned(kind, prng, at..until, plan));
    }
    faults
}

fn draw_many(prng: &mut Prng, plan: &Plan) -> Vec<Planned> {
    let kinds = draw_kinds(prng);
    let mut faults = Vec::new();
    let (begin, end) = (millis(PEACE), millis(plan.heals_after));
    let all = kinds.len() > 4;
    for kind in kinds {
        let times = match kind {
            _ if all => prng.below(3),
            // Most losses of power leave no such trace.
            FaultKind::TornSector | FaultKind::ZeroTail => prng.range(4..9),
            _ => prng.range(1..5),
        };
        // An early crash may lose the first entries of the log, with which members are founded.
        let is_early =
            matches!(kind, FaultKind::Crash | FaultKind::PowerLoss | FaultKind::RoomPowerLoss) && prng.below(3) == 0;
        let begin = if is_early { EARLY.start } else { begin };
        for number in 0..times {
            let end = if is_early && number == 0 { EARLY.end } else { end };
            let at = prng.range(begin..end);
            let lasts = one_of(prng, &[200, 1_500, 6_000, 20_000]);
            let until = (at + 50 + prng.below(lasts)).min(end);
            let Some(fault) = planned(kind, prng, at..until, plan) else {
                continue;
            };
            if matches!(fault.fault, Fault::TakeoverCrash { .. }) {
                faults.push(absence(prng, fault));
            }
            faults.push(fault);
        }
    }
    if !faults.is_empty() && prng.below(8) == 0 {
        // The kind of death that chance would produce least often.
        for _ in 0..prng.range(1..5) {
            let at = Instant::ZERO + Duration::from_millis(prng.range(begin..end));
            let power = prng.below(4) > 0;
            let takeover = Planned {
                at,
                until: at + Duration::from_secs(5),
                fault: takeover(prng, power),
            };
            faults.extend([absence(prng, takeover), takeover]);
        }
    }
    faults
}

/// A member that was away crashes while it installs the snapshot that it needs.
fn takeover(prng: &mut Prng, power: bool) -> Fault {
    Fault::TakeoverCrash {
        points: prng.below(50),
        at: (prng.below(2) == 0).then(|| one_of(prng, &TAKEOVER)),
        power,
        away_ms: one_of(prng, &[1, 100, 3_000]),
    }
}

/// Only a member that was away for a while installs a snapshot.
fn absence(prng: &mut Prng, before: Planned) -> Planned {
    let away = Duration::from_millis(prng.range(500..6_000));
    Planned {
        at: Instant::ZERO + before.at.saturating_since(Instant::ZERO + away),
        until: before.at,
        fault: Fault::One(FaultKind::Isolate, Who::Follower(prng.below(4) as usize)),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A fault of this kind at this time, in milliseconds.
fn planned(kind: FaultKind, prng: &mut Prng, when: Range<u64>, plan: &Plan) -> Option<Planned> {
    let fault = draw(kind, prng, when.end.saturating_sub(when.start), plan.config.election_ms)?;
    let time = |ms| Instant::ZERO + Duration::from_millis(ms);
    Some(Planned {
        at: time(when.start),
        until: time(when.end),
        fault,
    })
}

fn draw_kinds(prng: &mut Prng) -> Vec<FaultKind> {
    match prng.below(10) {
        0 | 1 => Vec::new(),
        2..7 => {
            let count = prng.range(2..5);
            let all = all_kinds();
            (0..count).map(|_| one_of(prng, &all)).collect()
        }
        _ => all_kinds(),
    }
}

/// Every kind except those of the table and those of stories, which are drawn separately.
fn all_kinds() -> Vec<FaultKind> {
    let kinds = FaultKind::ALL.iter().copied();
    kinds
        .filter(|kind| !TABLE.contains(kind) && !STORIES.contains(kind))
        .collect()
}

/// The possible damage of a table.
const TABLE: [FaultKind; 4] = [
    FaultKind::DamagedRow,
    FaultKind::LostRow,
    FaultKind::LostBucket,
    FaultKind::OldBucket,
];

/// Of the runs with many faults, one in six has damaged tables, too. They have random numbers of their own.
fn draw_table_damage(seed: u64, plan: &Plan) -> Vec<Planned> {
    let mut prng = Prng::new(seed).fork("nemesis/table");
    if prng.below(6) > 0 {
        return Vec::new();
    }
    let (begin, end) = (millis(PEACE), millis(plan.heals_after));
    let count = prng.range(1..4);
    let drawn = (0..count).filter_map(|_| {
        let kind = one_of(&mut prng, &TABLE);
        let at = prng.range(begin..end);
        planned(kind, &mut prng, at..at, plan)
    });
    drawn.collect()
}

fn who(prng: &mut Prng) -> Who {
    match prng.below(4) {
        0 | 1 => Who::Machine(prng.below(5) as usize),
        2 => Who::Leader,
        _ => Who::Follower(prng.below(4) as usize),
    }
}

fn draw(kind: FaultKind, prng: &mut Prng, lasts_ms: u64, election_ms: u64) -> Option<Fault> {
    let target = who(prng);
    Some(match kind {
        FaultKind::LostSectors | FaultKind::LostNames | FaultKind::TornSector | FaultKind::ZeroTail => {
            draw_loss(kind, prng, target)
        }
        _ if kind.family() == "network" => draw_network(kind, prng, target),
        _ if matches!(kind.family(), "disk" | "table") => Fault::Disk {
            who: target,
            how: kind,
            amount: prng.below(1_000),
        },
        FaultKind::Crash | FaultKind::PowerLoss if prng.below(6) == 0 => takeover(prng, kind == FaultKind::PowerLoss),
        FaultKind::Crash | FaultKind::PowerLoss => Fault::Crash {
            who: target,
            points: one_of(prng, &[1, 30, 300]) + prng.below(100),
            at: (prng.below(3) == 0).then(|| one_of(prng, &Touch::FALLIBLE)),
            power: kind == FaultKind::PowerLoss,
            away_ms: one_of(prng, &[1, 100, 3_000, 15_000]),
        },
        FaultKind::RecoveryCrash => Fault::RecoveryCrash {
            who: target,
            points: prng.below(60),
            times: prng.range(1..5),
            power: prng.below(2) == 0,
        },
        FaultKind::RoomPowerLoss => Fault::RoomPowerLoss {
            away_ms: prng.below(5_000),
        },
        FaultKind::LongOutage => Fault::LongOutage {
            who: target,
            minutes: prng.range(60..2_000),
        },
        FaultKind::FlagChange => Fault::FlagChange {
            who: target,
            flags: draw_flags(prng, election_ms),
        },
        FaultKind::Drift => Fault::Drift {
            who: target,
            rate: 950_000 + prng.below(100_001),
        },
        FaultKind::WallJump => draw_wall_jump(prng, target),
        FaultKind::RollingRestart if lasts_ms <= 500 => return None,
        FaultKind::ForceNewCluster => return None,
        FaultKind::AddVoter | FaultKind::AddLearner | FaultKind::Promote | FaultKind::RollingRestart => {
            Fault::All(kind)
        }
        _ => Fault::One(kind, target),
    })
}

/// A disk loses data only with the power; the first machine's may leave halves of sectors.
fn draw_loss(kind: FaultKind, prng: &mut Prng, target: Who) -> Fault {
    Fault::Crash {
        who: if kind == FaultKind::TornSector {
            Who::Machine(0)
        } else {
            target
        },
        points: prng.below(200),
        at: Some(match kind {
            FaultKind::TornSector | FaultKind::ZeroTail => Touch::Sync,
            _ => one_of(prng, &[Touch::Sync, Touch::SyncDir, Touch::Rename, Touch::TableSync]),
        }),
        power: true,
        away_ms: prng.below(5_000),
    }
}

/// A fault of the disk while its member installs a snapshot.
const TAKEOVER: [Touch; 6] = [
    Touch::Remove,
    Touch::Rename,
    Touch::Sync,
    Touch::SyncDir,
    Touch::TableSync,
    Touch::TableWrite,
];

fn draw_network(kind: FaultKind, prng: &mut Prng, target: Who) -> Fault {
    match kind {
        FaultKind::Drop => Fault::Drop {
            permille: one_of(prng, &[10, 100, 300]),
        },
        FaultKind::Duplicate => Fault::Duplicate {
            permille: one_of(prng, &[10, 100, 500]),
        },
        FaultKind::Delay => Fault::Delay {
            mean_ms: one_of(prng, &[1, 10, 100, 1_000]),
        },
        FaultKind::Bandwidth => Fault::Bandwidth {
            bytes_per_second: one_of(prng, &[500, 5_000, 50_000]),
        },
        FaultKind::Split => Fault::Split {
            left: prng.range(1..31),
        },
        FaultKind::Bridge => Fault::Bridge {
            left: prng.range(1..31),
            bridge: target,
        },
        FaultKind::OneWay => Fault::OneWay {
            from: target,
            to: who(prng),
        },
        FaultKind::Flap => Fault::Flap {
            who: target,
            every_ms: one_of(prng, &[50, 300, 1_500]),
        },
        FaultKind::KindLost => {
            let kinds = [
                MessageType::MsgAppend,
                MessageType::MsgAppendResponse,
                MessageType::MsgHeartbeat,
                MessageType::MsgHeartbeatResponse,
                MessageType::MsgRequestVote,
                MessageType::MsgRequestVoteResponse,
                MessageType::MsgRequestPreVoteResponse,
                MessageType::MsgReadIndexResp,
                MessageType::MsgSnapshot,
                MessageType::MsgPropose,
                MessageType::MsgTimeoutNow,
            ];
            Fault::KindLost {
                kind: one_of(prng, &kinds) as i32,
            }
        }
        FaultKind::StaleFrame => Fault::Stale {
            frames: prng.range(1..30),
        },
        FaultKind::Clog | FaultKind::Isolate | FaultKind::Deaf | FaultKind::ClientCut | FaultKind::Reset => {
            Fault::One(kind, target)
        }
        FaultKind::Ring => Fault::All(kind),
        how => Fault::Damage {
            how,
            permille: one_of(prng, &[5, 50, 300]),
        },
    }
}

/// Election timeouts stay alike: a member that is behind, has a shorter timeout and holds no pre-vote can prevent every
/// election for as long as chance allows, in etcd too. With a timeout shorter by a tenth, the members that it cannot
/// beat win one election in three; by a third, one in sixteen. And the shortest lease, which follows from the timeouts,
/// must be the same on all members.
fn draw_flags(prng: &mut Prng, election_ms: u64) -> Flags {
    Flags {
        election_ms: election_ms * one_of(prng, if election_ms > 500 { &[9, 10] } else { &[10] }) / 10,
        pre_vote: prng.below(2) == 0,
        snapshot_count: one_of(prng, &SNAPSHOT_COUNTS),
        quota_bytes: one_of(prng, &[None, None, Some(100_000)]),
        kept_revisions: one_of(prng, &[0, 0, 10, 100]),
        checkpoints: prng.below(2) == 0,
    }
}

fn draw_wall_jump(prng: &mut Prng, who: Who) -> Fault {
    let most = one_of(prng, &[5, 1_000, 3_600_000, 10 * YEAR_MS]);
    let by = i64::try_from(prng.below(most)).unwrap_or(0);
    Fault::WallJump {
        who,
        by_ms: if prng.below(2) == 0 { by } else { -by },
    }
}
