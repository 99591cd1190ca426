//! The sources of counts: the node's turns, the watch hub, the lanes. Each struct is destructured completely, so that
//! no count of core can be forgotten here.

use std::sync::Arc;
use std::time::Duration;

use prometheus::local::LocalHistogram;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::member::{DropReason, Dropped};
use quoin_core::node::{CompactionEnd, LateHeartbeat, LeaderChange, LeaseCounts, Tally};
use quoin_core::store::{Counts, Op, VersionChange};
use quoin_core::version::{SERVER_VERSION, Version};
use quoin_core::watch::WatchCounts;

use super::{LaneName, Metrics, whole};
use crate::clock::Clock;
use crate::hub::Watched;
use crate::lanes::Observation;

/// Adds the counts of the node's turns to the metrics, and logs those that concern an operator.
pub(crate) struct Turns {
    metrics: Arc<Metrics>,
    clock: Clock,
    cluster: ClusterId,
    member: MemberId,
    /// A request that takes longer to apply is slow (`--warning-apply-duration`).
    slow_apply: Duration,
    /// Durations of applied requests by kind and success; `None` before the first of its kind.
    apply_seconds: [[Option<LocalHistogram>; 2]; Op::ALL.len()],
}

impl Turns {
    /// For this member of this cluster.
    pub(crate) fn new(
        (cluster, member): (ClusterId, MemberId),
        metrics: Arc<Metrics>,
        clock: Clock,
        slow_apply: Duration,
    ) -> Self {
        Self {
            metrics,
            clock,
            cluster,
            member,
            slow_apply,
            apply_seconds: Default::default(),
        }
    }

    /// Adds the counts and the duration of a turn. The duration is shared evenly by the applied requests.
    pub(crate) fn add(&mut self, tally: &Tally, took: Duration) {
        self.metrics.own.turn_seconds.observe(took.as_secs_f64());
        if tally.is_empty() {
            return;
        }
        let Tally {
            applied,
            leases,
            compaction_steps,
            compacted,
            downgrade,
            dropped,
            late_heartbeats,
            leader,
            promotions,
            promotion_failures,
            version,
        } = tally;
        let server = &self.metrics.server;
        server.promotions.inc_by(*promotions);
        for reason in promotion_failures {
            server.promotion_failures.with_label_values(&[reason]).inc();
        }
        self.applied(applied, took);
        self.leases(leases);
        for _ in 0..*compaction_steps {
            self.metrics.mvcc.compaction_pause_milliseconds.observe(millis(took));
        }
        compacted.iter().for_each(|end| self.compacted(*end, took));
        downgrade.iter().for_each(|target| downgrade_begun(target));
        dropped.iter().for_each(messages_dropped);
        late_heartbeats.iter().for_each(|late| self.heartbeat_late(*late));
        leader.iter().for_each(|change| self.leader_changed(*change));
        version.iter().for_each(|change| self.version_set(*change));
    }

    fn applied(&mut self, counts: &Counts, took: Duration) {
        self.metrics.count_keys(&counts.keys);
        self.metrics.mvcc.compacted_revisions.inc_by(counts.compacted_revisions);
        let requests: u32 = counts.requests().map(|(_, _, count)| count).sum();
        let share = took / requests.max(1);
        for (op, success, count) in counts.requests() {
            let vec = &self.metrics.server.apply_seconds;
            let seconds = self.apply_seconds[op as usize][usize::from(success)].get_or_insert_with(|| {
                let labels = ["v3", op.name(), if success { "true" } else { "false" }];
                vec.with_label_values(&labels).local()
            });
            for _ in 0..count {
                seconds.observe(share.as_secs_f64());
            }
            seconds.flush();
            if share > self.slow_apply {
                self.metrics.server.slow_applies.inc_by(count.into());
                tracing::warn!(
                    took = ?share,
                    "expected-duration" = ?self.slow_apply,
                    prefix = "",
                    request = op.name(),
                    requests = count,
                    "apply request took too long"
                );
            }
        }
    }

    fn leases(&self, counts: &LeaseCounts) {
        if *counts == LeaseCounts::default() {
            return;
        }
        let LeaseCounts {
            granted,
            renewed,
            revoked,
            expired,
        } = counts;
        let lease = &self.metrics.lease;
        lease.granted.inc_by(granted.len() as u64);
        for ttl in granted {
            lease.ttl_seconds.observe(*ttl as f64);
        }
        lease.renewed.inc_by(*renewed);
        lease.revoked.inc_by(*revoked);
        lease.expired.inc_by(*expired);
    }

    /// A compaction ended with a turn of this duration.
    fn compacted(&self, end: CompactionEnd, turn: Duration) {
        let CompactionEnd { revision, took } = end;
        let took = took + turn;
        let mvcc = &self.metrics.mvcc;
        mvcc.compaction_milliseconds.observe(millis(took));
        mvcc.compaction_last_seconds.set(whole(self.clock.wall().as_secs()));
        tracing::info!(
            "compact-revision" = revision,
            took = ?took,
            "current-db-size-bytes" = mvcc.db_bytes.get(),
            "finished scheduled compaction"
        );
    }

    fn heartbeat_late(&self, late: LateHeartbeat) {
        let LateHeartbeat { to, exceeded } = late;
        self.metrics.server.heartbeat_failures.inc();
        tracing::warn!(
            to = %to,
            "exceeded-duration" = ?exceeded,
            "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
        );
    }
}

impl Turns {
    fn leader_changed(&self, change: LeaderChange) {
        let (LeaderChange { from, to, term }, member) = (change, self.member);
        if to == member {
            tracing::info!(logger = "raft", "{member} became leader at term {term}");
        }
        if to == MemberId::NONE {
            tracing::info!(logger = "raft", "raft.node: {member} lost leader {from} at term {term}");
        } else if from == MemberId::NONE {
            tracing::info!(
                logger = "raft",
                "raft.node: {member} elected leader {to} at term {term}"
            );
        } else {
            tracing::info!(
                logger = "raft",
                "raft.node: {member} changed leader from {from} to {to} at term {term}"
            );
        }
    }

    fn version_set(&self, change: VersionChange) {
        let short = |version: Version| format!("{}.{}", version.major, version.minor);
        let to = short(change.to);
        match change.from.map(short) {
            None => tracing::info!(
                "cluster-id" = %self.cluster,
                "local-member-id" = %self.member,
                "cluster-version" = to,
                "set initial cluster version"
            ),
            Some(from) => tracing::info!(
                "cluster-id" = %self.cluster,
                "local-member-id" = %self.member,
                from,
                to,
                "updated cluster version"
            ),
        }
        tracing::info!("cluster-version" = to, "enabled capabilities for version");
    }
}

/// Tools wait for this line of etcd.
fn downgrade_begun(target: &str) {
    tracing::info!(
        "target-version" = target,
        "server-version" = SERVER_VERSION,
        "The server is ready to downgrade"
    );
}

/// Logs one line for each peer and reason in a turn, however many messages were dropped.
fn messages_dropped(dropped: &Dropped) {
    let Dropped {
        from,
        reason,
        count,
        cause,
    } = dropped;
    let from = tracing::field::display(from);
    match reason {
        // The sender sends it again, and this member cannot catch up.
        DropReason::Snapshot => {
            tracing::error!(
                "remote-peer-id" = from,
                count,
                error = cause,
                "dropped {reason} from a peer"
            );
        }
        DropReason::NoRoom | DropReason::Proposal | DropReason::TermTooFar => {
            tracing::warn!(
                "remote-peer-id" = from,
                count,
                error = cause,
                "dropped {reason} from a peer"
            );
        }
    }
}

/// Adds the counts of the watch hub.
pub(crate) fn count_watchers(metrics: &Arc<Metrics>) -> impl FnMut(Watched) + Send + use<> {
    let metrics = Arc::clone(metrics);
    let number = |count: usize| whole(count as u64);
    let (mut events_seen, mut ranges_seen) = (0, 0);
    move |watched| {
        let Watched { counts, lag, skipped } = watched;
        let own = &metrics.own;
        own.watch_lag.set(lag);
        own.watch_skipped
            .inc_by(skipped.saturating_sub(own.watch_skipped.get()));
        let WatchCounts {
            streams,
            watchers,
            slow_watchers,
            pending_events,
            events_total,
            ranges_total,
        } = counts;
        let mvcc = &metrics.mvcc;
        mvcc.watch_streams.set(number(streams));
        mvcc.watchers.set(number(watchers));
        mvcc.slow_watchers.set(number(slow_watchers));
        mvcc.pending_events.set(number(pending_events));
        mvcc.events.inc_by(events_total - events_seen);
        mvcc.ranges.inc_by(ranges_total - ranges_seen);
        (events_seen, ranges_seen) = (events_total, ranges_total);
    }
}

/// Adds the measurements of the lanes.
pub(crate) fn observe_lanes(metrics: &Arc<Metrics>) -> crate::lanes::Observe {
    let metrics = Arc::clone(metrics);
    Arc::new(move |observation| {
        let disk = &metrics.disk;
        match observation {
            Observation::SnapSave {
                encoding,
                writing,
                took,
            } => {
                disk.snap_marshalling_seconds.observe(encoding.as_secs_f64());
                disk.snap_fsync_seconds.observe(writing.as_secs_f64());
                disk.snap_save_seconds.observe(took.as_secs_f64());
            }
            Observation::SnapReceived { syncing, took } => {
                disk.snap_db_fsync_seconds.observe(syncing.as_secs_f64());
                disk.snap_db_save_seconds.observe(took.as_secs_f64());
            }
            Observation::TableWrite { bytes, took } => {
                disk.backend_commit_seconds.observe(took.as_secs_f64());
                metrics.mvcc.db_bytes.set(whole(bytes));
            }
            Observation::WalSync { took } => disk.wal_fsync_seconds.observe(took.as_secs_f64()),
            Observation::WalWrite { bytes, took } => {
                disk.wal_write_bytes.add(whole(bytes as u64));
                disk.wal_write_seconds.observe(took.as_secs_f64());
            }
        }
    })
}

/// Adds the runs of a lane.
pub(crate) fn count_lane(metrics: &Arc<Metrics>, lane: LaneName) -> Box<dyn Fn(usize, Duration) + Send> {
    let metrics = Arc::clone(metrics);
    Box::new(move |jobs, took| metrics.own.lane_ran(lane, jobs, took))
}

/// Adds the stages of requests.
pub(crate) fn observe_stages(metrics: &Arc<Metrics>) -> crate::drive::ObserveStage {
    let metrics = Arc::clone(metrics);
    Box::new(move |stage, took| metrics.own.stage_took(stage, took))
}

/// Whole milliseconds, as etcd observes them.
fn millis(took: Duration) -> f64 {
    took.as_millis() as f64
}
