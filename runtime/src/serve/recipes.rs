//! Carries out the calls of the lock and the election service: makes the calls and the watches that their [`Recipe`]
//! decides on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use quoin_core::api::{Answer, Call, Credentials, Recipe, RecipeStep, relayed};
use quoin_core::error::Error;
use quoin_core::limits::RECIPE_WATCHES;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::Context;
use super::calls::take;
use super::grpc::status::Status;
use super::stop::Stop;
use super::streams::watch::RETRY_PAUSE;
use crate::handle::WatchStream;

/// Takes a recipe to its answer. If the result is dropped, because the client has gone or its deadline has passed, the
/// recipe cleans up in a task of its own.
pub(crate) async fn run(
    context: &Arc<Context>,
    credentials: Credentials,
    recipe: Box<dyn Recipe>,
) -> Result<Answer, Status> {
    let mut running = RecipeRun {
        context: Arc::clone(context),
        credentials,
        recipe,
        is_over: false,
    };
    let result = running.steps().await;
    let is_stopped = result.as_ref().is_err_and(|status| *status == Error::Stopped.into());
    if result.is_err()
        && !is_stopped
        && let Some(call) = running.recipe.failed()
    {
        // The first error is the answer.
        let _second = make(context, &running.credentials, call).await;
    }
    running.is_over = true;
    result.map_err(|status| Status {
        // A client of a server that stops should go to another member, which it does after this code only.
        code: if is_stopped { status.code } else { relayed(status.code) },
        ..status
    })
}

/// A recipe in progress.
struct RecipeRun {
    context: Arc<Context>,
    /// Of the client, whose calls these are.
    credentials: Credentials,
    recipe: Box<dyn Recipe>,
    /// It has its result.
    is_over: bool,
}

impl RecipeRun {
    async fn steps(&mut self) -> Result<Answer, Status> {
        let mut step = self.recipe.begin();
        let mut watch: Option<RecipeWatch> = None;
        loop {
            step = match step {
                RecipeStep::Answer(answer) => return Ok(answer),
                RecipeStep::Call(call) => {
                    let answer = make(&self.context, &self.credentials, call).await?;
                    self.recipe.answered(answer)?
                }
                RecipeStep::Watch(request) => {
                    drop(watch.take());
                    watch = Some(RecipeWatch::begin(&self.context, &self.credentials, request).await?);
                    RecipeStep::Wait
                }
                RecipeStep::Wait => {
                    let watch = watch.as_mut().expect("a wait follows a watch");
                    let response = watch.next(&self.context).await?;
                    self.recipe.saw(&response)?
                }
            };
        }
    }
}

impl Drop for RecipeRun {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(call) = self.recipe.abandoned()
        {
            let (context, credentials) = (Arc::clone(&self.context), self.credentials.clone());
            self.context.runtime.spawn(Box::pin(async move {
                // No client waits for the result.
                let _result = make(&context, &credentials, call).await;
            }));
        }
    }
}

/// Makes a call as if the client with these credentials had made it.
pub(crate) async fn make(context: &Context, credentials: &Credentials, call: Call) -> Result<Answer, Status> {
    let method = call.method();
    let step = context.server_for(credentials, |server| server.begin(call))?;
    Ok(take(context, credentials, method, step).await?.whole())
}

/// The number of watches of recipes; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecipeWatches(Arc<AtomicUsize>);

/// A place among the watches of recipes.
struct Taken(RecipeWatches);

impl RecipeWatches {
    /// Takes a place, if one of [`RECIPE_WATCHES`] is free.
    fn take(&self) -> Option<Taken> {
        let counted = Taken(self.clone());
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (before < RECIPE_WATCHES).then_some(counted)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A watch of a recipe.
pub(crate) struct RecipeWatch {
    stream: WatchStream,
    stop: Stop,
    _counted: Taken,
}

impl RecipeWatch {
    /// Begins a watch of the client with these credentials. It fails if the client may not read the keys, if there are too many
    /// watches, or if the hub has no room for as long as a request may take.
    pub(crate) async fn begin(
        context: &Context,
        credentials: &Credentials,
        request: WatchCreateRequest,
    ) -> Result<Self, Error> {
        context.server_for(credentials, |server| server.authorize_watch(&request))?;
        let counted = context.recipe_watches.take().ok_or(Error::TooManyRequests)?;
        let stream = context.node.watch_stream();
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request)),
        };
        let deadline = context.request_deadline();
        while !stream.offer(request.clone()) {
            let now = context.clock.now();
            if now >= deadline {
                return Err(Error::Timeout);
            }
            context.runtime.sleep_until(now + RETRY_PAUSE).await;
        }
        Ok(Self {
            stream,
            stop: context.stop.clone(),
            _counted: counted,
        })
    }

    /// The next response. It fails once the server stops.
    pub(crate) async fn next(&mut self, context: &Context) -> Result<WatchResponse, Error> {
        let response = poll_fn(|cx| {
            if self.stop.poll_stopped(cx).is_ready() {
                return Poll::Ready(None);
            }
            self.stream.poll_recv(cx)
        });
        let response = response.await.ok_or(Error::Stopped)?;
        Ok(response.message(context.origin()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_of_recipes_are_bounded_and_a_dropped_one_makes_room() {
        let watches = RecipeWatches::default();
        let mut taken: Vec<Taken> = (0..RECIPE_WATCHES).filter_map(|_| watches.take()).collect();
        assert_eq!(taken.len(), RECIPE_WATCHES);
        for _ in 0..2 {
            assert!(watches.take().is_none());
        }
        taken.pop();
        assert!(watches.take().is_some());
    }
}
