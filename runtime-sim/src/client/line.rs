//! One request of a client at a time. As in etcd's client library, it is repeated while its member is unavailable, if
//! it only reads or does no harm when it is done twice. A write with an unknown outcome is never repeated.

use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::WatchRequest;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::draw::Draw;
use super::mind::Mind;
use super::plan::Plan;
use crate::cluster::ports::{Act, Endpoints, Returned};
use crate::observe::{ClientId, OpId, StreamId};
use quoin_model::call::{Answer, Call, Refusal};

/// gRPC's code for a member that is unavailable.
const UNAVAILABLE: i32 = 14;
/// The client library's pause once every endpoint has been tried.
const BACKOFF: Duration = Duration::from_millis(25);
/// How often the client library sends a request at most.
const ATTEMPTS_MAX: u32 = 100;

/// Ids for requests and streams, unique in a run.
#[derive(Clone, Debug, Default)]
pub struct Names {
    last_op: u64,
    last_stream: u64,
}

/// The context in which a client acts.
pub struct Desk<'a> {
    /// True time.
    pub now: Instant,
    /// The members.
    pub world: &'a Endpoints,
    /// What the clients have seen.
    pub mind: &'a mut Mind,
    /// The seed's plan.
    pub plan: &'a Plan,
    /// Unused ids.
    pub names: &'a mut Names,
    /// The actions of the client.
    pub acts: &'a mut Vec<Act>,
    /// The client's number.
    pub client: ClientId,
}

impl Desk<'_> {
    /// Draws requests.
    pub fn draw<'b>(&'b mut self, prng: &'b mut Prng) -> Draw<'b> {
        Draw {
            prng,
            plan: self.plan,
            mind: self.mind,
            world: self.world,
        }
    }

    /// Opens a stream.
    pub fn open(&mut self, member: MemberId) -> StreamId {
        self.names.last_stream += 1;
        let stream = StreamId(self.names.last_stream);
        self.acts.push(Act::Open {
            stream,
            client: self.client,
            member,
        });
        stream
    }

    /// Sends on a stream.
    pub fn watch(&mut self, stream: StreamId, request: WatchRequest) {
        self.acts.push(Act::Watch { stream, request });
    }

    /// Reads nothing of a stream for a while, and then this many responses at a time.
    pub fn pause(&mut self, stream: StreamId, until: Instant, sips: usize) {
        self.acts.push(Act::Pause { stream, until, sips });
    }

    /// Closes a stream.
    pub fn close(&mut self, stream: StreamId) {
        self.acts.push(Act::CloseStream { stream });
    }

    fn ask(&mut self, member: MemberId, call: Call, deadline: Instant) -> OpId {
        self.names.last_op += 1;
        let op = OpId(self.names.last_op);
        self.acts.push(Act::Ask {
            op,
            client: self.client,
            member,
            call,
            deadline,
        });
        op
    }
}

/// The choice of the member for the next request.
#[derive(Clone, Debug)]
pub struct Rota {
    at: usize,
    /// Whether to move on after every request.
    round_robin: bool,
    picks: u64,
}

/// One choice in this many ignores whether a member is down, or a learner.
const BLIND_ODDS: u64 = 8;

impl Rota {
    /// Starts at a random member.
    pub fn new(prng: &mut Prng, round_robin: bool) -> Self {
        Self {
            at: usize::try_from(prng.below(64)).unwrap_or(0),
            round_robin,
            picks: 0,
        }
    }

    /// The member to ask; `None` if there is none.
    ///
    /// Mostly a member whose process runs, which the library sees from its connections, and that has a vote, because a
    /// learner serves almost nothing.
    pub fn pick(&mut self, world: &Endpoints) -> Option<MemberId> {
        let count = world.members.len();
        self.at = self.at.checked_rem(count)?;
        self.picks += 1;
        if !self.picks.is_multiple_of(BLIND_ODDS) {
            let place = |step| (self.at + step) % count;
            let serves = |at: usize| world.members[at].is_started && !world.members[at].is_learner;
            self.at = (0..count).map(place).find(|at| serves(*at)).unwrap_or(self.at);
        }
        let member = world.members[self.at].id;
        if self.round_robin {
            self.move_on();
        }
        Some(member)
    }

    /// Begins with the next member from now on.
    pub const fn move_on(&mut self) {
        self.at += 1;
    }
}

/// How a request ended, all attempts included.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An answer.
    Answered(Answer),
    /// An error.
    Refused(Refusal),
    /// Unknown.
    Lost,
}

/// A pending request, or one that is to be repeated.
#[derive(Clone, Debug)]
struct Errand {
    op: OpId,
    /// The call, unless it is long and never repeated.
    call: Option<Call>,
    attempts: u32,
    deadline: Instant,
    gives_up_at: Option<Instant>,
    again_at: Option<Instant>,
}

/// Holds at most one request.
#[derive(Clone, Debug, Default)]
pub struct Line {
    errand: Option<Errand>,
}

impl Line {
    /// Whether no request is pending.
    pub const fn is_free(&self) -> bool {
        self.errand.is_none()
    }

    /// Whether this is the pending request.
    pub fn carries(&self, op: OpId) -> bool {
        self.errand
            .as_ref()
            .is_some_and(|errand| errand.op == op && errand.again_at.is_none())
    }

    /// When it is to repeat the request or to give up.
    pub fn wakes_at(&self) -> Option<Instant> {
        let errand = self.errand.as_ref()?;
        errand.again_at.or(errand.gives_up_at)
    }

    /// Sends a request; false if there is no member to send it to.
    pub fn ask(&mut self, desk: &mut Desk<'_>, rota: &mut Rota, call: Call, timeout: Duration) -> bool {
        let Some(member) = rota.pick(desk.world) else {
            return false;
        };
        let kept = is_kept(&call).then(|| call.clone());
        let deadline = desk.now + timeout;
        let op = desk.ask(member, call, deadline);
        self.errand = Some(Errand {
            op,
            call: kept,
            attempts: 1,
            deadline,
            gives_up_at: None,
            again_at: None,
        });
        true
    }

    /// Gives up after `moment`; the member does not learn of that.
    pub fn give_up_at(&mut self, moment: Instant) {
        if let Some(errand) = &mut self.errand {
            errand.gives_up_at = Some(moment);
        }
    }

    /// Repeats the request, or gives up, if it is time. An outcome means that the line is free.
    pub fn wake(&mut self, desk: &mut Desk<'_>, rota: &mut Rota) -> Option<Outcome> {
        let errand = self.errand.as_mut()?;
        if let Some(again_at) = errand.again_at {
            if desk.now < again_at {
                return None;
            }
            let (Some(call), Some(member)) = (&errand.call, rota.pick(desk.world)) else {
                self.errand = None;
                return Some(Outcome::Lost);
            };
            errand.op = desk.ask(member, call.clone(), errand.deadline);
            errand.attempts += 1;
            errand.again_at = None;
        } else if errand.gives_up_at.is_some_and(|moment| moment <= desk.now) {
            desk.acts.push(Act::GiveUp { op: errand.op });
            self.errand = None;
            return Some(Outcome::Lost);
        }
        None
    }

    /// A request has ended. An outcome means that the line is free; otherwise the request will be repeated.
    pub fn returned(&mut self, desk: &mut Desk<'_>, rota: &mut Rota, result: Returned) -> Option<Outcome> {
        let errand = self.errand.as_mut()?;
        let unavailable = match &result {
            Some(Ok(_)) => false,
            Some(Err(refusal)) => refusal.code == UNAVAILABLE,
            None => true,
        };
        if unavailable {
            rota.move_on();
            let members = u32::try_from(desk.world.members.len()).unwrap_or(1);
            let quorum = members / 2 + 1;
            let pause = if errand.attempts.is_multiple_of(quorum) {
                BACKOFF
            } else {
                Duration::ZERO
            };
            let again_at = desk.now + pause;
            let again = errand.call.as_ref().is_some_and(is_repeatable) && errand.attempts < ATTEMPTS_MAX;
            if again && again_at < errand.deadline {
                errand.again_at = Some(again_at);
                errand.gives_up_at = None;
                return None;
            }
        }
        let call = self.errand.take().and_then(|errand| errand.call);
        Some(match result {
            Some(Ok(answer)) => {
                desk.mind.learn(desk.now, call.as_ref(), &answer);
                Outcome::Answered(answer)
            }
            Some(Err(refusal)) => Outcome::Refused(refusal),
            None => Outcome::Lost,
        })
    }
}

/// Whether etcd's client library repeats this call by itself while members are unavailable. It does so with leases,
/// too: revoking one twice does no harm, and one granted twice expires by itself.
pub fn is_repeatable(call: &Call) -> bool {
    match call {
        Call::Alarm(_) | Call::LeaseGrant(_) | Call::LeaseRevoke(_) => true,
        Call::Lock(_) | Call::Txn(_) => false,
        other => other.is_read(),
    }
}

/// Whether the call is kept, to repeat it or to interpret its answer.
fn is_kept(call: &Call) -> bool {
    is_repeatable(call) || matches!(call, Call::Compact(_) | Call::DeleteRange(_) | Call::Put(_))
}
