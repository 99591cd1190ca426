//! Requests that a member forwards to the leader, and the answers on their way back.

use std::time::Duration;

use quoin_core::error::Error;
use quoin_core::node::{Input, Response};

use super::World;
use crate::cluster::member::Caller;
use crate::cluster::queue::What;
use crate::observe::{OpId, Verdict};

/// How long a member waits before it forwards a request to the leader again.
const HOP_PAUSE: Duration = Duration::from_millis(50);

/// A request that a member forwards to the leader, or its answer.
#[derive(Clone, Debug)]
pub(in super::super) struct Hop {
    pub(in super::super) op: OpId,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) result: Option<Result<Response, Error>>,
}

impl Hop {
    /// Where it goes.
    pub(in super::super) fn machine(&self) -> usize {
        if self.result.is_some() { self.from } else { self.to }
    }
}

impl World<'_> {
    /// A member forwards a request to the leader, or waits until there is one.
    pub(super) fn ask_leader(&mut self, id: OpId) -> Verdict {
        let Some(op) = self.ops.get(&id) else { return Ok(()) };
        if op.gives_up_at <= self.now {
            return self.respond(id, Err(Error::Timeout));
        }
        let from = op.machine;
        let Some(life) = self.machines[from].life.as_ref().filter(|life| life.number == op.life) else {
            return Ok(());
        };
        let (leader, leads) = (life.status.leader, life.status.leads);
        if leads && let Some(request) = op.for_leader.clone() {
            return self.ask_node(id, request);
        }
        match self
            .find(leader)
            .filter(|to| *to != from && self.machines[from].connected[*to])
        {
            Some(to) => self.send_hop(Hop {
                op: id,
                from,
                to,
                result: None,
            }),
            None => self.queue.push(self.now + HOP_PAUSE, What::Retry(id)),
        }
        Ok(())
    }

    /// A request or its answer is sent from member to member; if the link is cut, the request is forwarded again later.
    pub(super) fn send_hop(&mut self, hop: Hop) {
        if !self.net.connects(hop.from, hop.to) {
            let at = self.now + Duration::from_secs(1);
            return self.queue.push(at, What::Retry(hop.op));
        }
        let at = self.now + self.net.latency();
        let place = self.hops.put(hop);
        self.queue.push(at, What::Hop(place));
    }

    /// A forwarded request arrives, or its answer.
    pub(in super::super) fn hop_arrives(&mut self, place: u32) -> Verdict {
        let Some(hop) = self.hops.take(place) else {
            return Ok(());
        };
        let Some(op) = self.ops.get(&hop.op) else { return Ok(()) };
        match hop.result {
            Some(Err(Error::NotLeader | Error::Stopped)) => {
                self.queue.push(self.now + HOP_PAUSE, What::Retry(hop.op));
                Ok(())
            }
            Some(result) if op.is_served() => self.node_answered(hop.op, result),
            Some(_) => Ok(()),
            None => {
                let (id, to, request) = (hop.op, hop.to, op.for_leader.clone());
                let machine = &mut self.machines[to];
                let timeout = machine.limits().request_timeout;
                let (Some(life), Some(request)) = (machine.life.as_mut(), request) else {
                    self.queue.push(self.now + HOP_PAUSE, What::Retry(id));
                    return Ok(());
                };
                let place = self.hops.put(hop);
                let token = life.token(Caller::Hop(place));
                let deadline = machine.clock.now(self.now) + timeout;
                life.inbox.push(Input::Request {
                    token,
                    request,
                    deadline,
                });
                self.turn(to)
            }
        }
    }
}
