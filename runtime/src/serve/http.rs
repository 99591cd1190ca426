//! The plain HTTP endpoints: health, liveness, readiness, version, metrics; and the checks of host and origin, which the
//! JSON gateway shares.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use quoin_core::config::AllowList;
use quoin_core::error::Error;
use quoin_core::limits::{STUCK_NOT_ALIVE, STUCK_NOT_READY};
use quoin_core::proto::etcdserverpb::AlarmType;
use quoin_core::version::SERVER_VERSION;

use super::grpc::partial::Partials;
use super::metrics_page::MetricsPage;
use super::query::Query;
use super::reply::Reply;
use super::{Context, Endpoint, debug, facts, gateway};
use crate::metrics;
use crate::pulse::Stuck;
use crate::tls::Secured;

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The type of `/debug/vars`, with the character set that Go writes there.
const VARS_JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const METRICS_TEXT: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// Answers a request that is not gRPC.
pub(crate) async fn serve(
    context: Arc<Context>,
    endpoint: Endpoint,
    request: Request<Incoming>,
    partials: Partials,
) -> Response<Reply> {
    let (head, body) = request.into_parts();
    if matches!(endpoint, Endpoint::Metrics | Endpoint::Peer) {
        return route(&context, endpoint, &head).await;
    }
    let settings = &context.settings;
    let host = host_name(&head);
    // As in etcd, the name is not compared over TLS, where a certificate has it.
    let secured = head.extensions.get::<Secured>();
    if secured.is_none() && !settings.host_whitelist.allows(host) {
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return go_error(StatusCode::MISDIRECTED_REQUEST, &rebinding_text(host));
    }
    let path = head.uri.path();
    if path.starts_with("/v3/") && secured.is_some_and(|secured| gateway::is_named(&context, secured)) {
        return go_error(StatusCode::BAD_REQUEST, gateway::COMMON_NAME_IGNORED);
    }
    let route_of_gateway = gateway::find(path).filter(|_| settings.enable_gateway);
    let mut response = match route_of_gateway {
        _ if head.method == Method::OPTIONS => Response::new(Reply::Bytes(Bytes::new())),
        Some(route) => gateway::serve(&context, partials, route, &head, body).await,
        None => route(&context, endpoint, &head).await,
    };
    // As in etcd, a WebSocket is open to pages of any origin, and does not say so.
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        add_cors(&settings.cors, &head.headers, response.headers_mut());
    }
    response
}

async fn route(context: &Arc<Context>, endpoint: Endpoint, head: &Parts) -> Response<Reply> {
    let path = head.uri.path();
    let query = Query(head.uri.query().unwrap_or_default());
    let is_client = !matches!(endpoint, Endpoint::Metrics | Endpoint::Peer);
    if path == "/metrics" {
        return metrics_page(context, &head.headers).await;
    }
    if is_client && debug::is_profile(path) {
        let (status, text) = debug::profile(context.settings.enable_pprof);
        return go_error(status, text);
    }
    let is_vars = is_client && path == "/debug/vars";
    let checks = checks_of(path);
    let is_known =
        path == "/health" || (endpoint != Endpoint::Metrics && path == "/version") || checks.is_some() || is_vars;
    if !is_known {
        return go_error(StatusCode::NOT_FOUND, "404 page not found");
    }
    if head.method != Method::GET {
        let mut response = go_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match (path, checks) {
        ("/health", _) => health(context, &query).await,
        ("/debug/vars", _) => answer(StatusCode::OK, VARS_JSON, debug::vars(context)),
        (_, Some(checks)) => run_checks(context, &checks, &query).await,
        _ => version(context),
    }
}

/// `/metrics`, compressed for clients that accept gzip.
async fn metrics_page(context: &Arc<Context>, headers: &HeaderMap) -> Response<Reply> {
    context.metrics.server.scrapes.with_label_values(&["200"]).inc();
    let takes_gzip = accepts_gzip(headers);
    match MetricsPage::get(context, takes_gzip).await {
        Ok(page) => {
            let mut response = answer(StatusCode::OK, METRICS_TEXT, page);
            if takes_gzip {
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, gzip);
            }
            response
        }
        Err(error) => go_error(StatusCode::SERVICE_UNAVAILABLE, error.message()),
    }
}

/// Whether the client accepts gzip, by the rule of Prometheus' Go library.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let coding = coding.trim();
        coding == "gzip" || coding.starts_with("gzip;")
    })
}

/// `/health`: checks alarms, then whether there is a leader, then a read.
async fn health(context: &Context, query: &Query<'_>) -> Response<Reply> {
    let excluded: BTreeSet<String> = query.values("exclude").collect();
    let serializable = query.values("serializable").any(|value| value == "true");
    let reason = health_failure(context, &excluded, serializable).await;
    let healthy = reason.is_none();
    let body = serde_json::json!({ "health": healthy.to_string(), "reason": reason.unwrap_or_default() }).to_string();
    let server = &context.metrics.server;
    if healthy {
        server.health_success.inc();
        answer(StatusCode::OK, PLAIN_TEXT, body)
    } else {
        server.health_failures.inc();
        let code = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        tracing::warn!(output = body, "status-code" = code, "/health error");
        go_error(StatusCode::SERVICE_UNAVAILABLE, &body)
    }
}

async fn health_failure(
    context: &Context,
    excluded: &BTreeSet<String>,
    serializable: bool,
) -> Option<Cow<'static, str>> {
    let alarm = facts::alarms(context).into_iter().find_map(|alarm| {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name());
        (!excluded.contains(name)).then_some(match name {
            "NOSPACE" => "ALARM NOSPACE",
            "CORRUPT" => "ALARM CORRUPT",
            _ => "ALARM UNKNOWN",
        })
    });
    if let Some(alarm) = alarm {
        return Some(alarm.into());
    }
    if !serializable && !facts::has_leader(context) {
        return Some("RAFT NO LEADER".into());
    }
    let read = probe(context, serializable, STUCK_NOT_READY).await;
    read.err().map(|error| format!("RANGE ERROR:{error}").into())
}

/// Reads, unless a thread of the member has been stuck for `limit`: writes need that thread, even if the read does not.
/// The error is a timeout, as in etcd, whose reads need that thread too.
async fn probe(context: &Context, serializable: bool, limit: Duration) -> Result<(), Cow<'static, str>> {
    let text = |error: Error| Cow::Borrowed(error.message());
    if let Some(Stuck { thread, duration }) = facts::stuck(context, limit) {
        let seconds = duration.as_secs();
        return Err(format!("{}: {thread} has been stuck for {seconds} s", Error::Timeout).into());
    }
    facts::probe_read(context, serializable).await.map_err(text)
}

/// One check of `/livez` or `/readyz`.
#[derive(Clone, Copy)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, context: &Context) -> Result<(), Cow<'static, str>> {
        match self {
            Self::DataCorruption => {
                let corrupt = |alarm: &_| facts::is_alarm(alarm, AlarmType::Corrupt);
                if facts::alarms(context).iter().any(corrupt) {
                    return Err("alarm activated: CORRUPT".into());
                }
                Ok(())
            }
            Self::SerializableRead => probe(context, true, STUCK_NOT_ALIVE).await,
            Self::LinearizableRead => probe(context, false, STUCK_NOT_READY).await,
            Self::NonLearner if facts::is_learner(context) => Err("not supported for learner".into()),
            Self::NonLearner => Ok(()),
        }
    }
}

/// The checks that a path asks for.
struct Checks {
    /// `livez` or `readyz`.
    kind: &'static str,
    checks: Vec<Check>,
    /// The path has no check's name, so it runs all checks of its kind, except excluded ones.
    is_root: bool,
}

fn checks_of(path: &str) -> Option<Checks> {
    const LIVEZ: &[Check] = &[Check::SerializableRead];
    const READYZ: &[Check] = &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ];
    let mut parts = path.strip_prefix('/')?.splitn(2, '/');
    let (kind, all) = match parts.next()? {
        "livez" => ("livez", LIVEZ),
        "readyz" => ("readyz", READYZ),
        _ => return None,
    };
    let Some(name) = parts.next() else {
        return Some(Checks {
            kind,
            checks: all.to_vec(),
            is_root: true,
        });
    };
    let check = all.iter().copied().find(|check| check.name() == name)?;
    Some(Checks {
        kind,
        checks: vec![check],
        is_root: false,
    })
}

async fn run_checks(context: &Context, checks: &Checks, query: &Query<'_>) -> Response<Reply> {
    let excluded: BTreeSet<String> = if checks.is_root {
        query.values("exclude").collect()
    } else {
        BTreeSet::new()
    };
    let mut report = String::new();
    let mut healthy = true;
    for check in checks.checks.iter().filter(|check| !excluded.contains(check.name())) {
        let name = check.name();
        let result = check.run(context).await;
        let status = if result.is_ok() { "success" } else { "error" };
        let server = &context.metrics.server;
        server
            .healthcheck
            .with_label_values(&[checks.kind, name])
            .set(f64::from(u8::from(result.is_ok())));
        server
            .healthchecks
            .with_label_values(&[checks.kind, name, status])
            .inc();
        match result {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                healthy = false;
                report.push_str(&format!("[-]{name} failed: {why}\n"));
            }
        }
    }
    if !healthy {
        let code = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        tracing::error!(
            path = checks.kind,
            reason = report,
            "status-code" = code,
            "Health check error"
        );
        return go_error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    if !query.has("verbose") {
        report.clear();
    }
    let mut response = answer(StatusCode::OK, PLAIN_TEXT, report + "ok\n");
    add_nosniff(response.headers_mut());
    response
}

/// `/version`: the version of this member and that of the cluster.
fn version(context: &Context) -> Response<Reply> {
    let cluster = facts::cluster_version(context);
    answer(StatusCode::OK, JSON, versions(cluster.as_deref()))
}

/// The body of `/version`; `cluster` is `None` until the cluster has agreed on a version.
fn versions(cluster: Option<&str>) -> String {
    let storage = cluster.unwrap_or("unknown");
    let cluster = cluster.unwrap_or("not_decided");
    format!(r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#)
}

/// The host a request was sent to, without its port.
fn host_name(head: &Parts) -> &str {
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default(),
    };
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split_once(']').map_or(authority, |(host, _)| host);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn rebinding_text(host: &str) -> String {
    format!(
        "The request names the host {host:?}, which this server does not allow.\n\
         This protects against DNS rebinding (CVE-2018-5702). Serve TLS, or allow the name with --host-whitelist.\n"
    )
}

fn add_cors(allowed: &AllowList, request: &HeaderMap, response: &mut HeaderMap) {
    let any = matches!(allowed, AllowList::Any) || allowed.allows("*");
    let origin = if any {
        HeaderValue::from_static("*")
    } else {
        let Some(origin) = request.get(ORIGIN) else { return };
        if !origin.to_str().is_ok_and(|origin| allowed.allows(origin)) {
            return;
        }
        origin.clone()
    };
    response.insert(
        HeaderName::from_static("access-control-allow-methods"),
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    response.insert(HeaderName::from_static("access-control-allow-origin"), origin);
    response.insert(
        HeaderName::from_static("access-control-allow-headers"),
        HeaderValue::from_static("accept, content-type, authorization"),
    );
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Bytes(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An error as Go's HTTP library writes it: a line of text, with the header against content sniffing.
pub(crate) fn go_error(status: StatusCode, text: &str) -> Response<Reply> {
    let mut response = answer(status, PLAIN_TEXT, format!("{text}\n"));
    add_nosniff(response.headers_mut());
    response
}

pub(crate) fn add_nosniff(headers: &mut HeaderMap) {
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_version_of_a_cluster_without_one_is_not_decided() {
        let own = format!(r#"{{"etcdserver":"{SERVER_VERSION}""#);
        let before = r#","etcdcluster":"not_decided","storage":"unknown"}"#;
        let after = r#","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
        assert_eq!(versions(None), own.clone() + before);
        assert_eq!(versions(Some("3.6.0")), own + after);
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query("exclude=NOSPACE&exclude=a%20b+c&verbose&x=%zz");
        let excluded: Vec<String> = query.values("exclude").collect();
        assert_eq!(excluded, ["NOSPACE", "a b c"]);
        assert!(query.has("verbose") && !query.has("serializable"));
        assert_eq!(query.values("x").next().as_deref(), Some("%zz"));
    }

    #[test]
    fn the_host_loses_its_port_and_brackets() {
        let table = [
            ("example.com:2379", "example.com"),
            ("example.com", "example.com"),
            ("127.0.0.1:2379", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("", ""),
        ];
        for (header, host) in table {
            let (head, ()) = Request::builder()
                .uri("/health")
                .header(HOST, header)
                .body(())
                .unwrap()
                .into_parts();
            assert_eq!(host_name(&head), host, "{header}");
        }
        let (head, ()) = Request::builder()
            .uri("http://a.b:1/health")
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(host_name(&head), "a.b");
    }

    #[test]
    fn only_allowed_origins_get_cors_headers() {
        let origin = |allowed: &AllowList, origin: Option<&'static str>| {
            let mut request = HeaderMap::new();
            if let Some(origin) = origin {
                request.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let mut response = HeaderMap::new();
            add_cors(allowed, &request, &mut response);
            response
                .get("access-control-allow-origin")
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let some = AllowList::Only(["http://a".to_owned()].into());
        assert_eq!(origin(&AllowList::Any, None).as_deref(), Some("*"));
        assert_eq!(origin(&some, Some("http://a")).as_deref(), Some("http://a"));
        assert_eq!(origin(&some, Some("http://b")), None);
        assert_eq!(origin(&some, None), None);
    }

    #[test]
    fn checks_are_found_by_path() {
        let names =
            |path| checks_of(path).map(|checks| checks.checks.iter().map(|check| check.name()).collect::<Vec<_>>());
        assert_eq!(names("/livez").unwrap(), ["serializable_read"]);
        assert_eq!(names("/readyz").unwrap().len(), 4);
        assert_eq!(names("/readyz/non_learner").unwrap(), ["non_learner"]);
        assert_eq!(names("/livez/non_learner"), None);
        assert_eq!(names("/livez/"), None);
        assert_eq!(names("/healthz"), None);
    }
}
