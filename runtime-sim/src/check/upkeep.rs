//! C42 of tables, and C50 to C52: a member's own work on its table, and its limits.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use quoin_core::config::AutoCompaction;
use quoin_core::id::MemberId;
use quoin_core::member::Status;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request;
use quoin_core::proto::etcdserverpb::{AlarmType, CompactionRequest, InternalRaftRequest, PutRequest, TxnRequest};
use quoin_core::proto::raftpb::{Entry, EntryType, MessageType};
use quoin_core::store::View;
use quoin_core::table::{Bucket, is_own};
use quoin_core::time::Instant;

use super::{Asked, Bounds, Checker, Truth};
use crate::observe::{Observation, Verdict, ensure};
use crate::table::Content;
use quoin_model::call::Call;

/// An alarm is proposed within this many ticks of a leader.
const ALARM_TICKS: u32 = 20;
/// The shortest time between two ticks.
const TICK: Duration = Duration::from_millis(90);
/// The time after which everything that a leader proposed before it led is committed or lost.
const SETTLED: Duration = Duration::from_secs(15);

/// A leader, as far as its quota is concerned.
#[derive(Debug, Default)]
struct Leader {
    term: u64,
    since: Option<Instant>,
    applied: u64,
    size_bytes: u64,
    /// When it last handed an alarm of its own to its log.
    alarmed: Option<Instant>,
    /// When it exceeded its quota, the ticks since, and when the last of them was.
    passed: Option<(Instant, u32, Instant)>,
}

/// The checker.
#[derive(Debug)]
pub(super) struct Upkeep {
    bounds: Bounds,
    leaders: BTreeMap<MemberId, Leader>,
}

impl Checker for Upkeep {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Started { member, .. } | Observation::Ended { member, .. } => {
                self.leaders.remove(&member);
                Ok(())
            }
            Observation::Published {
                member, view, status, ..
            } => {
                self.published(at, member, view, status, truth);
                Ok(())
            }
            Observation::Handed { member, entries, .. } => {
                let news = entries
                    .iter()
                    .filter(|entry| entry.entry_type == EntryType::EntryNormal as i32);
                news.into_iter()
                    .try_for_each(|entry| self.handed(at, member, entry, truth))
            }
            Observation::Sent { member, message, .. } if message.msg_type == MessageType::MsgHeartbeat as i32 => {
                self.ticked(at, member)
            }
            Observation::Replaced { member, view, rows } => replaced(member, view, rows),
            Observation::Swept {
                member,
                asked,
                finished,
            } => ensure(finished >= asked, "C50", || {
                format!("member {member} answers that the compaction at {asked} is done; its table says {finished}")
            }),
            _ => Ok(()),
        }
    }
}

impl Upkeep {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            leaders: BTreeMap::new(),
        }
    }

    fn published(&mut self, at: Instant, member: MemberId, view: &View, status: &Status, truth: &Truth) {
        let Some(quota) = self.bounds.quota else { return };
        let leader = self.leaders.entry(member).or_default();
        if !status.leads || status.term != leader.term || view.is_alarmed(member) {
            *leader = Leader {
                term: status.term,
                since: status
                    .leads
                    .then(|| leader.since.filter(|_| status.term == leader.term).unwrap_or(at)),
                alarmed: leader.alarmed,
                ..Leader::default()
            };
        } else {
            let is_settled = [leader.since, leader.alarmed]
                .into_iter()
                .all(|moment| moment.is_none_or(|moment| moment + SETTLED < at));
            let passes = (1..quota).contains(&leader.size_bytes) && view.size_bytes >= quota;
            let mut entries = leader.applied + 1..=view.applied_index;
            if passes && is_settled && leader.applied > 0 && entries.all(|index| only_grows(index, truth)) {
                leader.passed = Some((at, 0, at));
            }
        }
        (leader.applied, leader.size_bytes) = (view.applied_index, view.size_bytes);
    }

    fn ticked(&mut self, at: Instant, member: MemberId) -> Verdict {
        let passed = self.leaders.get_mut(&member).and_then(|leader| leader.passed.as_mut());
        let Some((since, ticks, last)) = passed.filter(|(_, _, last)| *last + TICK <= at) else {
            return Ok(());
        };
        (*ticks, *last) = (*ticks + 1, at);
        ensure(*ticks <= ALARM_TICKS, "C52", || {
            format!("leader {member} passed its quota at {since} and has not proposed an alarm {ticks} ticks later")
        })
    }

    fn handed(&mut self, at: Instant, member: MemberId, entry: &Entry, truth: &Truth) -> Verdict {
        let leads = truth.member(member).is_some_and(|facts| facts.status.leads);
        if !leads || (self.bounds.quota.is_none() && self.bounds.retention.is_none()) {
            return Ok(());
        }
        let request = InternalRaftRequest::decode(entry.data.clone()).unwrap_or_default();
        let is_own = |alarm: &quoin_core::proto::etcdserverpb::AlarmRequest| {
            alarm.action == AlarmAction::Activate as i32 && alarm.member_id == member.0
        };
        if request.alarm.as_ref().is_some_and(is_own) {
            let leader = self.leaders.entry(member).or_default();
            (leader.alarmed, leader.passed) = (Some(at), None);
        }
        match &request.compaction {
            Some(compaction) => self.compacts(at, member, *compaction, truth),
            None => Ok(()),
        }
    }

    /// C51: an automatic compaction leaves what is configured.
    fn compacts(&self, at: Instant, member: MemberId, compaction: CompactionRequest, truth: &Truth) -> Verdict {
        let is_asked = |call: &Call| matches!(call, Call::Compact(asked) if *asked == compaction);
        if compaction.physical || truth.ops().any(|(_, op)| is_asked(&op.call)) {
            return Ok(());
        }
        let newest = truth.model().revision();
        let most = match self.bounds.retention {
            Some(AutoCompaction::Revision(kept)) => newest - i64::try_from(kept).unwrap_or(i64::MAX),
            Some(AutoCompaction::Periodic(period)) => {
                let before = |index: &u64| {
                    truth
                        .entry(*index)
                        .is_some_and(|known| known.at + period * 9 / 10 <= at)
                };
                let index = (1..=truth.committed()).rev().find(before).unwrap_or(0);
                truth.model().revision_at(index)
            }
            Some(AutoCompaction::Off) | None => return Ok(()),
        };
        ensure(compaction.revision <= most, "C51", || {
            let revision = compaction.revision;
            format!("member {member} compacts at {revision} by itself at {at}; {newest} is there, and {most} may go")
        })
    }
}

/// C42: the table holds the received state and nothing else.
fn replaced(member: MemberId, view: &View, rows: &Content) -> Verdict {
    let expected: Content = Bucket::ALL
        .into_iter()
        .flat_map(|bucket| view.rows(bucket).map(move |(key, value)| ((bucket, key), value)))
        .collect();
    let found = || rows.iter().filter(|((bucket, key), _)| !is_own(*bucket, key));
    ensure(found().eq(expected.iter()), "C42", || {
        let differs = found().find(|(row, value)| expected.get(*row) != Some(*value));
        let (have, want) = (found().count(), expected.len());
        format!("the table of {member} has {have} rows of a received state's {want}; not of it is {differs:?}")
    })
}

/// Whether an entry is a write that only adds to what is stored, as far as that can be decided from outside.
fn only_grows(index: u64, truth: &Truth) -> bool {
    match truth.entry(index).map(|known| &known.asked) {
        Some(Asked::Request(request)) => match (&request.put, &request.txn) {
            (Some(put), _) => is_whole(put),
            (_, Some(txn)) => only_puts(txn),
            _ => false,
        },
        Some(Asked::Change(_) | Asked::Nothing) | None => false,
    }
}

fn only_puts(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestPut(put)) => is_whole(put),
        Some(Request::RequestTxn(nested)) => only_puts(nested),
        Some(Request::RequestRange(_)) => true,
        Some(Request::RequestDeleteRange(_)) | None => false,
    })
}

/// Whether the put contains its value.
const fn is_whole(put: &PutRequest) -> bool {
    !put.ignore_value
}

/// Whether a member's own alarm is active.
trait Alarmed {
    fn is_alarmed(&self, member: MemberId) -> bool;
}

impl Alarmed for View {
    fn is_alarmed(&self, member: MemberId) -> bool {
        self.alarms
            .list(AlarmType::Nospace)
            .any(|alarm| alarm.member_id == member.0)
    }
}
