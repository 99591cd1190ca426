//! A whole server: opened in order, closed in the reverse of it.
//!
//! Listeners are bound before the member starts, so that clients can connect and wait; their requests are answered only
//! once the member has published itself. Metrics and health answer as soon as there is a member to ask.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use quoin_core::config::{Config, Gate, Stage, Url};
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::version::{PRODUCT_VERSION, SERVER_VERSION};

use crate::assemble::{self, AssembleError};
use crate::clock::Clock;
use crate::handle::NodeHandle;
use crate::metrics::Metrics;
use crate::running::{Ended, Running};
use crate::seam::{BoxFuture, Runtime, block_on};
use crate::serve::compute::Compute;
use crate::serve::listen::{Bound, bind, serve};
use crate::serve::stop::{Stopper, stop_signal};
use crate::serve::{Context, Endpoint, Settings, request_timeout};

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
    stopper: Stopper,
    aborter: Stopper,
    /// Closed when every connection is gone.
    drained: Receiver<Infallible>,
    ready: Receiver<Infallible>,
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

/// What of the configuration the first and last lines of the log tell.
struct Description {
    name: String,
    data_dir: String,
    advertise_peer_urls: Vec<String>,
    advertise_client_urls: Vec<String>,
}

impl Server {
    /// Starts a member as configured and serves it on the runtime's workers. It waits for the disk, so it must not be
    /// called on a worker. The handle comes back when the member runs; [`Handle::ready`] tells when it serves.
    pub fn start(config: &Config, runtime: Arc<dyn Runtime>) -> Result<Handle, StartError> {
        Self::start_with(config, runtime, |clock, metrics| {
            assemble::start(config, clock, metrics).map_err(StartError::Boot)
        })
    }

    /// The same with a member of the caller's making.
    pub fn start_with(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        member: impl FnOnce(Clock, &Arc<Metrics>) -> Result<Running, StartError>,
    ) -> Result<Handle, StartError> {
        let bound = bind_all(config)?;
        let metrics = Arc::new(Metrics::new(config.extensive_metrics, SERVER_VERSION, PRODUCT_VERSION));
        let compute = Compute::start().map_err(StartError::Thread)?;
        let running = member(runtime.clock(), &metrics)?;
        Ok(Handle::new(config, runtime, bound, metrics, running, compute))
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
        bound: Vec<Bound>,
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
            metrics,
            node: running.handle().clone(),
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
        early.into_iter().for_each(|bound| serve(&context, bound));
        runtime.spawn(Box::pin(serve_when_published(Arc::clone(&context), late, serving)));
        Self {
            addresses,
            context,
            description,
            request_timeout: request_timeout(config),
            running,
            stopper,
            aborter,
            drained,
            ready,
        }
    }

    /// The member.
    pub fn node(&self) -> &NodeHandle {
        self.running.handle()
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

    /// Resolves when the member has ended by itself, with the reason.
    pub fn ended(&self) -> BoxFuture<Ended> {
        self.running.ended()
    }

    /// Stops: accepts no more, lets calls that wait for the cluster finish, hands over leadership, closes the store. It
    /// waits for all of that, so it must not be called on a worker.
    pub fn stop(self) {
        let Self {
            context,
            description,
            request_timeout,
            running,
            stopper,
            aborter,
            drained,
            ..
        } = self;
        description.log_end("closing etcd server");
        drop(stopper);
        // From now on only connections hold it.
        context.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sleep = context.runtime.sleep_until(context.clock.now() + request_timeout);
        let clean = block_on(async {
            let mut drained = pin!(drained.recv());
            std::future::poll_fn(|cx| {
                if drained.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                sleep.as_mut().poll(cx).map(|()| false)
            })
            .await
        });
        drop(aborter);
        if !clean {
            tracing::warn!("some connections were still open after the request timeout");
        }
        running.stop();
        description.log_end("closed etcd server");
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
async fn serve_when_published(context: Arc<Context>, listeners: Vec<Bound>, serving: Sender<Infallible>) {
    while !context.node.published().status.published {
        if context.stop.is_stopped() {
            return;
        }
        context.runtime.sleep_until(context.clock.now() + PUBLISH_POLL).await;
    }
    tracing::info!(
        "local-member-id" = %MemberId(context.node.member_id()),
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

impl Description {
    fn new(config: &Config) -> Self {
        let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
        Self {
            name: config.name.clone(),
            data_dir: config.data_dir.clone(),
            advertise_peer_urls: texts(&config.advertise_peer_urls),
            advertise_client_urls: texts(&config.advertise_client_urls),
        }
    }

    fn log_start(&self, node: &NodeHandle) {
        tracing::info!(
            "local-member-id" = %MemberId(node.member_id()),
            "local-server-version" = SERVER_VERSION,
            "cluster-id" = %ClusterId(node.cluster_id()),
            name = self.name,
            "data-dir" = self.data_dir,
            "advertise-peer-urls" = ?self.advertise_peer_urls,
            "advertise-client-urls" = ?self.advertise_client_urls,
            "starting etcd server"
        );
    }

    fn log_end(&self, message: &str) {
        tracing::info!(
            name = self.name,
            "data-dir" = self.data_dir,
            "advertise-peer-urls" = ?self.advertise_peer_urls,
            "advertise-client-urls" = ?self.advertise_client_urls,
            "{message}"
        );
    }
}
