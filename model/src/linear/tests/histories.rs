//! Histories of clients of a correct server, drawn from a seed, and ways to spoil them.

use quoin_core::random::Prng;

use crate::linear::{Operation, OperationOf, Spec};

/// A specification from which histories can be drawn.
pub(super) trait Sample: Spec {
    /// Some request. `serial` is different for each.
    fn draw(&self, prng: &mut Prng, serial: u64) -> Self::Input;

    /// The behaviour of a correct server.
    fn execute(&self, state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);

    /// Changes a reply into a wrong one.
    fn spoil(&self, prng: &mut Prng, output: &mut Self::Output);
}

/// The size of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) operations: usize,
    pub(super) clients: usize,
    /// The largest number of operations of unknown outcome.
    pub(super) unknown: usize,
    /// The percentage of requests that lose their reply, up to that number.
    pub(super) lost_percent: u64,
}

struct Pending {
    slot: usize,
    index: usize,
    effective: bool,
    lost: bool,
}

/// A history that is linearizable: each request takes effect at one moment between its call and its return or, if the
/// reply is lost, later or never.
pub(super) fn draw<S: Sample>(spec: &S, prng: &mut Prng, shape: Shape) -> Vec<OperationOf<S>> {
    let mut history: Vec<OperationOf<S>> = Vec::new();
    let mut pending: Vec<Pending> = Vec::new();
    let mut outputs: Vec<Option<S::Output>> = Vec::new();
    let mut state = spec.initial();
    let (mut now, mut unknown, mut client_ids) = (0, 0, shape.clients as u64);
    let mut clients: Vec<_> = (0..client_ids).collect();
    loop {
        now += prng.below(2);
        let idle: Vec<_> = (0..shape.clients)
            .filter(|slot| pending.iter().all(|pending| pending.lost || pending.slot != *slot))
            .collect();
        let may_call = history.len() < shape.operations && !idle.is_empty();
        if !may_call && pending.iter().all(|pending| pending.lost) {
            return history;
        }
        if may_call && prng.below(pending.len() as u64 + 2) < 2 {
            let slot = idle[prng.below(idle.len() as u64) as usize];
            pending.push(Pending {
                slot,
                index: history.len(),
                effective: false,
                lost: false,
            });
            outputs.push(None);
            history.push(Operation {
                client: clients[slot],
                invoked: now,
                returned: None,
                input: spec.draw(prng, history.len() as u64),
                output: None,
            });
            continue;
        }
        let Some(position) = (prng.below(pending.len() as u64 + 1) as usize).checked_sub(1) else {
            continue;
        };
        let index = pending[position].index;
        if !pending[position].effective {
            let (next, output) = spec.execute(&state, &history[index].input);
            state = next;
            outputs[index] = Some(output);
            pending[position].effective = true;
        } else if pending[position].lost {
            pending.remove(position);
        } else {
            history[index].returned = Some(now);
            history[index].output = outputs[index].take();
            pending.remove(position);
        }
        let may_lose = unknown < shape.unknown && prng.below(100) < shape.lost_percent;
        if let Some(other) = pending.iter_mut().find(|pending| !pending.lost)
            && may_lose
        {
            // A client without a reply continues under another name.
            other.lost = true;
            unknown += 1;
            clients[other.slot] = client_ids;
            client_ids += 1;
            // Sometimes it becomes known later that the operation happened, or when it ended.
            match prng.below(8) {
                0 if other.effective => history[other.index].output = outputs[other.index].take(),
                1 if other.effective => history[other.index].returned = Some(now),
                _ => {}
            }
        }
    }
}

/// Spoils a history in one of several ways. It may stay linearizable.
pub(super) fn spoil<S: Sample>(spec: &S, prng: &mut Prng, history: &mut Vec<OperationOf<S>>) {
    let chosen = prng.below(history.len() as u64) as usize;
    let is_alone = history.len() == 1;
    let operation = &mut history[chosen];
    match prng.below(8) {
        0 if !is_alone => {
            history.remove(chosen);
        }
        1 => {
            operation.output = None;
            operation.returned = None;
        }
        2 => operation.invoked = operation.returned.unwrap_or(operation.invoked),
        3 => operation.returned = operation.returned.map(|_| operation.invoked),
        4 => {
            let other = prng.below(history.len() as u64) as usize;
            let (a, b) = (history[chosen].invoked, history[other].invoked);
            let earliest = a.min(b);
            let back = a - earliest;
            history[chosen].invoked -= back;
            history[chosen].returned = history[chosen].returned.map(|returned| returned - back);
        }
        _ => {
            if let Some(output) = &mut operation.output {
                spec.spoil(prng, output);
            }
        }
    }
}
