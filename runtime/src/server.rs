//! A whole server: opened in order, closed in the reverse of it.
//!
//! Listeners are bound before the member starts, so that clients can connect and wait; their requests are answered only
//! once the member has published itself. Metrics and health answer as soon as there is a member to ask.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use quoin_core::config::{Config, Gate, Stage, Url};
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::limits::{FAILED_STOP_PATIENCE, START_REPORT_INTERVAL, STOP_PATIENCE};
use quoin_core::version::{PRODUCT_VERSION, SERVER_VERSION};

use crate::assemble::{self, AssembleError};
use crate::clock::Clock;
use crate::description::Description;
use crate::descriptors;
use crate::handle::NodeHandle;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::running::{Ended, Ending, Running};
use crate::seam::{BoxFuture, Runtime, block_on};
use crate::serve::compute::Compute;
use crate::serve::listen::{Bound, Rooms, bind, serve};
use crate::serve::metrics_page::MetricsPage;
use crate::serve::services::Turns;
use crate::serve::stop::{Stopper, stop_signal};
use crate::serve::{Context, Endpoint, Settings, request_timeout};
use crate::threads::guard;

/// How often to look whether the member has published itself.
const PUBLISH_POLL: Duration = Duration::from_millis(5);

/// The server.
#[derive(Debug)]
pub struct Server;

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener could not be opened.
    Listen(String),
    /// The member could not.
    Boot(AssembleError),
    /// A thread could not be started.
    Thread(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(why) => f.write_str(why),
            Self::Boot(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server. Dropping it without [`Handle::stop`] ends serving at once, and the member with the process.
pub struct Handle {
    addresses: Vec<(Role, SocketAddr)>,
    context: Arc<Context>,
    description: Description,
    request_timeout: Duration,
    running: Running,
    stoppers: Arc<Stoppers>,
    /// Closed when every connection is gone.
    drained: Receiver<Infallible>,
    ready: Receiver<Infallible>,
}

/// The two signals that end serving, given by whoever takes them out.
struct Stoppers {
    /// No more is accepted; what is under way may finish.
    stop: Mutex<Option<Stopper>>,
    /// Nothing is waited for.
    abort: Mutex<Option<Stopper>>,
}

impl Stoppers {
    fn stop(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn abort(&self) {
        self.stop();
        self.abort.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What an address is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Clients.
    Client,
    /// Metrics and health only.
    Metrics,
    /// Other members.
    Peer,
}

/// What the member has published of itself.
struct Publication {
    attributes: String,
    timeout: Duration,
}

impl Server {
    /// Starts a member as configured and serves it on the runtime's workers. It waits for the disk, so it must not be
    /// called on a worker. The handle comes back when the member runs; [`Handle::ready`] tells when it serves.
    pub fn start(config: &Config, runtime: Arc<dyn Runtime>) -> Result<Handle, StartError> {
        let progress = Progress::default();
        progress.report_on(&runtime);
        Self::start_with(config, runtime, |clock, metrics| {
            assemble::start(config, clock, metrics, &progress).map_err(StartError::Boot)
        })
    }

    /// The same with a member of the caller's making.
    pub fn start_with(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        member: impl FnOnce(Clock, &Arc<Metrics>) -> Result<Running, StartError>,
    ) -> Result<Handle, StartError> {
        let rooms = Rooms::new(descriptors::client_connections().map_err(StartError::Listen)?);
        let bound = bind_all(config)?;
        let metrics = Arc::new(Metrics::new(config.extensive_metrics, SERVER_VERSION, PRODUCT_VERSION));
        let running = member(runtime.clock(), &metrics)?;
        let compute = Compute::start(running.ending()).map_err(StartError::Thread)?;
        Ok(Handle::new(config, runtime, (bound, rooms), metrics, running, compute))
    }
}

fn bind_all(config: &Config) -> Result<Vec<Bound>, StartError> {
    let has_http = !config.listen_client_http_urls.is_empty();
    let client = if has_http { Endpoint::Grpc } else { Endpoint::Client };
    let lists: [(Endpoint, &[Url]); 4] = [
        (Endpoint::Peer, &config.listen_peer_urls),
        (client, &config.listen_client_urls),
        (Endpoint::Http, &config.listen_client_http_urls),
        (Endpoint::Metrics, &config.listen_metrics_urls),
    ];
    let urls = lists
        .iter()
        .flat_map(|(endpoint, urls)| urls.iter().map(|url| (*endpoint, url)));
    urls.map(|(endpoint, url)| bind(endpoint, url).map_err(StartError::Listen))
        .collect()
}

impl Handle {
    fn new(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        (bound, rooms): (Vec<Bound>, Rooms),
        metrics: Arc<Metrics>,
        running: Running,
        compute: Compute,
    ) -> Self {
        let (stopper, stop) = stop_signal();
        let (aborter, abort) = stop_signal();
        let (alive, drained) = async_channel::bounded(1);
        let (serving, ready) = async_channel::bounded(1);
        let context = Arc::new(Context {
            alive: Mutex::new(Some(alive)),
            clock: runtime.clock(),
            compute,
            ending: running.ending().clone(),
            heavy_writes: Turns::new(),
            metrics,
            metrics_page: MetricsPage::default(),
            node: running.handle().clone(),
            rooms,
            runtime: Arc::clone(&runtime),
            settings: Settings::new(config),
            stop,
            abort,
        });
        describe(&context.metrics, config, running.handle());
        let description = Description::new(config);
        description.log_start(running.handle());
        let addresses = bound
            .iter()
            .map(|bound| (role(bound.endpoint), bound.address))
            .collect();
        let (early, late): (Vec<Bound>, Vec<Bound>) = bound
            .into_iter()
            .partition(|bound| matches!(bound.endpoint, Endpoint::Metrics | Endpoint::Peer));
        early.into_iter().for_each(|bound| {
            if bound.endpoint == Endpoint::Peer {
                tracing::info!(address = %bound.address, "serving peer traffic");
            }
            serve(&context, bound);
        });
        description.log_serving(running.handle());
        let publication = Publication {
            attributes: description.attributes(),
            timeout: request_timeout(config),
        };
        let serving = serve_when_published(Arc::clone(&context), late, publication, serving);
        runtime.spawn(Box::pin(guard(context.ending.clone(), serving)));
        let stoppers = Arc::new(Stoppers {
            stop: Mutex::new(Some(stopper)),
            abort: Mutex::new(Some(aborter)),
        });
        let ended = first([running.ending().clone(), runtime.ending()]);
        runtime.spawn(Box::pin(abort_when_failed(ended, Arc::clone(&stoppers))));
        Self {
            addresses,
            context,
            description,
            request_timeout: request_timeout(config),
            running,
            stoppers,
            drained,
            ready,
        }
    }

    /// The member.
    pub fn node(&self) -> &NodeHandle {
        self.running.handle()
    }

    /// How many computations were too long for a worker and went to the lane for such.
    pub fn computations(&self) -> u64 {
        self.context.compute.begun()
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Where it listens; a configured port 0 is a real one here.
    pub fn addresses(&self, role: Role) -> impl Iterator<Item = SocketAddr> {
        self.addresses
            .iter()
            .filter(move |(found, _)| *found == role)
            .map(|(_, address)| *address)
    }

    /// Resolves when client requests are answered. It never does if the member ends before.
    pub fn ready(&self) -> BoxFuture<()> {
        let ready = self.ready.clone();
        Box::pin(async move {
            // Nothing is ever sent: the end of the sender is the news.
            let _ = ready.recv().await;
        })
    }

    /// Whether client requests are answered.
    pub fn is_ready(&self) -> bool {
        self.ready.is_closed()
    }

    /// Resolves when the member has ended by itself or cannot go on, with the reason.
    pub fn ended(&self) -> BoxFuture<Ended> {
        first(self.endings())
    }

    fn endings(&self) -> [Ending; 2] {
        [self.running.ending().clone(), self.context.runtime.ending()]
    }

    /// Whether the member cannot go on.
    fn has_failed(&self) -> bool {
        let endings = self.endings();
        let mut reasons = endings.iter().filter_map(Ending::why);
        reasons.any(|why| matches!(why, Ended::Failed(_)))
    }

    /// Stops: accepts no more, lets calls that wait for the cluster finish, hands over leadership, closes the store. It
    /// waits for all of that, so it must not be called on a worker. A member that has failed ends within a second: no
    /// call is waited for, and threads that hang are left behind.
    pub fn stop(self) {
        self.description.log_end("closing etcd server");
        self.stoppers.stop();
        // From now on only connections hold it.
        self.context.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_drained = block_on(self.drain());
        self.stoppers.abort();
        let patience = if self.has_failed() {
            FAILED_STOP_PATIENCE
        } else {
            if !is_drained {
                tracing::warn!("some connections were still open after the request timeout");
            }
            STOP_PATIENCE
        };
        let ending = self.running.ending().clone();
        if self.running.stop(patience) {
            self.description.log_end("closed etcd server");
        }
        ending.announce(Ended::Stopped);
    }

    /// Waits until every connection is gone: true. False if the member fails meanwhile, or the request timeout passes.
    async fn drain(&self) -> bool {
        let mut drained = pin!(self.drained.recv());
        let (mut ended, mut has_ended) = (self.ended(), false);
        let timeout = self.context.clock.now() + self.request_timeout;
        let mut sleep = self.context.runtime.sleep_until(timeout);
        poll_fn(|cx| {
            if drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            has_ended |= !has_ended && ended.as_mut().poll(cx).is_ready();
            if has_ended && self.has_failed() {
                return Poll::Ready(false);
            }
            sleep.as_mut().poll(cx).map(|()| false)
        })
        .await
    }
}

/// Resolves at the first of several ends.
fn first(endings: [Ending; 2]) -> BoxFuture<Ended> {
    let mut reached = endings.map(|ending| ending.reached());
    Box::pin(poll_fn(move |cx| {
        let ended = reached.iter_mut().map(|ending| ending.as_mut().poll(cx));
        ended.fold(Poll::Pending, |first, next| if first.is_ready() { first } else { next })
    }))
}

/// Ends every connection when the member fails: nothing that is under way can be answered.
async fn abort_when_failed(ended: BoxFuture<Ended>, stoppers: Arc<Stoppers>) {
    if let Ended::Failed(_) = ended.await {
        stoppers.abort();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Opens the client listeners once the member has published itself.
async fn serve_when_published(
    context: Arc<Context>,
    listeners: Vec<Bound>,
    publication: Publication,
    serving: Sender<Infallible>,
) {
    let begun = context.clock.now();
    let mut report_at = begun + START_REPORT_INTERVAL;
    while !context.node.published().status.published {
        if context.stop.is_stopped() {
            return;
        }
        let now = context.clock.now();
        if now >= report_at {
            report_at = now + START_REPORT_INTERVAL;
            log_not_ready(&context, now.saturating_since(begun));
        }
        context.runtime.sleep_until(now + PUBLISH_POLL).await;
    }
    tracing::info!(
        "local-member-id" = %MemberId(context.node.member_id()),
        "local-member-attributes" = publication.attributes,
        "cluster-id" = %ClusterId(context.node.cluster_id()),
        "publish-timeout" = ?publication.timeout,
        "published local member to cluster through raft"
    );
    tracing::info!("ready to serve client requests");
    for bound in listeners {
        let traffic = match bound.endpoint {
            Endpoint::Grpc => "grpc",
            Endpoint::Http => "http",
            Endpoint::Client | Endpoint::Metrics | Endpoint::Peer => "grpc+http",
        };
        tracing::info!(
            traffic,
            address = %bound.address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
        serve(&context, bound);
    }
    drop(serving);
    tracing::info!("notifying init daemon");
    match sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::warn!(%error, "failed to notify systemd for readiness"),
    }
}

/// Says why clients are not served yet.
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

/// Sets the metrics that never change.
fn describe(metrics: &Metrics, config: &Config, node: &NodeHandle) {
    let id = MemberId(node.member_id()).to_string();
    metrics.server.id.with_label_values(&[&id]).set(1.0);
    for gate in Gate::ALL {
        let stage = match gate.stage() {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        };
        let is_on = f64::from(u8::from(config.feature_gates.enabled(gate)));
        metrics
            .server
            .features
            .with_label_values(&[gate.name(), stage])
            .set(is_on);
    }
}

fn role(endpoint: Endpoint) -> Role {
    match endpoint {
        Endpoint::Client | Endpoint::Grpc | Endpoint::Http => Role::Client,
        Endpoint::Metrics => Role::Metrics,
        Endpoint::Peer => Role::Peer,
    }
}
