//! Requests between members other than raft's messages. This member answers the requests of others on the peer port,
//! and forwards a client's request to the leader if only the leader can answer it. [`quoin_core::api`] has the rules.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use quoin_core::api::{PeerAnswer, PeerCall, PeerStep, forward as request_of, forwarded, hashed};
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::{
    FORWARD_PAUSE, MAX_PEER_ANSWER_BYTES, MAX_PEER_POST_BYTES, PEER_APPLY_PATIENCE, PEER_READ_PATIENCE,
};
use quoin_core::node::{Request as NodeRequest, Response as NodeResponse};
use quoin_core::peer::PeerHead;
use quoin_core::time::Instant;

use super::Context;
use super::calls::compute;
use super::http::{add_nosniff, go_error};
use super::reply::Reply;
use crate::peers::dial;

const CLUSTER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

/// Answers a request of another member.
pub(crate) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let end = context.clock.now() + PEER_READ_PATIENCE;
    let Some(Some(body)) = dial::within(&context.runtime, end, read(body)).await else {
        return go_error(StatusCode::BAD_REQUEST, "error reading body");
    };
    let (method, path) = (head.method.as_str(), head.uri.path());
    let cluster = head.headers.get(CLUSTER).and_then(|value| value.to_str().ok());
    let parsed = context.server(|server| PeerCall::parse(server, method, path, cluster, &body));
    let answer = match parsed {
        Err(refusal) => refusal,
        Ok(call) => match context.server(|server| call.begin(server)) {
            PeerStep::Answer(answer) => answer,
            PeerStep::Ask(request) => {
                let end = context.clock.now() + patience(&context, &request);
                let result = context.node.request(request, end).await;
                context.server(|server| call.finish(server, result))
            }
            PeerStep::Compute(computation) => hashed(compute(&context, computation).await),
        },
    };
    response(&context, method, answer)
}

/// How long another member's request may wait. As in etcd, a request about a lease has one second.
fn patience(context: &Context, request: &NodeRequest) -> Duration {
    match request {
        NodeRequest::LeaseRenew { .. } | NodeRequest::LeaseTimeToLive { .. } => PEER_APPLY_PATIENCE,
        _ => context.settings.limits.request_timeout,
    }
}

/// The whole body; `None` if it is broken or too long.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame.ok()?.into_data() else { continue };
        if whole.len() + piece.len() > MAX_PEER_POST_BYTES {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}

fn response(context: &Context, method: &str, answer: PeerAnswer) -> Response<Reply> {
    let PeerAnswer {
        status,
        content_type,
        body,
    } = answer;
    let mut response = Response::new(Reply::Bytes(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_error = !response.status().is_success();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let cluster = format!("{:x}", context.node.cluster_id());
    headers.extend(HeaderValue::from_str(&cluster).ok().map(|value| (CLUSTER, value)));
    if is_error {
        add_nosniff(headers);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED.as_u16() {
        let allowed = if method == "GET" { "POST" } else { "GET" };
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// Sends the leader a request that this member's node refused because it does not lead. Repeats it, to the leader at
/// that time, until there is a final answer or the deadline has passed.
pub(crate) async fn forward(context: &Context, request: &NodeRequest) -> Result<NodeResponse, Error> {
    let end = context.request_deadline();
    let mut failure = Error::NoLeader;
    while context.clock.now() < end {
        let published = context.node.published();
        let leader = published.status.leader;
        if leader == published.status.member {
            // This member has become the leader.
            match context.node.request(request.clone(), end).await {
                Err(Error::NotLeader) => {}
                answer => return answer,
            }
        } else if leader != MemberId::NONE {
            failure = Error::Timeout;
            let member = published.view.cluster.member(leader);
            let urls = member.map_or_else(Vec::new, |member| member.peer_urls.clone());
            drop(published);
            if let Some(answer) = post_to_any(context, &urls, request, end).await {
                return answer;
            }
        }
        context.runtime.sleep_until(context.clock.now() + FORWARD_PAUSE).await;
    }
    Err(failure)
}

/// Posts a request to a member at one URL after the other, until an answer is final by [`forwarded`].
async fn post_to_any(
    context: &Context,
    urls: &[String],
    request: &NodeRequest,
    end: Instant,
) -> Option<Result<NodeResponse, Error>> {
    let (path, body) = request_of(request)?;
    let head = PeerHead {
        method: "POST".to_owned(),
        path,
        fields: BTreeMap::from([("content-type".to_owned(), "application/protobuf".to_owned())]),
    };
    for url in urls {
        let left = end.saturating_since(context.clock.now());
        let asked = dial::ask(&context.dialer, url, &head, body.clone(), MAX_PEER_ANSWER_BYTES, left).await;
        match asked {
            Ok((status, _, body)) => {
                if let Some(answer) = forwarded(request, status, &body) {
                    return Some(answer);
                }
                tracing::debug!(url, status, "the leader did not carry out a forwarded request");
            }
            Err(error) => tracing::debug!(url, error, "a request could not be forwarded"),
        }
    }
    None
}
