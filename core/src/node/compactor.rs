//! Auto-compaction (`--auto-compaction-mode`, `--auto-compaction-retention`): when to compact, and up to which
//! revision.
//!
//! Only the leader proposes compactions. Followers sample too, so that a new leader has the samples of the past.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bug;
use crate::member::{Member, Origin};
use crate::proto::etcdserverpb::CompactionRequest;
use crate::store::Content;
use crate::time::Instant;

/// How often compaction by revision checks whether to compact.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The longest interval between compactions by period.
const PERIOD_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Samples in one interval of compaction by period.
const PERIOD_SAMPLES: u32 = 10;

/// What compaction keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retention {
    /// Every revision that was current within this time.
    Period(Duration),
    /// This many revisions.
    Revisions(i64),
}

impl Retention {
    /// How often to check whether to compact.
    fn interval(self) -> Duration {
        match self {
            Self::Period(period) => period.min(PERIOD_INTERVAL_MAX) / PERIOD_SAMPLES,
            Self::Revisions(_) => REVISION_INTERVAL,
        }
    }
}

/// The compactor of a member.
#[derive(Debug)]
pub(super) struct Compactor {
    retention: Retention,
    /// The revisions sampled for compaction by period, oldest first. In the long run the first is a period old.
    samples: VecDeque<i64>,
    compacted: i64,
    compacted_at: Instant,
    /// The revision proposed and when, until the outcome is known.
    proposed: Option<(i64, Instant)>,
    /// Whether a compaction has succeeded. The first one by period waits for the whole period.
    waited: bool,
    /// When to check next.
    look_at: Instant,
}

impl Compactor {
    /// A compactor that starts to sample at `now`, when the store is at `revision`.
    pub(super) fn new(retention: Retention, now: Instant, revision: i64) -> Self {
        Self {
            retention,
            samples: VecDeque::from([revision]),
            compacted: 0,
            compacted_at: now,
            proposed: None,
            waited: false,
            look_at: now + retention.interval(),
        }
    }

    /// When to call [`Compactor::wake`] at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.look_at
    }

    /// Checks, with the store at `revision`, and proposes a compaction if one is due.
    pub(super) fn wake(&mut self, now: Instant, revision: i64, member: &mut Member) {
        self.look_at = now + self.retention.interval();
        let Some(revision) = self.look(now, revision, member.leads()) else {
            return;
        };
        let compaction = Content::Compaction(CompactionRequest {
            revision,
            physical: false,
        });
        if member.propose_own(now, Origin::AutoCompact, compaction).is_err() {
            self.finished(false);
        }
    }

    /// Checks, with the store at `revision`; returns the revision to compact to if a compaction is due.
    fn look(&mut self, now: Instant, revision: i64, leads: bool) -> Option<i64> {
        let target = match self.retention {
            Retention::Period(period) => self.by_period(period, now, leads),
            Retention::Revisions(kept) => revision.checked_sub(kept).filter(|_| leads),
        };
        if let Retention::Period(_) = self.retention {
            self.sample(revision);
        }
        let target = target.filter(|&target| target > 0 && target != self.compacted && self.proposed.is_none())?;
        self.proposed = Some((target, now));
        Some(target)
    }

    /// The proposed compaction was applied, or already done (`compacted`). Otherwise it will be proposed again.
    pub(super) fn finished(&mut self, compacted: bool) {
        let Some((revision, at)) = self.proposed.take() else {
            return;
        };
        if compacted {
            self.compacted = revision;
            self.compacted_at = at;
            self.waited = true;
        }
    }

    fn by_period(&self, period: Duration, now: Instant, leads: bool) -> Option<i64> {
        let wait = if self.waited {
            period.min(PERIOD_INTERVAL_MAX)
        } else {
            period
        };
        let oldest = *if bug!(CompactsThePresent) {
            self.samples.back()
        } else {
            self.samples.front()
        }?;
        (leads && now.saturating_since(self.compacted_at) >= wait).then_some(oldest)
    }

    fn sample(&mut self, revision: i64) {
        let Retention::Period(period) = self.retention else {
            return;
        };
        let interval = self.retention.interval().max(Duration::from_nanos(1));
        let kept = period.as_nanos() / interval.as_nanos() + 1;
        self.samples.push_back(revision);
        while self.samples.len() as u128 > kept {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    /// Checks every interval for `steps` intervals while the store gains a revision a minute. Returns the minute and
    /// the revision of each compaction.
    fn run(retention: Retention, steps: u32, leads: impl Fn(u32) -> bool) -> Vec<(u32, i64)> {
        let mut compactor = Compactor::new(retention, Instant::ZERO, 1);
        let mut found = Vec::new();
        for step in 1..=steps {
            let now = Instant::ZERO + compactor.retention.interval() * step;
            let minutes = (compactor.retention.interval() * step).as_secs() / 60;
            if let Some(revision) = compactor.look(now, 1 + minutes as i64, leads(step)) {
                found.push((minutes as u32, revision));
                compactor.finished(true);
            }
        }
        found
    }

    #[test]
    fn by_period_the_revision_of_a_period_ago_is_kept() {
        let found = run(Retention::Period(HOUR), 30, |_| true);
        assert_eq!(
            found,
            [(60, 1), (120, 55), (180, 115)],
            "every hour, to the last sample older than an hour"
        );
        let found = run(Retention::Period(HOUR * 3), 60, |_| true);
        assert_eq!(
            found,
            [(180, 1), (240, 55), (300, 115), (360, 175)],
            "three hours at first, then every hour"
        );
        let found = run(Retention::Period(MINUTE * 10), 30, |_| true);
        assert_eq!(found, [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn by_revision_the_configured_number_is_kept() {
        let found = run(Retention::Revisions(10), 4, |_| true);
        assert_eq!(found, [(10, 1), (15, 6), (20, 11)], "it checks every five minutes");
    }

    #[test]
    fn only_the_leader_compacts_but_every_member_samples() {
        let found = run(Retention::Period(HOUR), 30, |step| step > 25);
        assert_eq!(found, [(156, 91)], "a new leader has the sample of an hour before");
        assert_eq!(run(Retention::Revisions(10), 4, |_| false), []);
    }

    #[test]
    fn a_failed_compaction_is_tried_again_and_a_pending_one_is_not() {
        let mut compactor = Compactor::new(Retention::Revisions(10), Instant::ZERO, 1);
        let now = Instant::ZERO + REVISION_INTERVAL;
        assert_eq!(compactor.look(now, 30, true), Some(20));
        assert_eq!(compactor.look(now, 31, true), None, "one at a time");
        compactor.finished(false);
        assert_eq!(compactor.look(now, 30, true), Some(20));
        compactor.finished(true);
        assert_eq!(compactor.look(now, 30, true), None, "nothing new");
    }
}
