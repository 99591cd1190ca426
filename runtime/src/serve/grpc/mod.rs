//! gRPC over hyper: from a request's path to its service, and from the answer to headers, messages and trailers.
//!
//! This is hand-written, not generated: a unary call boxes nothing, errors of limits have grpc-go's words, and an
//! encoded watch response is sent without another copy.

mod answer;
pub(crate) mod call;
pub(crate) mod message;
pub(crate) mod partial;
pub(crate) mod requests;
pub(crate) mod status;
pub(crate) mod unknown;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use quoin_core::api;
use quoin_core::api::{Credentials, Kind, Method, Step};
use quoin_core::error::Error;
use quoin_core::limits::READ_INLINE_ROWS;

use self::call::{Call, within};
use self::message::{Encoding, Messages, undecodable};
use self::partial::Partials;
use self::requests::Requests;
use self::status::{INTERNAL, INVALID_ARGUMENT, OK, Status};
use super::calls::take;
use super::reply::{LeaderWatch, Reply, Source, Stream};
use super::streams::{Once, backup, keep_alive, observe, watch};
use super::{Context, recipes};
use crate::tls::Secured;

pub(crate) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Bytes of a transaction at which it is decoded and checked on the compute thread: it may have very many operations.
const LONG_TXN_BYTES: usize = 64 * 1024;

/// The body of a call's answer.
pub(crate) enum Payload {
    /// One framed message.
    Message(Bytes),
    /// A source that ends by itself, so it is not cut when the server stops.
    Finite(Box<dyn Source>),
    /// A source that would never end by itself.
    Endless(Box<dyn Source>),
}

/// Reads the headers of a call. `Continue` has a call with one request, which must be received. `Break` has the
/// response to a call that waits for nothing more: it was refused, or is a stream, which begins at once.
pub(crate) fn open(
    context: Arc<Context>,
    partials: Partials,
    request: Request<Incoming>,
    content_type: HeaderValue,
) -> ControlFlow<Response<Reply>, (Call, Messages<Requests>)> {
    if request.method() != HttpMethod::POST {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            request.method().as_str()
        );
        let status = Status::new(INTERNAL, text);
        return ControlFlow::Break(refused(StatusCode::METHOD_NOT_ALLOWED, &status));
    }
    let timeout = match call::timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(status) => return ControlFlow::Break(refused(StatusCode::BAD_REQUEST, &status)),
    };
    let uri = request.uri();
    // gRPC has no queries: path and query together name the method.
    let path = uri.path_and_query().map_or_else(|| uri.path(), PathAndQuery::as_str);
    let Some(method) = Method::find(path) else {
        return ControlFlow::Break(failed(&unknown::path(path), content_type));
    };
    let mut call = Call::begin(context, method, content_type);
    let secured = request.extensions().get::<Secured>();
    if let Err(status) = admit(&mut call, request.headers(), secured, timeout) {
        return ControlFlow::Break(finish(call, Err(status)));
    }
    match begin_call(&call, Requests::Grpc(request.into_body()), partials) {
        ControlFlow::Continue(messages) => ControlFlow::Continue((call, messages)),
        ControlFlow::Break(payload) => ControlFlow::Break(finish(call, Ok(payload))),
    }
}

/// Begins a call that was admitted. `Break` has the answer of a stream that takes any number of requests, `Continue` the
/// messages of a call that has one request.
pub(crate) fn begin_call(
    call: &Call,
    requests: Requests,
    partials: Partials,
) -> ControlFlow<Payload, Messages<Requests>> {
    let limit = call.context.settings.max_receive_bytes;
    let messages = Messages::new(requests, call.encoding, limit, partials);
    ControlFlow::Break(Payload::Endless(match call.method {
        Method::Watch => Box::new(watch::Source::new(call, messages)),
        Method::LeaseKeepAlive => Box::new(keep_alive::KeepAlive::new(call, messages)),
        _ => return ControlFlow::Continue(messages),
    }))
}

/// Refuses calls by their headers alone.
pub(crate) fn admit(
    call: &mut Call,
    headers: &HeaderMap,
    secured: Option<&Secured>,
    timeout: Option<Duration>,
) -> Result<(), Status> {
    if let Some(secured) = secured {
        call.credentials.common_name.clone_from(&secured.common_name);
    }
    call.read_headers(headers, timeout)?;
    if !unknown::is_served(call.method) {
        return Err(unknown::unserved(call.method));
    }
    if let Method::Watch | Method::LeaseKeepAlive = call.method {
        call.context.server(|server| server.admit_stream())?;
    }
    Ok(())
}

/// Receives the request of a call and answers it, within the client's deadline.
pub(crate) async fn answer(call: &Call, messages: &mut Messages<Requests>) -> Result<Payload, Status> {
    let work = pin!(answer_in_time(call, messages));
    within(&call.context, call.deadline, work).await
}

async fn answer_in_time(call: &Call, messages: &mut Messages<Requests>) -> Result<Payload, Status> {
    let step = begin(call, call.receive_bytes(messages).await?).await?;
    if let Step::Backup(backup) = step {
        return Ok(Payload::Finite(Box::new(backup::Source::new(call, backup))));
    }
    if let Step::Observe(observer) = step {
        return Ok(Payload::Endless(Box::new(observe::Source::new(call, observer))));
    }
    let answer = match step {
        Step::Recipe(recipe) => Box::pin(recipes::run(&call.context, call.credentials.clone(), recipe)).await?,
        step => take(&call.context, &call.credentials, call.method, step).await?,
    };
    let (length, payload) = if answer.items() > READ_INLINE_ROWS {
        Box::pin(answer::written_apart(call, answer)).await?
    } else {
        answer::written(answer, call.encoding)?
    };
    call.sent(length);
    match payload {
        // The health service's `Watch`: its stream stays open, but the state never changes.
        Payload::Message(message) if call.method.parts().2 == Kind::ServerStream => {
            Ok(Payload::Endless(Box::new(Once(Some(message)))))
        }
        payload => Ok(payload),
    }
}

/// The response of a call.
pub(crate) fn finish(mut call: Call, answered: Result<Payload, Status>) -> Response<Reply> {
    let (encoding, content_type) = (call.encoding, call.content_type.clone());
    let reply = match answered {
        Ok(Payload::Message(message)) => {
            call.finish(OK);
            Reply::Message(message)
        }
        Ok(Payload::Finite(source)) => Reply::Stream(stream(call, source, false)),
        Ok(Payload::Endless(source)) => Reply::Stream(stream(call, source, true)),
        Err(status) => {
            call.finish(status.code);
            return failed(&status, content_type);
        }
    };
    let mut response = response(reply, content_type);
    if encoding == Encoding::Gzip {
        let name = HeaderName::from_static("grpc-encoding");
        response.headers_mut().insert(name, HeaderValue::from_static("gzip"));
    }
    response
}

/// Decodes a request and begins its call, on the compute thread if the request is long.
async fn begin(call: &Call, message: Bytes) -> Result<Step, Status> {
    let method = call.method;
    let begun = if method == Method::Txn && message.len() > LONG_TXN_BYTES {
        let (context, credentials) = (Arc::clone(&call.context), call.credentials.clone());
        let work = move || decode_and_begin(&context, &credentials, method, message);
        Box::pin(call.context.compute.run(work)).await??
    } else {
        decode_and_begin(&call.context, &call.credentials, method, message)?
    };
    // As in etcd, it counts once it is decoded.
    call.count_request();
    Ok(begun?)
}

fn decode_and_begin(
    context: &Context,
    credentials: &Credentials,
    method: Method,
    message: Bytes,
) -> Result<Result<Step, Error>, Status> {
    let request = api::Call::decode(method, message).map_err(|error| undecodable(&error, method.parts().2))?;
    let request = request.ok_or_else(|| unknown::unserved(method))?;
    Ok(context.server_for(credentials, |server| server.begin(request)))
}

/// Refuses a call whose content type is not gRPC's, in grpc-go's words.
pub(crate) fn wrong_content_type(found: Option<&HeaderValue>) -> Response<Reply> {
    let found = found.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    });
    let text = format!("invalid gRPC request content-type {found:?}");
    refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &Status::new(INVALID_ARGUMENT, text))
}

/// The content type of the answer to a request with this content type; `None` if that is not gRPC's. A message encoding
/// in it is repeated without a check, as in grpc-go.
pub(crate) fn echoed(content_type: &HeaderValue) -> Option<HeaderValue> {
    match content_type.as_bytes().strip_prefix(GRPC.as_bytes())? {
        [] | [b'+' | b';'] => Some(GRPC),
        [b'+' | b';', subtype @ ..] => {
            Some(HeaderValue::from_bytes(&[GRPC.as_bytes(), b"+", subtype].concat()).unwrap_or(GRPC))
        }
        _ => None,
    }
}

/// A call that grpc-go refuses with an HTTP status, too.
fn refused(code: StatusCode, status: &Status) -> Response<Reply> {
    let mut response = failed(status, GRPC);
    *response.status_mut() = code;
    response
}

/// A call whose answer a source makes.
pub(crate) fn stream(call: Call, source: Box<dyn Source>, endless: bool) -> Box<Stream> {
    let context = &call.context;
    let deadline = call.deadline.map(|deadline| context.runtime.sleep_until(deadline));
    let stop = endless.then(|| context.stop.clone());
    let leader = (endless && call.require_leader).then(|| LeaderWatch::new(context));
    Box::new(Stream {
        source,
        call,
        deadline,
        stop,
        leader,
    })
}

/// A call that failed before any message was sent: its headers are its trailers.
fn failed(status: &Status, content_type: HeaderValue) -> Response<Reply> {
    let mut response = response(Reply::Ended, content_type);
    status.write(response.headers_mut());
    response
}

fn response(reply: Reply, content_type: HeaderValue) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
