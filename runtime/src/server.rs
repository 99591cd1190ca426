//! A whole server: opened in order, closed in the reverse order.
//!
//! Listeners are bound before the member starts, so that clients can connect and wait; their requests are answered only
//! once the member has published itself. Metrics and health are answered as soon as the member's threads run.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use quoin_core::api::Limits;
use quoin_core::config::{AuthToken, Config, Gate, Stage, Url};
use quoin_core::id::MemberId;
use quoin_core::limits::{FAILED_STOP_PATIENCE, STOP_PATIENCE};
use quoin_core::version::{PRODUCT_VERSION, SERVER_VERSION};

use crate::assemble;
use crate::builder::Builder;
use crate::clock::Clock;
use crate::description::Description;
use crate::descriptors;
use crate::handle::NodeHandle;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::publication::{Publication, serve_when_published};
use crate::running::{Ended, Ending, Running};
use crate::seam::{Address, BoxFuture, Runtime};
use crate::serve::bind::{Bound, SocketFile, bind};
use crate::serve::compute::Compute;
use crate::serve::jwt::Jwt;
use crate::serve::listen::{Rooms, serve};
use crate::serve::metrics_page::MetricsPage;
use crate::serve::passwords::Passwords;
use crate::serve::recipes::RecipeWatches;
use crate::serve::stop::{Stop, Stoppers};
use crate::serve::turns::Turns;
use crate::serve::{Context, Endpoint, Settings};
use crate::threads::{self, guard};
use crate::tls::{self, Dialer, SecurePorts};

pub use crate::start_error::StartError;

/// The entry point: starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. [`Handle::stop`] ends it in order. Dropping the handle ends it, too: connections are cut, and the
/// calling thread waits until the files are closed, so that the data directory is free for another start.
pub struct Handle {
    addresses: Vec<(Role, Address)>,
    endpoint: String,
    context: Arc<Context>,
    description: Description,
    request_timeout: Duration,
    /// Taken when the end begins.
    running: Option<Running>,
    /// The files of Unix sockets, removed when accepting ends.
    sockets: Vec<SocketFile>,
    stoppers: Arc<Stoppers>,
    /// Closed when every connection has ended.
    drained: Receiver<Infallible>,
    ready: Receiver<Infallible>,
}

/// The purpose of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Clients.
    Client,
    /// Metrics and health only.
    Metrics,
    /// Other members.
    Peer,
}

/// What a server needs beside its member: ports, certificates, and threads for what takes long.
struct Equipment {
    bound: Vec<Bound>,
    compute: Compute,
    dialer: Dialer,
    handshakes: Compute,
    jwt: Option<Jwt>,
    passwords: Passwords,
    rooms: Rooms,
    secure_ports: SecurePorts,
}

impl Equipment {
    /// What the services work with. `alive` is kept until the last connection has ended.
    fn into_context(
        self,
        config: &Config,
        runtime: &Arc<dyn Runtime>,
        metrics: Arc<Metrics>,
        running: &Running,
        [stop, abort, end]: [Stop; 3],
        alive: Sender<Infallible>,
    ) -> Context {
        Context {
            alive: Mutex::new(Some(alive)),
            clock: runtime.clock(),
            compute: self.compute,
            dialer: self.dialer,
            ending: running.ending().clone(),
            handshakes: self.handshakes,
            heavy_writes: Turns::new(),
            jwt: self.jwt,
            metrics,
            metrics_page: MetricsPage::default(),
            node: running.handle().clone(),
            passwords: self.passwords,
            peers: running.peers().cloned(),
            recipe_watches: RecipeWatches::default(),
            rooms: self.rooms,
            runtime: Arc::clone(runtime),
            secure_ports: self.secure_ports,
            settings: Settings::new(config),
            stop,
            abort,
            end,
        }
    }
}

impl Server {
    /// A server to be embedded: a cluster of one member with its data in this directory.
    pub fn builder(data_dir: impl Into<String>) -> Builder {
        Builder::new(data_dir.into())
    }

    /// Starts a member with this configuration, on a separate thread because it waits for the disk, and serves it on
    /// the runtime's workers. The handle is returned when the member runs; [`Handle::ready`] resolves when it serves.
    /// If the caller drops the future, the member ends.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn start(config: Config, runtime: Arc<dyn Runtime>) -> Result<Handle, StartError> {
        let start = move || {
            let progress = Progress::default();
            progress.report_on(&runtime);
            let workers = Arc::clone(&runtime);
            Self::start_with(config, runtime, |config, _, metrics| {
                assemble::start(config, &workers, metrics, &progress).map_err(StartError::Boot)
            })
        };
        let starting = threads::apart("quoin-start", start).map_err(StartError::Thread)?;
        starting.await.map_err(StartError::Panic)?
    }

    /// The same with a member that the caller makes, on the calling thread.
    #[doc(hidden)]
    pub fn start_with(
        mut config: Config,
        runtime: Arc<dyn Runtime>,
        member: impl FnOnce(&Config, Clock, &Arc<Metrics>) -> Result<Running, StartError>,
    ) -> Result<Handle, StartError> {
        let connections = descriptors::client_connections().map_err(StartError::Listen)?;
        let rooms = Rooms::new(connections);
        tls::make_certificates(&mut config, runtime.clock().wall()).map_err(StartError::Listen)?;
        let secure_ports = SecurePorts::open(&config, connections).map_err(StartError::Listen)?;
        let dialer = Dialer::new(&runtime, &config).map_err(StartError::Listen)?;
        let bound = bind_all(&config)?;
        let clients = bound
            .iter()
            .filter(|bound| matches!(bound.endpoint, Endpoint::Client | Endpoint::Grpc));
        let ports = clients.filter_map(|bound| Some((&bound.url, bound.address.tcp()?.port())));
        config.advertise_bound(&ports.collect::<Vec<_>>());
        let metrics = Arc::new(Metrics::new(config.extensive_metrics, SERVER_VERSION, PRODUCT_VERSION));
        let jwt = match &config.auth_token {
            AuthToken::Simple => None,
            AuthToken::Jwt(options) => Some(Jwt::load(options).map_err(StartError::Token)?),
        };
        let running = member(&config, runtime.clock(), &metrics)?;
        let compute = Compute::start(running.ending()).map_err(StartError::Thread)?;
        let passwords = Passwords::start(config.bcrypt_cost, running.ending()).map_err(StartError::Thread)?;
        let handshakes = Compute::start_handshakes(running.ending()).map_err(StartError::Thread)?;
        let equipment = Equipment {
            bound,
            compute,
            dialer,
            handshakes,
            jwt,
            passwords,
            rooms,
            secure_ports,
        };
        Ok(Handle::new(&config, runtime, equipment, metrics, running))
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
    urls.map(|(endpoint, url)| bind(endpoint, url, config.socket_reuse_port).map_err(StartError::Listen))
        .collect()
}

impl Handle {
    fn new(
        config: &Config,
        runtime: Arc<dyn Runtime>,
        mut equipment: Equipment,
        metrics: Arc<Metrics>,
        running: Running,
    ) -> Self {
        let mut bound = std::mem::take(&mut equipment.bound);
        let (stoppers, [stop, abort, end]) = Stoppers::new();
        let (alive, drained) = async_channel::bounded(1);
        let (serving, ready) = async_channel::bounded(1);
        let context = Arc::new(equipment.into_context(config, &runtime, metrics, &running, [stop, abort, end], alive));
        describe(&context.metrics, config, running.handle());
        let description = Description::new(config);
        description.log_start(running.handle());
        let addresses = bound
            .iter()
            .map(|bound| (role(bound.endpoint), bound.address.clone()))
            .collect();
        let mut clients = bound.iter().filter(|bound| role(bound.endpoint) == Role::Client);
        let endpoint = clients
            .next()
            .map_or_else(String::new, |bound| bound.address.endpoint(bound.url.is_tls()));
        let sockets = bound.iter_mut().filter_map(|bound| bound.file.take()).collect();
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
            timeout: Limits::of(config).request_timeout,
        };
        let serving = serve_when_published(Arc::clone(&context), late, publication, serving);
        runtime.spawn(Box::pin(guard(context.ending.clone(), serving)));
        let stoppers = Arc::new(stoppers);
        let ended = first([running.ending().clone(), runtime.ending()]);
        runtime.spawn(Box::pin(abort_when_failed(ended, Arc::clone(&stoppers))));
        Self {
            addresses,
            endpoint,
            context,
            description,
            request_timeout: Limits::of(config).request_timeout,
            running: Some(running),
            sockets,
            stoppers,
            drained,
            ready,
        }
    }

    /// The URL of the first client listener, for a client on this machine: `http://127.0.0.1:40123`, say, or
    /// `unix:///run/quoin.sock`. Empty if there is none.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// The member.
    #[doc(hidden)]
    pub fn node(&self) -> &NodeHandle {
        &self.context.node
    }

    /// How many computations were too long for a worker and were given to the compute thread.
    #[doc(hidden)]
    pub fn computations(&self) -> u64 {
        self.context.compute.begun()
    }

    /// The metrics.
    #[doc(hidden)]
    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// The addresses of its listeners, with the bound port in place of a configured port 0.
    pub fn addresses(&self, role: Role) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .filter(move |(found, _)| *found == role)
            .map(|(_, address)| address)
    }

    /// Resolves when client requests are answered; never if the member ends before.
    pub fn ready(&self) -> BoxFuture<()> {
        let ready = self.ready.clone();
        Box::pin(async move {
            // No message is ever sent: the channel is closed instead.
            let _ = ready.recv().await;
        })
    }

    /// Whether client requests are answered.
    pub fn is_ready(&self) -> bool {
        self.ready.is_closed()
    }

    /// Resolves with the reason when the member has ended by itself or cannot go on.
    pub fn ended(&self) -> BoxFuture<Ended> {
        first(self.endings())
    }

    fn endings(&self) -> [Ending; 2] {
        [self.context.ending.clone(), self.context.runtime.ending()]
    }

    /// Whether the member cannot go on.
    fn has_failed(&self) -> bool {
        let endings = self.endings();
        let mut reasons = endings.iter().filter_map(Ending::why);
        reasons.any(|why| matches!(why, Ended::Failed(_)))
    }

    /// Stops: accepts no connection any more, lets calls that wait for the cluster finish, hands over leadership,
    /// closes the store. A member that has failed ends within a second: it waits for no call, and leaves hanging
    /// threads behind.
    pub async fn stop(mut self) {
        self.description.log_end("closing etcd server");
        self.accept_no_more();
        let is_drained = self.drain().await;
        self.stoppers.abort();
        if !is_drained && !self.has_failed() {
            tracing::warn!("some connections were still open after the request timeout");
        }
        let Some(end) = self.end() else { return };
        match threads::apart("quoin-end", end) {
            // A panic in it was logged, and nothing remains to be ended.
            Ok(ending) => drop(ending.await),
            Err(error) => tracing::error!(%error, "cannot start the thread that ends the member"),
        }
        self.stoppers.end();
    }

    fn accept_no_more(&mut self) {
        self.stoppers.stop();
        self.sockets.clear();
        // From now on only connections have a clone of it.
        self.context.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends the member and waits for that; `None` from the second call on.
    fn end(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let running = self.running.take()?;
        let patience = if self.has_failed() {
            FAILED_STOP_PATIENCE
        } else {
            STOP_PATIENCE
        };
        let (description, ending) = (self.description.clone(), self.context.ending.clone());
        Some(move || {
            if running.stop(patience) {
                description.log_end("closed etcd server");
            }
            ending.announce(Ended::Stopped);
        })
    }

    /// Waits until all connections have ended (true), or until the member fails or the request timeout passes (false).
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

/// Cuts every connection, also of peers, when the member fails: no call in progress can be answered.
async fn abort_when_failed(ended: BoxFuture<Ended>, stoppers: Arc<Stoppers>) {
    if let Ended::Failed(_) = ended.await {
        stoppers.end();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.accept_no_more();
        self.stoppers.abort();
        if let Some(end) = self.end() {
            end();
        }
        self.stoppers.end();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
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
