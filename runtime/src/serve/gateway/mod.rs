//! The JSON gateway: a codec at both ends of a call. The path names the method, JSON values in the body become the call's
//! requests, and its responses become JSON, as in the gateway of etcd 3.5.30. A call over the gateway is in all other
//! respects a gRPC call: limits, users, deadlines and metrics are the same.
//!
//! A unary call is answered with one JSON value. A stream is answered with a line for each response,
//! `{"result":..}` or at last `{"error":..}`.

mod answer;
mod body;
mod entity;
mod number;
mod read;
mod routes;
mod scan;
mod shape;
mod text;
mod write;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response, StatusCode};
use hyper::body::Incoming;
use quoin_core::api::Method;

use self::entity::Entity;

pub(crate) use self::body::Body;
pub(crate) use self::routes::{Route, find};
use super::Context;
use super::grpc::call::{Call, GATEWAY_ACCEPT};
use super::grpc::partial::Partials;
use super::grpc::requests::Requests;
use super::grpc::status::{INVALID_ARGUMENT, NOT_FOUND, Status, UNIMPLEMENTED};
use super::grpc::{GRPC, admit, answer, begin_call};
use super::reply::Reply;
use super::websocket;
use crate::tls::Secured;

pub(crate) use self::answer::Json;

/// Headers of HTTP with this prefix become metadata of the call.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// How long the rest of a body may take after its call was answered.
const REST_PATIENCE: Duration = Duration::from_secs(1);
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// etcd's words to a client whose certificate has a name.
pub(crate) const COMMON_NAME_IGNORED: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected";

/// Serves a path of the gateway.
pub(crate) async fn serve(
    context: &Arc<Context>,
    partials: Partials,
    route: Route,
    head: &Parts,
    body: Incoming,
) -> Response<Reply> {
    match route {
        Route::Moved(path) => moved(head, path),
        route if websocket::is_asked_for(&head.headers) => over_websocket(context, partials, route, head),
        Route::Method(_) if head.method != HttpMethod::POST => {
            answer::refusal(&Status::new(UNIMPLEMENTED, "Method Not Allowed"))
        }
        route => at_route(context, partials, route, &head.headers, Entity::Http(body)).await,
    }
}

/// Serves a path to a client that asks for a WebSocket there.
fn over_websocket(context: &Arc<Context>, partials: Partials, route: Route, head: &Parts) -> Response<Reply> {
    let of_call = Arc::clone(context);
    websocket::begin(context, head, |headers, inbox| async move {
        at_route(&of_call, partials, route, &headers, Entity::WebSocket(inbox)).await
    })
}

/// Makes the call of a path.
async fn at_route(
    context: &Arc<Context>,
    partials: Partials,
    route: Route,
    headers: &HeaderMap,
    body: Entity,
) -> Response<Reply> {
    let Route::Method(method) = route else {
        return answer::refusal(&Status::new(NOT_FOUND, "Not Found"));
    };
    match timeout(headers) {
        Ok(timeout) => call(context, partials, method, (headers, timeout), body).await,
        Err(status) => answer::refusal(&status),
    }
}

/// Whether the common name of a certificate could be taken for the user of a request to the gateway, where it does not
/// count. As in etcd, this is asked only if certificates are demanded and there are users.
pub(crate) fn is_named(context: &Context, secured: &Secured) -> bool {
    let is_named = secured.common_name.as_ref().is_some_and(|name| !name.is_empty());
    let settings = &context.settings;
    is_named && settings.client_cert_auth && settings.enable_gateway && context.node.published().view.auth.is_enabled()
}

/// Makes the call of `method`.
async fn call(
    context: &Arc<Context>,
    partials: Partials,
    method: Method,
    (headers, timeout): (&HeaderMap, Option<Duration>),
    body: Entity,
) -> Response<Reply> {
    let limit = context.settings.max_receive_bytes;
    // The messages of a WebSocket have no end.
    let has_end = matches!(body, Entity::Http(_));
    let mut body = Box::new(Body::new(body, method, limit, partials.clone()));
    // As in etcd, the call of a body that cannot be read does not begin.
    if let Err(status) = read_single(context, &mut body, has_end).await {
        return answer::refusal(&status);
    }
    let mut call = Call::begin(Arc::clone(context), method, GRPC);
    // A certificate's common name does not count here, as in etcd.
    let answered = match admit(&mut call, &metadata(headers), None, timeout) {
        Err(status) => Err(status),
        Ok(()) => match begin_call(&call, Requests::Json(body), partials) {
            ControlFlow::Break(payload) => Ok(payload),
            ControlFlow::Continue(mut messages) => answer(&call, &mut messages).await,
        },
    };
    answer::respond(call, answered).await
}

/// Reads the request of a unary call, and lets its client send the rest of the body, if it has an end, for a short time.
async fn read_single(context: &Context, body: &mut Body, has_end: bool) -> Result<(), Status> {
    if !body.is_single() {
        return Ok(());
    }
    let read = poll_fn(|cx| body.poll_single(cx)).await;
    if !has_end {
        return read;
    }
    let mut patience = context.runtime.sleep_until(context.clock.now() + REST_PATIENCE);
    poll_fn(|cx| match body.poll_rest(cx) {
        Poll::Pending => patience.as_mut().poll(cx),
        Poll::Ready(()) => Poll::Ready(()),
    })
    .await;
    read
}

/// The metadata of a call that HTTP headers ask for.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let given = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(given) = given.and_then(|given| HeaderName::from_bytes(given.as_bytes()).ok()) {
            metadata.append(given, value.clone());
        }
    }
    for (name, given) in [(AUTHORIZATION, AUTHORIZATION), (ACCEPT, GATEWAY_ACCEPT)] {
        if let Some(value) = headers.get(name) {
            metadata.insert(given, value.clone());
        }
    }
    metadata
}

/// The client's timeout. Unlike in gRPC, its number may have any length.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(TIMEOUT).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let refused = || {
        let shown = String::from_utf8_lossy(value.as_bytes());
        Status::new(INVALID_ARGUMENT, format!("invalid grpc-timeout: {shown}"))
    };
    let text = value.to_str().map_err(|_| refused())?;
    let (number, unit) = text.split_at_checked(text.len() - 1).ok_or_else(refused)?;
    let one = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return Err(refused()),
    };
    let number: i64 = number.parse().map_err(|_| refused())?;
    let nanos = u64::try_from(number).unwrap_or(0).saturating_mul(one);
    Ok(Some(Duration::from_nanos(nanos)))
}

/// Leads a client to the clean form of its path, as Go's HTTP library does.
fn moved(head: &Parts, path: String) -> Response<Reply> {
    let target = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let shows = matches!(head.method, HttpMethod::GET | HttpMethod::HEAD);
    let escapes = [
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&#34;"),
        ('\'', "&#39;"),
    ];
    let escaped = escapes
        .iter()
        .fold(target.clone(), |text, (from, to)| text.replace(*from, to));
    let page = format!("<a href=\"{escaped}\">Moved Permanently</a>.\n\n");
    let mut response = Response::new(Reply::Bytes(if shows { page.into() } else { Default::default() }));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if shows {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        list.iter()
            .map(|(name, text)| (HeaderName::from_static(name), value(text)))
            .collect()
    }

    #[test]
    fn some_headers_become_metadata() {
        let given = headers(&[
            ("grpc-metadata-token", "a"),
            ("authorization", "b"),
            ("accept", "*/*"),
            ("cookie", "c"),
            ("grpc-metadata-hasleader", "true"),
        ]);
        let expected = headers(&[
            ("token", "a"),
            ("authorization", "b"),
            ("grpcgateway-accept", "*/*"),
            ("hasleader", "true"),
        ]);
        assert_eq!(metadata(&given), expected);
    }

    #[test]
    fn a_timeout_has_a_number_and_a_unit() {
        let of = |text| timeout(&headers(&[("grpc-timeout", text)])).map_err(|status| status.message.into_owned());
        assert_eq!(of("1234567890123u"), Ok(Some(Duration::from_micros(1_234_567_890_123))));
        assert_eq!(of("2H"), Ok(Some(Duration::from_hours(2))));
        assert_eq!(of("-1S"), Ok(Some(Duration::ZERO)));
        assert_eq!(of(""), Ok(None));
        for bad in ["S", "1", "1x", "1 S", "x1S"] {
            assert_eq!(of(bad), Err(format!("invalid grpc-timeout: {bad}")));
        }
    }
}
