//! gRPC over hyper: from a request's path to its service, and from the answer to headers, messages and trailers.
//!
//! This is written out rather than generated: nothing is boxed on the way of a unary call, limits speak in grpc-go's
//! words, and a watch response that is encoded already is sent as it is.

pub(crate) mod call;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod status;

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use quoin_core::error::Error;

use self::call::{Call, Wishes, within};
use self::message::{Encoding, Messages};
use self::method::Method;
use self::status::{INVALID_ARGUMENT, OK, Status, UNIMPLEMENTED};
use super::reply::{LeaderWatch, Reply, Source, Stream};
use super::services::{cluster, health, kv, lease, maintenance, watch};
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
pub(crate) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Response<Reply> {
    if request.method() != HttpMethod::POST {
        let mut response = response(Reply::Ended);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let path = request.uri().path();
    let Some(method) = Method::find(path) else {
        return failed(&Status::new(UNIMPLEMENTED, method::unknown(path)));
    };
    let mut call = Call::begin(context, method);
    let (head, body) = request.into_parts();
    let wishes = match call.wishes(&head.headers) {
        Ok(wishes) => wishes,
        Err(status) => {
            call.finish(status.code);
            return failed(&status);
        }
    };
    drop(head);
    let answered = within(&call.context, wishes.deadline, answer(&call, method, &wishes, body)).await;
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

async fn answer(call: &Call, method: Method, wishes: &Wishes, body: Incoming) -> Result<Answer, Status> {
    let context = &*call.context;
    if facts::is_learner(context) && !matches!(method, Method::Range | Method::Snapshot | Method::Status) {
        return Err(Error::NotSupportedForLearner.into());
    }
    let encoding = wishes.encoding;
    let mut messages = Messages::new(body, encoding, context.settings.max_receive_bytes);
    let body = &mut messages;
    let message = match method {
        Method::Range => return kv::range_answer(call, encoding, call.receive(body).await?).await,
        Method::Put => call.encode(&kv::put(context, call.receive(body).await?).await?, encoding),
        Method::DeleteRange => call.encode(&kv::delete_range(context, call.receive(body).await?).await?, encoding),
        Method::Txn => call.encode(&kv::txn(context, call.receive(body).await?).await?, encoding),
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
            Method::LeaseTimeToLive => call.encode(
                &lease::time_to_live(context, call.receive(body).await?).await?,
                encoding,
            ),
            Method::LeaseLeases => call.encode(&lease::leases(context, call.receive(body).await?).await?, encoding),
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
            _ => return Err(unimplemented(method)),
        })
    })
}

fn unimplemented(method: Method) -> Status {
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
    let mut response = failed(&Status::new(INVALID_ARGUMENT, text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
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
