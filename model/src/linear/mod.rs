//! Decides whether a history of requests and replies is linearizable. It does not depend on logs, members or the
//! simulator, so it can check histories of real servers as well.
//!
//! [`check`] takes a sequential [`Spec`] and the [`Operation`]s that clients recorded, and looks for an order of them
//! that the specification allows and that respects real time. `search` is the search; [`kv`] is etcd's store with its
//! revisions as a specification; [`explain`](explain()) shows why there is no order.

mod explain;
pub mod kv;
mod search;
#[cfg(test)]
mod tests;
mod timeline;

use std::hash::{Hash, Hasher};

pub use explain::explain;
use search::{Rules, Search};

/// The behaviour of a correct server that handles one request after another.
pub trait Spec {
    /// The state: everything on which later replies may depend.
    type State: Eq;
    /// A request.
    type Input;
    /// A reply.
    type Output;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `input`; `None` if `output` is not the reply to it in `state`. If the output is unknown
    /// (`None`), it is the state after the effect of the request in `state`.
    fn step(&self, state: &Self::State, input: &Self::Input, output: Option<&Self::Output>) -> Option<Self::State>;

    /// A digest of a state: equal states have equal digests, different ones different digests. [`digest_of`] can make
    /// it.
    fn digest(&self, state: &Self::State) -> u128;

    /// The level of the state right after the operation, if its output shows it (in etcd: the revision of the header).
    /// Operations are tried in this order.
    fn hint(&self, _input: &Self::Input, _output: &Self::Output) -> Option<i64> {
        None
    }

    /// The level of `state`, on the scale of the hints. No step may lower it. A state above the hint of an operation
    /// that is still to be placed is abandoned at once.
    fn level(&self, _state: &Self::State) -> Option<i64> {
        None
    }

    /// Whether the operation changes no state in which it is possible. Such an operation is placed as soon as it fits.
    fn changes_nothing(&self, _input: &Self::Input, _output: Option<&Self::Output>) -> bool {
        false
    }
}

/// One request of a client and its outcome.
///
/// - Reply and time are known: it took effect between the two times.
/// - The time is known, the reply is not: it took effect between the two times, with any result.
/// - The reply is known, the time is not: it took effect after it was invoked (another client has seen its effect).
/// - Neither is known: it took effect at any time after it was invoked, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// The client; only explanations show it.
    pub client: u64,
    /// When it was invoked, in any unit. If one operation returned at the time at which another was invoked, either may
    /// be first.
    pub invoked: u64,
    /// When its reply came; not before it was invoked.
    pub returned: Option<u64>,
    /// The request.
    pub input: I,
    /// The reply.
    pub output: Option<O>,
}

impl<I, O> Operation<I, O> {
    /// Whether it certainly took effect.
    #[must_use]
    pub fn happened(&self) -> bool {
        self.returned.is_some() || self.output.is_some()
    }
}

/// Operations of the specification `S`.
pub type OperationOf<S> = Operation<<S as Spec>::Input, <S as Spec>::Output>;

/// The result of the search. Operations are named by their index in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable {
        /// The order; operations of unknown outcome that it does not need are not in it.
        order: Vec<usize>,
    },
    /// There is none.
    Violation(Violation),
    /// The bound on steps was reached first.
    GaveUp {
        /// The number of steps tried.
        nodes: u64,
    },
}

/// How far the search came in a history that has no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A longest beginning of an order that the specification allows.
    pub longest: Vec<usize>,
    /// The candidates for the next operation, none of which leads to an order; sorted by the time of return.
    pub stuck: Vec<usize>,
}

/// Looks for an order of `operations`, trying at most `max_nodes` steps of the specification.
///
/// # Panics
///
/// If an operation returned before it was invoked.
#[must_use]
pub fn check<S: Spec>(spec: &S, operations: &[OperationOf<S>], max_nodes: u64) -> Verdict {
    Search::new(spec, operations, Rules::default()).run(max_nodes)
}

/// A digest of 128 bits (FNV-1a) of anything that can be hashed, the same in every run.
#[must_use]
pub fn digest_of<T: Hash + ?Sized>(value: &T) -> u128 {
    let mut digest = Digest(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    value.hash(&mut digest);
    digest.0
}

struct Digest(u128);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u64 {
        (self.0 >> 64) as u64
    }
}
