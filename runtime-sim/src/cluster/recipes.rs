//! Calls that consist of other calls and of watches: carries out the recipes of `core::api`, as a member's host does.

use std::collections::VecDeque;

use quoin_core::api::{Recipe, RecipeStep, Step, relayed};
use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quoin_core::watch::{Response, StreamId as Name, WatchInput};

use super::World;
use super::codec::refusal;
use super::queue::What;
use super::streams::origin;
use crate::observe::{OpId, StreamId, Verdict};
use quoin_model::call::Refusal;

/// The streams of recipes have numbers from here on, which contain those of their requests.
const STREAMS: u64 = 1 << 62;

/// A recipe in progress.
#[derive(Debug)]
pub(super) struct Running {
    recipe: Box<dyn Recipe>,
    stream: Option<StreamId>,
    /// Watches begun.
    watches: u64,
    /// Responses of the watch that it has not seen.
    unseen: VecDeque<WatchResponse>,
    /// The error that it ended with. One more call cleans up.
    failed: Option<Refusal>,
}

/// The request whose recipe has this stream.
pub(super) fn op_of(stream: StreamId) -> Option<OpId> {
    stream.0.checked_sub(STREAMS).map(|number| OpId(number >> 8))
}

impl World<'_> {
    /// Begins a recipe.
    pub(super) fn begin_recipe(&mut self, id: OpId, mut recipe: Box<dyn Recipe>) -> Verdict {
        let step = recipe.begin();
        if let Some(op) = self.ops.get_mut(&id) {
            op.running = Some(Running {
                recipe,
                stream: None,
                watches: 0,
                unseen: VecDeque::new(),
                failed: None,
            });
        }
        self.follow_recipe(id, Ok(step))
    }

    /// A call of a recipe is answered.
    pub(super) fn recipe_answered(&mut self, id: OpId, result: Result<quoin_core::api::Answer, Error>) -> Verdict {
        let Some(running) = self.ops.get_mut(&id).and_then(|op| op.running.as_mut()) else {
            return Ok(());
        };
        if let Some(first) = running.failed.take() {
            self.end_recipe(id);
            return self.respond_with(id, Err(first));
        }
        let step = result.and_then(|answer| running.recipe.answered(answer.whole()));
        self.follow_recipe(id, step)
    }

    fn follow_recipe(&mut self, id: OpId, step: Result<RecipeStep, Error>) -> Verdict {
        let step = match step {
            Ok(RecipeStep::Watch(request)) => self.watch_for_recipe(id, request),
            step => step,
        };
        match step {
            Ok(RecipeStep::Answer(answer)) => {
                self.end_recipe(id);
                self.respond(id, Ok(answer))
            }
            Ok(RecipeStep::Call(call)) => self.begin_call(id, call),
            Ok(RecipeStep::Wait | RecipeStep::Watch(_)) => Ok(()),
            Err(error) => self.recipe_failed(id, error),
        }
    }

    fn recipe_failed(&mut self, id: OpId, error: Error) -> Verdict {
        let first = Refusal {
            code: i32::from(relayed(error.code().number())),
            ..refusal(error)
        };
        let running = self.ops.get_mut(&id).and_then(|op| op.running.as_mut());
        if let Some(running) = running
            && let Some(call) = running.recipe.failed()
        {
            running.failed = Some(first);
            return self.begin_call(id, call);
        }
        self.end_recipe(id);
        self.respond_with(id, Err(first))
    }

    /// Begins a watch in place of the previous one.
    fn watch_for_recipe(&mut self, id: OpId, request: WatchCreateRequest) -> Result<RecipeStep, Error> {
        self.close_recipe_watch(id);
        let Some(op) = self.ops.get_mut(&id) else {
            return Ok(RecipeStep::Wait);
        };
        let machine = &mut self.machines[op.machine];
        let permitted = machine.server(self.now, &op.who, |server| server.authorize_watch(&request));
        permitted.unwrap_or(Ok(()))?;
        if let (Some(running), Some(life)) = (&mut op.running, &mut machine.life) {
            running.watches += 1;
            let stream = StreamId(STREAMS + (id.0 << 8) + running.watches % 256);
            running.stream = Some(stream);
            life.streams.insert(stream);
            let view = life.view.kv.clone();
            let events = Default::default();
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(request)),
            };
            let stream = Name(stream.0);
            life.hub_mail.extend([
                WatchInput::Applied { view, events },
                WatchInput::Open { stream },
                WatchInput::Request { stream, request },
            ]);
            let machine = op.machine;
            self.plan_hub(machine);
        }
        Ok(RecipeStep::Wait)
    }

    /// The hub has a response for a recipe.
    pub(super) fn recipe_is_told(&mut self, id: OpId, stream: StreamId, response: &Response) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let (machine, life) = (op.machine, self.machines[op.machine].life.as_mut());
        if let (Some(running), Some(life)) = (&mut op.running, life)
            && running.stream == Some(stream)
        {
            running.unseen.push_back(response.message(origin(life)));
            life.hub_mail.push_back(WatchInput::Sent {
                stream: Name(stream.0),
                responses: 1,
            });
            self.queue.push(self.now, What::Retry(id));
            self.plan_hub(machine);
        }
    }

    /// A recipe sees a response of its watch; false if it waits for none.
    pub(super) fn recipe_sees(&mut self, id: OpId) -> Option<Verdict> {
        let running = self.ops.get_mut(&id)?.running.as_mut()?;
        let Some(response) = running.unseen.pop_front() else {
            return Some(Ok(()));
        };
        let step = running.recipe.saw(&response);
        Some(self.follow_recipe(id, step))
    }

    /// No client waits for a recipe any more: it cleans up. False if there is no recipe.
    pub(super) fn abandon_recipe(&mut self, id: OpId) -> Option<Verdict> {
        let running = self.end_recipe(id)?;
        Some(match running.recipe.abandoned() {
            Some(call) => self.begin_call(id, call),
            None => {
                self.ops.remove(&id);
                Ok(())
            }
        })
    }

    fn end_recipe(&mut self, id: OpId) -> Option<Running> {
        self.close_recipe_watch(id);
        self.ops.get_mut(&id)?.running.take()
    }

    fn close_recipe_watch(&mut self, id: OpId) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let (machine, number) = (op.machine, op.life());
        if let Some(running) = &mut op.running
            && let Some(stream) = running.stream.take()
        {
            running.unseen.clear();
            self.close_at_hub(stream, machine, number);
        }
    }

    /// A call on behalf of a request's client.
    fn begin_call(&mut self, id: OpId, call: quoin_core::api::Call) -> Verdict {
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        // The answer to an earlier call is not waited for.
        op.forget(&mut self.machines);
        let step: Option<Result<Step, Error>> =
            self.machines[op.machine].server(self.now, &op.who, |server| server.begin(call));
        step.map_or(Ok(()), |step| self.follow(id, step))
    }
}
