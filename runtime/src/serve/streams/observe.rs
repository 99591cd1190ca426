//! The observation of an election: the messages of an [`Observer`].

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use prost::Message as _;
use quoin_core::api::{Credentials, Method, Observer, RecipeStep};
use quoin_core::proto::v3electionpb::LeaderResponse;

use crate::seam::BoxFuture;
use crate::serve::Context;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{self, Encoding};
use crate::serve::grpc::status::Status;
use crate::serve::recipes::{RecipeWatch, make};
use crate::serve::reply;

/// An observation that is sent to a client.
pub(crate) struct Source {
    context: Arc<Context>,
    encoding: Encoding,
    /// The wait for the next message.
    next: BoxFuture<Next>,
}

/// The next message, and the observation that goes on; `None` after the last one.
type Next = Result<Option<(LeaderResponse, Box<Observing>)>, Status>;

/// An observation between two messages.
struct Observing {
    context: Arc<Context>,
    /// Of the client, whose calls and watches these are.
    credentials: Credentials,
    observer: Box<Observer>,
    step: RecipeStep,
    watch: Option<RecipeWatch>,
}

impl Observing {
    async fn next(mut self: Box<Self>) -> Next {
        let credentials = self.credentials.clone();
        loop {
            if let Some(response) = self.observer.next_response() {
                return Ok(Some((response, self)));
            }
            let step = std::mem::replace(&mut self.step, RecipeStep::Wait);
            self.step = match step {
                RecipeStep::Call(call) => match make(&self.context, &credentials, call).await {
                    Ok(answer) => self.observer.answered(answer),
                    Err(_) => return Ok(None),
                },
                RecipeStep::Watch(request) => {
                    drop(self.watch.take());
                    self.watch = Some(RecipeWatch::begin(&self.context, &credentials, request).await?);
                    RecipeStep::Wait
                }
                RecipeStep::Wait => {
                    let watch = self.watch.as_mut().expect("a wait follows a watch");
                    let response = watch.next(&self.context).await?;
                    match self.observer.saw(response) {
                        Some(step) => step,
                        None => return Ok(None),
                    }
                }
                RecipeStep::Answer(answer) => unreachable!("{answer:?} is no step of an observation"),
            };
        }
    }
}

impl Source {
    pub(crate) fn new(call: &Call, observer: Box<Observer>) -> Self {
        let context = Arc::clone(&call.context);
        let observation = Box::new(Observing {
            context: Arc::clone(&context),
            credentials: call.credentials.clone(),
            step: observer.begin(),
            observer,
            watch: None,
        });
        Self {
            context,
            encoding: call.encoding,
            next: Box::pin(observation.next()),
        }
    }

    fn send(&self, response: &LeaderResponse) -> Bytes {
        let grpc = &self.context.metrics.grpc;
        grpc.method(Method::Observe).sent.inc();
        grpc.sent_bytes.inc_by(response.encoded_len() as u64);
        message::encode(response, self.encoding)
    }
}

impl reply::Source for Source {
    fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        Poll::Ready(match ready!(self.next.as_mut().poll(cx)) {
            Ok(Some((response, observation))) => {
                let bytes = self.send(&response);
                self.next = Box::pin(observation.next());
                Some(Ok(bytes))
            }
            Ok(None) => None,
            Err(status) => Some(Err(status)),
        })
    }
}
