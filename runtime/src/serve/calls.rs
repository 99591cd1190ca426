//! Carries out calls: follows the steps that [`quoin_core::api`] returns, on the caller's task or on the compute
//! thread, and measures them. This file has no rule about requests and no protocol.

use std::future::Future;
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_channel::oneshot;
use quoin_core::api::{Answer, Computation, Credentials, Facts, Fetch, Method, Read, Server, Step};
use quoin_core::error::Error;
use quoin_core::id::ClusterId;
use quoin_core::limits::{READ_INLINE_ROWS, READ_SLICE_ROWS};
use quoin_core::mvcc::HashKv;
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{DefragmentResponse, RequestHeader};
use quoin_core::time::Instant;
use quoin_core::watch::Origin;

use super::grpc::call::within;
use super::grpc::status::{Status, UNKNOWN};
use super::grpc::unknown::unserved;
use super::{Context, facts, members, tokens};
use crate::handle::Asked;

impl Context {
    /// The present state of the member, for what no user asks for.
    pub(crate) fn server<T>(&self, look: impl FnOnce(&Server<'_>) -> T) -> T {
        self.server_for(&Credentials::NONE, look)
    }

    /// The present state of the member, for a client's call.
    pub(crate) fn server_for<T>(&self, credentials: &Credentials, look: impl FnOnce(&Server<'_>) -> T) -> T {
        let published = self.node.published();
        look(&Server {
            cluster: ClusterId(self.node.cluster_id()),
            view: &published.view,
            status: &published.status,
            limits: self.settings.limits,
            facts: self,
            credentials,
        })
    }

    /// This member, for the header of a watch's response.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            cluster_id: self.node.cluster_id(),
            member_id: self.node.member_id(),
            raft_term: self.node.published().status.term,
        }
    }
}

impl Facts for Context {
    fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        self.node.compact_hash(revision)
    }

    fn table_bytes(&self) -> i64 {
        self.metrics.mvcc.db_bytes.get()
    }

    fn unix_seconds(&self) -> u64 {
        self.clock.wall().as_secs()
    }

    fn user_of(&self, token: &str, revision: u64) -> Option<RequestHeader> {
        match &self.jwt {
            Some(jwt) => jwt.user_of(self.clock.wall(), token),
            None => tokens::user_of(self, token, revision),
        }
    }

    fn token_prefix(&self) -> String {
        self.jwt.as_ref().map_or_else(tokens::prefix, |_| String::new())
    }

    fn sign(&self, user: &str, revision: u64, simple: &str) -> Result<String, Error> {
        match &self.jwt {
            Some(jwt) => jwt.sign(self.clock.wall(), user, revision),
            None => Ok(simple.to_owned()),
        }
    }
}

/// An answer for which the call must wait. The future is boxed, because otherwise the task of every call would reserve
/// memory for it.
type Later<'a> = Pin<Box<dyn Future<Output = Result<Answer, Status>> + Send + 'a>>;

/// Takes a client's call of `method` from a step to its answer. This is no `async fn`, whose future would keep
/// memory for the step.
pub(crate) fn take<'a>(
    context: &'a Context,
    credentials: &'a Credentials,
    method: Method,
    step: Step,
) -> impl Future<Output = Result<Answer, Status>> + Send + 'a {
    let taken = carry_out(context, credentials, method, step);
    async {
        match taken {
            Break(answer) => answer,
            Continue(later) => later.await,
        }
    }
}

/// Carries out a step. `Break` has an answer that is ready, `Continue` one to wait for.
fn carry_out<'a>(
    context: &'a Context,
    credentials: &'a Credentials,
    method: Method,
    step: Step,
) -> ControlFlow<Result<Answer, Status>, Later<'a>> {
    match step {
        Step::Answer(answer) => Break(Ok(answer)),
        Step::Ask {
            request,
            is_heavy,
            then,
        } => Continue(Box::pin(async move {
            let result = if is_heavy {
                ask_in_turn(context, request).await
            } else {
                ask(context, request).await
            };
            let step = context.server_for(credentials, |server| server.finish(then, result))?;
            take(context, credentials, method, step).await
        })),
        Step::Backup(_) | Step::Observe(_) => unreachable!("{method:?} is answered with a stream"),
        Step::Recipe(recipe) => unreachable!("{recipe:?} consists of other calls"),
        Step::Compute(computation) => Continue(Box::pin(async { Ok(compute(context, computation).await?) })),
        Step::Defragment => Continue(Box::pin(defragment(context))),
        Step::Fetch(read) => fetch(context, credentials, read),
        Step::Forward { request, then } => Continue(Box::pin(async move {
            let result = members::forward(context, &request).await;
            let step = context.server_for(credentials, |server| server.finish(then, result))?;
            take(context, credentials, method, step).await
        })),
        Step::Password { work, then } => Continue(Box::pin(async move {
            let result = context.passwords.work(work).await?;
            let step = context.server_for(credentials, |server| server.worked(then, result))?;
            take(context, credentials, method, step).await
        })),
        Step::Unserved => Break(Err(unserved(method))),
    }
}

/// Sends the node a request, with the timeout of requests.
pub(crate) fn ask(context: &Context, request: Request) -> Asked<'_> {
    context.node.request(request, context.request_deadline())
}

/// Sends the node a heavy write, once the previous one was applied.
async fn ask_in_turn(context: &Context, request: Request) -> Result<Response, Error> {
    let deadline = context.request_deadline();
    let turn = pin!(async { Ok(context.heavy_writes.turn().await) });
    let turn = within(context, Some(deadline), turn).await;
    let turn = turn.map_err(|_| Error::Timeout)?;
    let (reply, answer) = oneshot::channel();
    let node = context.node.clone();
    // In a task of its own: if the client goes away, the turn must last until its request is applied.
    context.runtime.spawn(Box::pin(async move {
        let result = node.request(request, deadline).await;
        drop(turn);
        // The caller may have gone.
        let _gone = reply.send(result);
    }));
    answer.await.unwrap_or(Err(Error::Stopped))
}

/// Reads the newest view: the first rows here, further ones on the compute thread.
fn fetch<'a>(
    context: &'a Context,
    credentials: &Credentials,
    read: Read,
) -> ControlFlow<Result<Answer, Status>, Later<'a>> {
    let began = context.clock.now();
    let (fetch, is_over) = context.server_for(credentials, |server| {
        let mut fetch = read.plan(server);
        let is_over = fetch.step(READ_INLINE_ROWS);
        (fetch, is_over)
    });
    if is_over {
        return Break(fetched(context, fetch, began));
    }
    Continue(Box::pin(async move {
        let mut rest = Some(fetch);
        let step = move || {
            let is_over = rest.as_mut().is_none_or(|fetch| fetch.step(READ_SLICE_ROWS));
            if is_over { rest.take() } else { None }
        };
        let fetch = context.compute.steps(step).await?;
        fetched(context, fetch, began)
    }))
}

/// The answer of a complete read.
fn fetched(context: &Context, fetch: Fetch, began: Instant) -> Result<Answer, Status> {
    measure(context, &fetch, context.clock.now().saturating_since(began));
    Ok(context.server(|server| fetch.answer(server))?)
}

fn measure(context: &Context, fetch: &Fetch, took: Duration) {
    context.metrics.count_keys(fetch.counts());
    if fetch.is_range() {
        context.metrics.range_took(took, fetch.succeeded());
        facts::note_if_slow(context, took, "read-only range ", format_args!("{fetch}"));
    } else {
        facts::note_if_slow(context, took, "read-only txn ", format_args!("{fetch}"));
    }
}

/// Computes a hash on the compute thread, in turns with other computations.
pub(crate) async fn compute(context: &Context, computation: Computation) -> Result<Answer, Error> {
    let began = context.clock.now();
    let mvcc = &context.metrics.mvcc;
    let seconds = match &computation {
        Computation::Hash(_) => &mvcc.hash_seconds,
        Computation::HashKv(_) => &mvcc.hash_revision_seconds,
    };
    let mut running = Some(computation);
    let step = move || {
        let is_over = running.as_mut().is_none_or(|running| running.step(READ_SLICE_ROWS));
        if is_over { running.take() } else { None }
    };
    let computed = context.compute.steps(step).await?;
    seconds.observe(context.clock.now().saturating_since(began).as_secs_f64());
    Ok(context.server(|server| computed.answer(server)))
}

/// Defragments the table. Reads and writes continue meanwhile.
async fn defragment(context: &Context) -> Result<Answer, Status> {
    let began = context.clock.now();
    tracing::info!("starting defragment");
    let disk = &context.metrics.disk;
    disk.defrag_inflight.set(1);
    let result = context.node.defragment().await;
    disk.defrag_inflight.set(0);
    let took = context.clock.now().saturating_since(began);
    disk.backend_defrag_seconds.observe(took.as_secs_f64());
    result.map_err(|why| Status::new(UNKNOWN, why))?;
    let bytes = context.metrics.mvcc.db_bytes.get();
    tracing::info!(
        "current-db-size-bytes" = bytes,
        ?took,
        "finished defragmenting directory"
    );
    tracing::info!("finished defragment");
    Ok(Answer::Defragment(DefragmentResponse::default()))
}
