//! The interfaces of a simulated cluster: clients, which send requests, and an observer, which gets every event. This
//! file decides nothing.

use quoin_core::api::Credentials;
use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::{WatchRequest, WatchResponse};
use quoin_core::time::Instant;

use crate::observe::{ClientId, Observation, OpId, StreamId, Verdict};
use quoin_model::call::{Answer, Call, Refusal};

/// The operators' number among clients.
pub const OPERATOR: ClientId = ClientId(u64::MAX);

/// Gets every event, and checks it.
pub trait Observer {
    /// Something happened at `at`, in true time.
    ///
    /// # Errors
    /// The promise that was broken.
    fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict;
}

/// A member, as clients see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Its id.
    pub id: MemberId,
    /// Whether its process runs; clients may try it even if not.
    pub is_started: bool,
    /// Whether it is a learner, by the newest configuration of any member.
    pub is_learner: bool,
}

/// The members to which clients may send requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// Every member that is in the cluster, or was and still has a process, by number of its machine.
    pub members: Vec<Endpoint>,
}

/// The result of a request: the answer, or `None` if the outcome is unknown.
pub type Returned = Option<Result<Answer, Refusal>>;

/// An action of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Sends a request to a member. [`Clients::returned`] follows, at `deadline` at the latest, unless the client gives
    /// up.
    Ask {
        /// An id never used before.
        op: OpId,
        /// The client.
        client: ClientId,
        /// The member.
        member: MemberId,
        /// The call.
        call: Call,
        /// When it is over, in true time.
        deadline: Instant,
    },
    /// Is another user in the requests and streams that follow.
    Identify {
        /// The client.
        client: ClientId,
        /// The user.
        who: Credentials,
    },
    /// Opens a watch stream. [`Clients::closed`] follows at its end, unless the client closes it.
    Open {
        /// An id never used before.
        stream: StreamId,
        /// The client.
        client: ClientId,
        /// The member.
        member: MemberId,
    },
    /// Sends a request on a watch stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: WatchRequest,
    },
    /// Reads nothing of a watch stream for a while, and then perhaps only some responses at a time, until the clients
    /// are asked to be quiet.
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
    /// Abandons a request: it never returns.
    GiveUp {
        /// The request.
        op: OpId,
    },
}

/// All clients of a cluster. Their only clock is the true time that they are given.
pub trait Clients {
    /// When they are to act by themselves.
    fn wakes_at(&self) -> Option<Instant>;

    /// That time has come.
    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>);

    /// A request has ended.
    fn returned(&mut self, now: Instant, op: OpId, result: Returned, acts: &mut Vec<Act>);

    /// A response on a watch stream arrived.
    fn watched(&mut self, now: Instant, stream: StreamId, response: WatchResponse, acts: &mut Vec<Act>);

    /// A watch stream was ended by the member or the network.
    fn closed(&mut self, now: Instant, stream: StreamId, acts: &mut Vec<Act>);

    /// From here on: finish what is pending, then only gentle traffic.
    fn quiet(&mut self);
}
