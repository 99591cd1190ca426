//! gRPC over hyper: from a request's path to its service, and from the answer to headers, messages and trailers.
//!
//! This is written out rather than generated: nothing is boxed on the way of a unary call, limits speak in grpc-go's
//! words, and a watch response that is encoded already is sent as it is.

pub(crate) mod call;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod partial;
pub(crate) mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use quoin_core::error::Error;

use self::call::{Call, Wishes, within};
use self::message::{Encoding, Messages};
use self::method::Method;
use self::partial::Partials;
use self::status::{INTERNAL, INVALID_ARGUMENT, OK, Status, UNIMPLEMENTED};
use super::reply::{LeaderWatch, Reply, Source, Stream};
use super::services::{auth, cluster, health, kv, lease, maintenance, watch};
use super::{Context, facts};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// How a call is answered.
pub(crate) enum Answer {
    /// With one message, framed.
    Message(Bytes),
    /// With a source, which ends itself; it need not end with the server.
    Finite(Box<dyn Source>),
    /// With a source that would go on for ever.
    Endless(Box<dyn Source>),
}

/// Serves one call.
pub(crate) async fn serve(context: Arc<Context>, partials: Partials, request: Request<Incoming>) -> Response<Reply> {
    if request.method() != HttpMethod::POST {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            request.method().as_str()
        );
        return refused(StatusCode::METHOD_NOT_ALLOWED, &Status::new(INTERNAL, text));
    }
    let timeout = match call::timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(status) => return refused(StatusCode::BAD_REQUEST, &status),
    };
    let content_type = echoed(request.headers().get(CONTENT_TYPE));
    let mut response = respond(context, partials, timeout, request).await;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Serves a call whose headers are understood.
async fn respond(
    context: Arc<Context>,
    partials: Partials,
    timeout: Option<Duration>,
    request: Request<Incoming>,
) -> Response<Reply> {
    let uri = request.uri();
    // gRPC knows no queries: all of it is the method's name.
    let path = uri.path_and_query().map_or_else(|| uri.path(), PathAndQuery::as_str);
    let Some(method) = Method::find(path) else {
        return failed(&Status::new(UNIMPLEMENTED, method::unknown(path)));
    };
    let mut call = Call::begin(context, method);
    let (head, body) = request.into_parts();
    let wishes = match call.wishes(&head.headers, timeout) {
        Ok(wishes) => wishes,
        Err(status) => {
            call.finish(status.code);
            return failed(&status);
        }
    };
    drop(head);
    if timeout == Some(Duration::ZERO) {
        let status = Status::deadline_exceeded();
        call.finish(status.code);
        return failed(&status);
    }
    let limit = call.context.settings.max_receive_bytes;
    let messages = Messages::new(body, wishes.encoding, limit, partials);
    let answered = within(&call.context, wishes.deadline, answer(&call, method, &wishes, messages)).await;
    match answered {
        Ok(Answer::Message(message)) => {
            call.finish(OK);
            succeeded(Reply::Message(message), wishes.encoding)
        }
        Ok(Answer::Finite(source)) => stream(call, source, &wishes, false),
        Ok(Answer::Endless(source)) => stream(call, source, &wishes, true),
        Err(status) => {
            call.finish(status.code);
            failed(&status)
        }
    }
}

async fn answer(
    call: &Call,
    method: Method,
    wishes: &Wishes,
    mut messages: Messages<Incoming>,
) -> Result<Answer, Status> {
    let context = &*call.context;
    if facts::is_learner(context) && !matches!(method, Method::Range | Method::Snapshot | Method::Status) {
        return Err(Error::NotSupportedForLearner.into());
    }
    let encoding = wishes.encoding;
    let body = &mut messages;
    let message = match method {
        Method::Range => return kv::range(call, encoding, call.receive(body).await?).await,
        Method::Put => call.encode(&kv::put(context, call.receive(body).await?).await?, encoding),
        Method::DeleteRange => return kv::delete_range(call, encoding, call.receive(body).await?).await,
        Method::Txn => return kv::txn(call, encoding, body).await,
        Method::Compact => call.encode(&kv::compact(context, call.receive(body).await?).await?, encoding),
        Method::Watch => return Ok(Answer::Endless(Box::new(watch::Source::new(call, encoding, messages)))),
        Method::LeaseKeepAlive => {
            return Ok(Answer::Endless(Box::new(lease::KeepAlive::new(
                call, encoding, messages,
            ))));
        }
        Method::HealthWatch => return health::watch(call, encoding, &call.receive(body).await?),
        _ => return seldom(call, method, encoding, body).await.map(Answer::Message),
    };
    Ok(Answer::Message(message))
}

/// The calls that are not made all the time. Their future is boxed, so that the others' need not carry its size.
fn seldom<'a>(
    call: &'a Call,
    method: Method,
    encoding: Encoding,
    body: &'a mut Messages<Incoming>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send + 'a>> {
    Box::pin(async move {
        let context = &*call.context;
        Ok(match method {
            Method::LeaseGrant => call.encode(&lease::grant(context, call.receive(body).await?).await?, encoding),
            Method::LeaseRevoke => call.encode(&lease::revoke(context, call.receive(body).await?).await?, encoding),
            Method::LeaseTimeToLive => lease::time_to_live(call, encoding, call.receive(body).await?).await?,
            Method::LeaseLeases => lease::leases(call, encoding, call.receive(body).await?).await?,
            Method::MemberList => call.encode(
                &cluster::member_list(context, call.receive(body).await?).await?,
                encoding,
            ),
            Method::Alarm => call.encode(&maintenance::alarm(context, call.receive(body).await?).await?, encoding),
            Method::Status => call.encode(&maintenance::status(context, call.receive(body).await?), encoding),
            Method::Hash => call.encode(&maintenance::hash(context, call.receive(body).await?).await?, encoding),
            Method::HashKv => call.encode(
                &maintenance::hash_kv(context, call.receive(body).await?).await?,
                encoding,
            ),
            Method::Defragment => call.encode(
                &maintenance::defragment(context, call.receive(body).await?).await?,
                encoding,
            ),
            Method::HealthCheck => call.encode(&health::check(&call.receive(body).await?)?, encoding),
            _ if method.parts().0 == "etcdserverpb.Auth" => auth::answer(call, method, encoding, body).await?,
            _ => return Err(unimplemented(method)),
        })
    })
}

/// Says that a method is known and not served.
pub(crate) fn unimplemented(method: Method) -> Status {
    let (service, name, _) = method.parts();
    Status::new(
        UNIMPLEMENTED,
        format!("{service}/{name} is not implemented by this server"),
    )
}

/// Answers a call that is posted as something else than gRPC, in grpc-go's words.
pub(crate) fn wrong_content_type(found: Option<&HeaderValue>) -> Response<Reply> {
    let found = found.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    });
    let text = format!("invalid gRPC request content-type {found:?}");
    refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &Status::new(INVALID_ARGUMENT, text))
}

/// Whether a content type is gRPC's: its name alone, or with what encodes messages, which grpc-go does not look at.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(GRPC.as_bytes());
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

/// The content type of the answer to a request of this one.
fn echoed(content_type: Option<&HeaderValue>) -> HeaderValue {
    let asked = content_type.map_or(&[][..], HeaderValue::as_bytes);
    let Some([b'+' | b';', subtype @ ..]) = asked.strip_prefix(GRPC.as_bytes()) else {
        return GRPC;
    };
    if subtype.is_empty() {
        return GRPC;
    }
    HeaderValue::from_bytes(&[GRPC.as_bytes(), b"+", subtype].concat()).unwrap_or(GRPC)
}

/// A call that grpc-go refuses before it is one: with a status of HTTP's, too.
fn refused(code: StatusCode, status: &Status) -> Response<Reply> {
    let mut response = failed(status);
    *response.status_mut() = code;
    response
}

fn stream(call: Call, source: Box<dyn Source>, wishes: &Wishes, endless: bool) -> Response<Reply> {
    let context = &call.context;
    let deadline = wishes.deadline.map(|deadline| context.runtime.sleep_until(deadline));
    let stop = endless.then(|| context.stop.clone());
    let leader = (endless && wishes.require_leader).then(|| LeaderWatch::new(context));
    succeeded(
        Reply::Stream(Box::new(Stream {
            source,
            call,
            deadline,
            stop,
            leader,
        })),
        wishes.encoding,
    )
}

fn succeeded(reply: Reply, encoding: Encoding) -> Response<Reply> {
    let mut response = response(reply);
    if encoding == Encoding::Gzip {
        let name = HeaderName::from_static("grpc-encoding");
        response.headers_mut().insert(name, HeaderValue::from_static("gzip"));
    }
    response
}

/// A call that failed before anything was sent: its headers are its trailers.
fn failed(status: &Status) -> Response<Reply> {
    let mut response = response(Reply::Ended);
    status.write(response.headers_mut());
    response
}

fn response(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
