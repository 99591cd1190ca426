//! What plugs into a simulated cluster: clients, who ask, and an observer, who sees everything. Nothing here decides.

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::{WatchRequest, WatchResponse};
use quoin_core::time::Instant;

use crate::observe::{ClientId, Observation, OpId, StreamId, Verdict};
use quoin_model::call::{Answer, Call, Refusal};

/// Sees everything that happens, and judges.
pub trait Observer {
    /// Something happened at `at`, in true time.
    ///
    /// # Errors
    /// A promise that was broken.
    fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict;
}

/// A member, as clients know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Which member.
    pub id: MemberId,
    /// Whether its process runs; clients may try all the same.
    pub is_started: bool,
    /// Whether it is a learner, by the newest configuration anywhere.
    pub is_learner: bool,
}

/// The members that clients may ask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// Every member that is in the cluster, or was and still has a process, by number of its machine.
    pub members: Vec<Endpoint>,
}

/// What comes back of a request: the answer, or nothing: then nobody knows whether it was done.
pub type Returned = Option<Result<Answer, Refusal>>;

/// Something a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Asks a member. [`Clients::returned`] follows, at `deadline` at the latest, unless the client gives up.
    Ask {
        /// A name never used before.
        op: OpId,
        /// Who asks.
        client: ClientId,
        /// Whom.
        member: MemberId,
        /// What.
        call: Call,
        /// When it is over, in true time.
        deadline: Instant,
    },
    /// Opens a watch stream. [`Clients::closed`] follows at its end, unless the client closes it.
    Open {
        /// A name never used before.
        stream: StreamId,
        /// Who.
        client: ClientId,
        /// To whom.
        member: MemberId,
    },
    /// Sends a request on a watch stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: WatchRequest,
    },
    /// Reads nothing of a watch stream for a while, and maybe only a part of what there is after that, until the clients are
    /// told to be quiet.
    Pause {
        /// The stream.
        stream: StreamId,
        /// When it reads again.
        until: Instant,
        /// Responses it reads at a time from then on, at most.
        sips: usize,
    },
    /// Ends a watch stream.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Does not wait for an answer any more: it never returns.
    GiveUp {
        /// The request.
        op: OpId,
    },
}

/// All clients of a cluster. They know no clock but the one they are given, which is true time.
pub trait Clients {
    /// When they want to do something by themselves.
    fn wakes_at(&self) -> Option<Instant>;

    /// That time has come.
    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>);

    /// A request is over.
    fn returned(&mut self, now: Instant, op: OpId, result: Returned, acts: &mut Vec<Act>);

    /// A response on a watch stream arrived.
    fn watched(&mut self, now: Instant, stream: StreamId, response: WatchResponse, acts: &mut Vec<Act>);

    /// A watch stream was ended by the member or the network.
    fn closed(&mut self, now: Instant, stream: StreamId, acts: &mut Vec<Act>);

    /// From here on: finish what is under way, then only gentle traffic.
    fn quiet(&mut self);
}
