//! Opens the listeners for clients once the member has published itself, and says meanwhile why it has not.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_channel::Sender;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::limits::START_REPORT_INTERVAL;

use crate::running::Ended;
use crate::serve::bind::Bound;
use crate::serve::corruption;
use crate::serve::listen::serve;
use crate::serve::{Context, Endpoint};

/// The attributes that the member has published.
pub(crate) struct Publication {
    pub(crate) attributes: String,
    pub(crate) timeout: Duration,
}

/// Opens the client listeners once the member has published itself.
pub(crate) async fn serve_when_published(
    context: Arc<Context>,
    listeners: Vec<Bound>,
    publication: Publication,
    serving: Sender<Infallible>,
) {
    if let Err(why) = corruption::check_before_serving(&context).await {
        context.ending.announce(Ended::Failed(why));
        return;
    }
    if !is_published_before_stop(&context).await {
        return;
    }
    corruption::start(&context);
    tracing::info!(
        "local-member-id" = %MemberId(context.node.member_id()),
        "local-member-attributes" = publication.attributes,
        "cluster-id" = %ClusterId(context.node.cluster_id()),
        "publish-timeout" = ?publication.timeout,
        "published local member to cluster through raft"
    );
    tracing::info!("ready to serve client requests");
    for bound in listeners {
        log_serving(&bound);
        serve(&context, bound);
    }
    drop(serving);
    tracing::info!("notifying init daemon");
    match sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::warn!(%error, "failed to notify systemd for readiness"),
    }
}

/// Logs that a listener is opened, and whether it is secure.
fn log_serving(bound: &Bound) {
    let traffic = match bound.endpoint {
        Endpoint::Grpc => "grpc",
        Endpoint::Http => "http",
        Endpoint::Client | Endpoint::Metrics | Endpoint::Peer => "grpc+http",
    };
    if bound.url.is_tls() {
        tracing::info!(traffic, address = %bound.address, "serving client traffic securely");
    } else {
        tracing::info!(
            traffic,
            address = %bound.address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
}

/// Waits until the member has published itself, and logs from time to time why it has not; false if serving ends first.
async fn is_published_before_stop(context: &Context) -> bool {
    let begun = context.clock.now();
    let mut serving = context.node.serving();
    let mut stop = context.stop.clone();
    loop {
        let mut report = context.runtime.sleep_until(context.clock.now() + START_REPORT_INTERVAL);
        let outcome = poll_fn(|cx| {
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(true));
            }
            if stop.poll_stopped(cx).is_ready() {
                return Poll::Ready(Some(false));
            }
            report.as_mut().poll(cx).map(|()| None)
        });
        if let Some(is_published) = outcome.await {
            return is_published;
        }
        log_not_ready(context, context.clock.now().saturating_since(begun));
    }
}

/// Logs why clients are not served yet.
fn log_not_ready(context: &Context, waited: Duration) {
    let published = context.node.published();
    let (applied, committed) = (published.view.applied_index, published.status.commit_index);
    let why = if published.status.leader == MemberId::NONE {
        "no leader is known"
    } else if applied < committed {
        "committed entries are still being applied"
    } else {
        "the member's name and client URLs are not committed yet"
    };
    tracing::warn!(why, applied, committed, ?waited, "not ready yet");
}
