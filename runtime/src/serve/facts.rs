//! Facts about the member at this moment, for the services and the metrics.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use prometheus::IntCounter;
use quoin_core::api::{Server, Step, in_use_bytes};
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::{NODE_REPLY_GRACE, READ_INLINE_ROWS};
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{AlarmMember, AlarmType};

use super::Context;
use super::calls::ask;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::pulse::Stuck;

/// Whether this member has a leader.
pub(crate) fn has_leader(context: &Context) -> bool {
    context.node.published().status.leader != MemberId::NONE
}

/// Whether this member is a learner.
pub(crate) fn is_learner(context: &Context) -> bool {
    context.node.published().status.is_learner
}

/// The raised alarms.
pub(crate) fn alarms(context: &Context) -> Vec<AlarmMember> {
    context.node.published().view.alarms.list(AlarmType::None).collect()
}

/// Whether an alarm is of this kind.
pub(crate) fn is_alarm(alarm: &AlarmMember, kind: AlarmType) -> bool {
    alarm.alarm == kind as i32
}

/// The cluster's version, once decided.
pub(crate) fn cluster_version(context: &Context) -> Option<String> {
    context
        .node
        .published()
        .view
        .cluster
        .version()
        .map(|version| version.to_string())
}

/// A thread of the member that has been at one piece of work for at least `limit`.
pub(crate) fn stuck(context: &Context, limit: Duration) -> Option<Stuck> {
    context.node.stuck(context.clock.now(), limit)
}

/// Makes the read of a health check. It times out even if the node is stuck and does not enforce the deadline.
pub(crate) async fn probe_read(context: &Context, serializable: bool) -> Result<(), Error> {
    let began = context.clock.now();
    let step = match Server::probe(serializable) {
        Step::Ask { request, then, .. } => {
            let result = ask_within(context, request).await;
            context.server(|server| server.finish(then, result))?
        }
        step => step,
    };
    let Step::Fetch(read) = step else {
        unreachable!("a health check reads")
    };
    let result = context.server(|server| {
        let mut fetch = read.plan(server);
        while !fetch.step(READ_INLINE_ROWS) {}
        context.metrics.count_keys(fetch.counts());
        fetch.answer(server)
    });
    let took = context.clock.now().saturating_since(began);
    note_if_slow(context, took, "read-only range ", format_args!("a health check"));
    result.map(drop)
}

/// Sends the node a request, and waits slightly longer than its deadline.
async fn ask_within(context: &Context, request: Request) -> Result<Response, Error> {
    let deadline = context.request_deadline() + NODE_REPLY_GRACE;
    let mut timeout = context.runtime.sleep_until(deadline);
    let mut asked = pin!(ask(context, request));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        timeout.as_mut().poll(cx).map(|()| Err(Error::Timeout))
    })
    .await
}

/// Counts and logs a read that took longer than `--warning-apply-duration`.
pub(crate) fn note_if_slow(context: &Context, took: Duration, prefix: &str, request: fmt::Arguments<'_>) {
    let expected = context.settings.warning_apply_duration;
    if took > expected {
        context.metrics.server.slow_applies.inc();
        tracing::warn!(
            ?took,
            "expected-duration" = ?expected,
            prefix,
            request = %request,
            "apply request took too long"
        );
    }
}

/// Raises a counter to a total that is counted elsewhere.
fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Every metric, with the facts of this moment.
pub(crate) fn metrics_text(context: &Context) -> String {
    context.metrics.render(|metrics| refresh(context, metrics))
}

fn refresh(context: &Context, metrics: &Metrics) {
    let published = context.node.published();
    let (view, status) = (&published.view, &published.status);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let server = &metrics.server;
    server.has_leader.set(i64::from(status.leader != MemberId::NONE));
    server.is_leader.set(i64::from(status.leads));
    server.is_learner.set(i64::from(status.is_learner));
    server.proposals_pending.set(number(status.proposals_pending));
    catch_up(&server.proposals_failed, status.proposals_failed);
    catch_up(&server.read_indexes_failed, status.reads_failed);
    catch_up(&server.slow_read_indexes, status.reads_slow);
    server.auth_revision.set(number(view.auth.revision()));
    server.snapshot_applies.set(i64::from(status.is_installing));
    catch_up(&server.leader_changes, status.leader_changes);
    server.proposals_committed.set(number(status.commit_index));
    server.proposals_applied.set(number(view.applied_index));
    server
        .quota_bytes
        .set(context.settings.limits.quota_bytes.map_or(0, number));
    server.alarms.reset();
    for alarm in view.alarms.list(AlarmType::None) {
        let member = MemberId(alarm.member_id).to_string();
        server
            .alarms
            .with_label_values(&[&member, alarm.alarm().as_str_name()])
            .set(1.0);
    }
    server.cluster_version.reset();
    if let Some(version) = view.cluster.version() {
        let label = format!("{}.{}", version.major, version.minor);
        server.cluster_version.with_label_values(&[&label]).set(1.0);
    }
    let local = MemberId(context.node.member_id());
    metrics.network.set_known(local, &view.cluster);
    refresh_own(context, metrics);
    let mvcc = &metrics.mvcc;
    mvcc.current_revision.set(view.kv.revision());
    mvcc.compact_revision.set(view.kv.compact_revision());
    let in_use = in_use_bytes(view);
    mvcc.db_in_use_bytes.set(in_use);
    // The newest rows are not in the table yet.
    mvcc.db_bytes.set(mvcc.db_bytes.get().max(in_use));
    mvcc.keys.set(i64::try_from(view.kv.key_count()).unwrap_or(i64::MAX));
}

/// Sets the facts that only Quoin's metrics have.
fn refresh_own(context: &Context, metrics: &Metrics) {
    let published = context.node.published();
    let status = &published.status;
    let own = &metrics.own;
    own.term.set(i64::try_from(status.term).unwrap_or(i64::MAX));
    let lag = published.view.applied_index.saturating_sub(status.durable_index);
    own.table_lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    let peers = context.peers.iter().map(Peers::state);
    let helpers = [context.compute.state(), context.passwords.state()];
    for queue in context.node.queues().into_iter().chain(peers).chain(helpers) {
        own.set_queue(queue);
    }
    for (port, room) in context.rooms.all() {
        let (open, most) = room.state();
        own.set_connections(port, open, most);
    }
}
