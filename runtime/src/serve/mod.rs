//! Serving clients: gRPC and plain HTTP on one port, written once for every runtime.
//!
//! A request runs on the worker that owns its connection. Reads are answered there from the newest published view; only
//! requests that need consensus go to the node's thread. `crate::server` opens and closes listeners.

pub(crate) mod bind;
mod calls;
pub(crate) mod compute;
mod connection;
pub(crate) mod corruption;
mod debug;
pub(crate) mod facts;
mod gateway;
pub(crate) mod grpc;
pub(crate) mod http;
mod inbound;
pub(crate) mod jwt;
pub(crate) mod listen;
mod members;
pub(crate) mod metrics_page;
pub(crate) mod passwords;
mod pieces;
mod query;
pub(crate) mod recipes;
pub(crate) mod reply;
mod room;
pub(crate) mod stop;
mod streams;
mod tokens;
pub(crate) mod turns;
mod websocket;
mod wire;

use std::convert::Infallible;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::{Method, Request, Response, StatusCode, Version};
use async_channel::Sender;
use hyper::body::Incoming;
use quoin_core::api::Limits;
use quoin_core::config::{AllowList, Config, Gate};
use quoin_core::limits::{CONNECTION_STREAMS, GRPC_OVERHEAD_BYTES};
use quoin_core::time::Instant;

use crate::clock::Clock;
use crate::handle::NodeHandle;
use crate::metrics::Metrics;
use crate::peers::{self, Peers};
use crate::running::Ending;
use crate::seam::{BoxFuture, Runtime};
use crate::tls::{Dialer, SecurePorts};
use compute::Compute;
use grpc::partial::Partials;
use jwt::Jwt;
use listen::Rooms;
use metrics_page::MetricsPage;
use passwords::Passwords;
use recipes::RecipeWatches;
use reply::Reply;
use stop::Stop;
use turns::Turns;

/// The state that every request can access.
pub(crate) struct Context {
    /// Every connection holds a clone; when the last is gone, a stopping server has drained.
    pub(crate) alive: Mutex<Option<Sender<Infallible>>>,
    pub(crate) clock: Clock,
    pub(crate) compute: Compute,
    /// Makes connections to other members.
    pub(crate) dialer: Dialer,
    /// The announcement of the member's end.
    pub(crate) ending: Ending,
    /// The thread for the computations of TLS handshakes.
    pub(crate) handshakes: Compute,
    /// The turn to propose a heavy write.
    pub(crate) heavy_writes: Turns,
    /// Signed tokens, if this member has them in place of simple ones.
    pub(crate) jwt: Option<Jwt>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) metrics_page: MetricsPage,
    pub(crate) node: NodeHandle,
    pub(crate) passwords: Passwords,
    /// The way to the peer thread, if the member has one.
    pub(crate) peers: Option<Peers>,
    /// Watches of the lock and the election service.
    pub(crate) recipe_watches: RecipeWatches,
    pub(crate) rooms: Rooms,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) secure_ports: SecurePorts,
    pub(crate) settings: Settings,
    pub(crate) stop: Stop,
    /// Cuts open connections once a stopping server has waited long enough.
    pub(crate) abort: Stop,
    /// Ends the ports for peers, after the member has ended.
    pub(crate) end: Stop,
}

/// The settings of serving.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How often the leader compares the hashes of compactions (feature gate `CompactHashCheck`).
    pub(crate) compact_hash_check: Option<Duration>,
    /// Whether clients without a certificate are refused.
    pub(crate) client_cert_auth: bool,
    pub(crate) cors: AllowList,
    /// How often the leader compares hashes (`--corrupt-check-time`).
    pub(crate) corrupt_check: Option<Duration>,
    pub(crate) enable_pprof: bool,
    /// Whether the API is served as JSON, too.
    pub(crate) enable_gateway: bool,
    pub(crate) host_whitelist: AllowList,
    pub(crate) election_timeout: Duration,
    /// Whether data is compared before serving (feature gate `InitialCorruptCheck`).
    pub(crate) initial_corrupt_check: bool,
    pub(crate) keepalive_interval: Option<Duration>,
    /// A client that pings more often is dismissed (`--grpc-keepalive-min-time`).
    pub(crate) keepalive_minimum: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) max_concurrent_streams: u32,
    /// Largest message received.
    pub(crate) max_receive_bytes: usize,
    /// The settings that the rules about requests depend on.
    pub(crate) limits: Limits,
    pub(crate) warning_apply_duration: Duration,
    pub(crate) warning_unary_request_duration: Duration,
}

/// The purpose of a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    /// gRPC and HTTP.
    Client,
    /// gRPC only: HTTP has separate listeners.
    Grpc,
    /// HTTP only.
    Http,
    /// Metrics and health only.
    Metrics,
    /// Other members.
    Peer,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        let gates = &config.feature_gates;
        let election_timeout = Duration::from_millis(config.election_ms);
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            compact_hash_check: gates
                .enabled(Gate::CompactHashCheck)
                .then_some(config.compact_hash_check_time),
            client_cert_auth: config.tls.clients.client_cert_auth,
            cors: config.cors.clone(),
            corrupt_check: config.corrupt_check_time,
            enable_pprof: config.enable_pprof,
            enable_gateway: config.enable_grpc_gateway,
            host_whitelist: config.host_whitelist.clone(),
            election_timeout,
            initial_corrupt_check: gates.enabled(Gate::InitialCorruptCheck),
            keepalive_interval: config.grpc_keepalive.map(|keepalive| keepalive.interval),
            keepalive_minimum: config.grpc_keepalive_min_time,
            keepalive_timeout: config
                .grpc_keepalive
                .map_or(Duration::from_secs(20), |keepalive| keepalive.timeout),
            max_concurrent_streams: streams_allowed(config.max_concurrent_streams),
            max_receive_bytes: count(config.max_request_bytes).saturating_add(GRPC_OVERHEAD_BYTES),
            limits: Limits::of(config),
            warning_apply_duration: config.warning_apply_duration,
            warning_unary_request_duration: config.warning_unary_request_duration,
        }
    }
}

/// The number of streams that a connection may have at a time; 0 in the configuration stands for `CONNECTION_STREAMS`.
fn streams_allowed(configured: u32) -> u32 {
    if configured == 0 {
        return CONNECTION_STREAMS;
    }
    configured.min(CONNECTION_STREAMS)
}

impl Context {
    /// Keeps a stopping server from ending while the result is held; `None` once the server stops.
    pub(crate) fn hold_open(&self) -> Option<Sender<Infallible>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The deadline of a request that begins now.
    pub(crate) fn request_deadline(&self) -> Instant {
        self.clock.now() + self.settings.limits.request_timeout
    }
}

/// Answers one request of a connection. This is no `async fn`, whose future would hold the request twice for every
/// call.
fn respond(
    context: Arc<Context>,
    endpoint: Endpoint,
    partials: Partials,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Reply>, Infallible>> {
    let serves_grpc = matches!(endpoint, Endpoint::Client | Endpoint::Grpc);
    let is_http2 = request.version() == Version::HTTP_2;
    async move {
        tracing::trace!(path = request.uri().path(), "a request");
        let is_grpc = serves_grpc && is_http2;
        if is_grpc && let Some(content_type) = request.headers().get(CONTENT_TYPE).and_then(grpc::echoed) {
            return Ok(match grpc::open(context, partials, request, content_type) {
                ControlFlow::Continue((call, mut messages)) => {
                    let answered = grpc::answer(&call, &mut messages).await;
                    grpc::finish(call, answered)
                }
                ControlFlow::Break(response) => response,
            });
        }
        let path = request.uri().path();
        let is_post = request.method() == Method::POST && gateway::find(path).is_none();
        if is_grpc && (is_post || names_method(path)) {
            // etcd gives all of HTTP/2 to gRPC. Here, requests for other paths that do not have gRPC's content type are
            // served as on HTTP/1.
            return Ok(grpc::wrong_content_type(request.headers().get(CONTENT_TYPE)));
        }
        if endpoint == Endpoint::Grpc {
            let text = "this port serves gRPC only";
            return Ok(http::go_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        if endpoint == Endpoint::Peer && peers::incoming::is_raft(request.uri().path()) {
            let answer: BoxFuture<Response<Reply>> = Box::pin(peers::incoming::serve(context, request));
            return Ok(answer.await);
        }
        if endpoint == Endpoint::Peer && request.uri().path() != "/version" {
            let answer: BoxFuture<Response<Reply>> = Box::pin(members::serve(context, request));
            return Ok(answer.await);
        }
        // Boxed, so that the many futures of gRPC do not have its size.
        let answer: BoxFuture<Response<Reply>> = Box::pin(http::serve(context, endpoint, request, partials));
        Ok(answer.await)
    }
}

/// Whether a path is that of a method of the API.
fn names_method(path: &str) -> bool {
    quoin_core::api::Method::find(path).is_some()
}
