//! The expected answer of every step of a script, and the expected events of watches, from the reference model.
//!
//! A planned script also says where a client must wait until all events have arrived, because otherwise etcd's grouping
//! of events into responses depends on time: before watches change, after watches that start in the past, and when many
//! events are due.

use std::collections::BTreeSet;

use quoin_core::proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RequestHeader,
};
use quoin_model::call::{Answer, Call, Refusal};
use quoin_model::etcd::{Rules, State, check};

use prost::Message as _;

use super::step::Step;
use super::watching::{Due, Watching};

/// The largest number of responses that may be due on a stream: etcd queues 128, and groups further ones differently.
const MOST_UNDER_WAY: usize = 60;
/// One and a half election timeouts, in whole seconds.
const MIN_TTL: i64 = 1;
/// The model's id for a lease whose id the server chooses.
const CHOSEN_ID: i64 = 0x6c65_6173_6521;

/// The settings of both servers, which the model needs too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
}

impl Settings {
    /// As flags. A short election timeout lets servers start fast and leases expire soon.
    #[must_use]
    pub fn flags(&self) -> [String; 4] {
        [
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
            format!("--max-txn-ops={}", self.max_txn_ops),
            format!("--max-request-bytes={}", self.max_request_bytes),
        ]
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_txn_ops: 128,
            max_request_bytes: 65_536,
        }
    }
}

/// The model's expectation of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Exactly this answer.
    Known(Box<Result<Answer, Refusal>>),
    /// The model has no answer, but the servers must agree.
    Silent,
}

impl Expected {
    fn known(reply: Result<Answer, Refusal>) -> Self {
        Self::Known(Box::new(reply))
    }
}

/// A step, the events to wait for before it, and the expected answers.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// The events that must have arrived on watch streams before it, if they are to be checked.
    pub due: Option<Due>,
    /// One for each answer.
    pub replies: Vec<Expected>,
}

/// The model, extended by watches and limits of size.
#[derive(Clone, Debug)]
pub struct Oracle {
    settings: Settings,
    state: State,
    watching: Watching,
    /// The revisions of compactions. There etcd answers HashKV with a remembered hash, which the model does not have.
    remembered: BTreeSet<i64>,
}

impl Oracle {
    /// An empty server with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::with_rules(Rules {
                min_lease_ttl: MIN_TTL,
                ..Rules::default()
            }),
            watching: Watching::new(settings.max_request_bytes),
            remembered: BTreeSet::new(),
        }
    }

    /// The applied state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The settings of the servers.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The revision compacted; -1 if there was none.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.state.compact_revision_at(self.state.applied_index())
    }

    /// The watches of a stream.
    #[must_use]
    pub fn watch_ids(&self, stream: u8) -> Vec<i64> {
        self.watching.ids(stream)
    }

    /// Applies the next step of a script, and returns it with its expected answers.
    pub fn plan(&mut self, step: Step) -> Planned {
        let due = self.must_settle(&step).then(|| self.take_due());
        let before = self.state.revision();
        let replies = self.perform(&step);
        for revision in before + 1..=self.state.revision() {
            self.watching.happen(&self.state, revision);
        }
        Planned { step, due, replies }
    }

    /// The events that must have arrived when the script has ended.
    pub fn finish(&mut self) -> Due {
        let mut due = self.take_due();
        due.is_last = true;
        due
    }

    fn take_due(&mut self) -> Due {
        let mut due = self.watching.take_due();
        due.revision = self.state.revision();
        due
    }

    fn must_settle(&self, step: &Step) -> bool {
        let watching = &self.watching;
        if watching.most_due() > MOST_UNDER_WAY {
            return true;
        }
        match step {
            // Several watches may be created together, but none while events are due.
            Step::Watch(_, request) if is_create(request) => watching.has_events_due(),
            Step::Watch(..) | Step::Reset(_) | Step::Expire { .. } | Step::Ask(Call::Compact(_)) => {
                watching.is_unsettled()
            }
            Step::Ask(call) => !call.is_read() && watching.is_changing(),
            Step::Bare(_) | Step::Brief(_) | Step::Defragment => watching.is_changing(),
            Step::Pause => false,
        }
    }

    fn perform(&mut self, step: &Step) -> Vec<Expected> {
        match step {
            Step::Ask(Call::MemberList(_) | Call::Status) | Step::Bare(_) | Step::Defragment => vec![Expected::Silent],
            Step::Ask(Call::HashKv(request)) if self.remembered.contains(&request.revision) => vec![Expected::Silent],
            Step::Ask(call) => vec![Expected::known(self.ask(call))],
            Step::Brief(request) => self.brief(*request),
            Step::Expire { id, ttl, keys } => self.expire(*id, *ttl, keys),
            Step::Pause => Vec::new(),
            Step::Reset(stream) => {
                self.watching.reset(*stream);
                Vec::new()
            }
            Step::Watch(stream, request) => {
                self.watching.request(&self.state, *stream, request);
                Vec::new()
            }
        }
    }

    fn ask(&mut self, call: &Call) -> Result<Answer, Refusal> {
        check(call, self.settings.max_txn_ops)?;
        if proposal_bytes(call) > self.settings.max_request_bytes {
            return Err(too_large());
        }
        let mut answer = self.state.execute(call)?;
        match (call, &mut answer) {
            // etcd 3.5 does not have this field.
            (_, Answer::HashKv(response)) => response.hash_revision = 0,
            (Call::Compact(request), _) => {
                self.remembered.insert(request.revision);
            }
            (_, _) => {}
        }
        Ok(answer)
    }

    fn brief(&mut self, request: LeaseGrantRequest) -> Vec<Expected> {
        let id = if request.id == 0 { CHOSEN_ID } else { request.id };
        let mut grant = self.ask(&Call::LeaseGrant(LeaseGrantRequest { id, ..request }));
        let mut replies = Vec::new();
        if grant.is_ok() {
            let revoke = self.ask(&Call::LeaseRevoke(LeaseRevokeRequest { id }));
            replies.push(Expected::known(revoke));
        }
        if let Ok(Answer::LeaseGrant(response)) = &mut grant {
            response.id = request.id;
        }
        replies.insert(0, Expected::known(grant));
        replies
    }

    /// The answers to the grant and the puts, then that the lease lived for its TTL, then that it is gone.
    fn expire(&mut self, id: i64, ttl: i64, keys: &[bytes::Bytes]) -> Vec<Expected> {
        let mut replies = vec![self.ask(&Call::LeaseGrant(LeaseGrantRequest { ttl, id }))];
        for key in keys {
            replies.push(self.ask(&Call::Put(expiring_put(id, key))));
        }
        let _ = self.ask(&Call::LeaseRevoke(LeaseRevokeRequest { id }));
        replies.push(Ok(Answer::Internal));
        replies.push(self.ask(&Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true })));
        replies.into_iter().map(Expected::known).collect()
    }
}

fn is_create(request: &quoin_core::proto::etcdserverpb::WatchRequest) -> bool {
    use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
    matches!(request.request_union, Some(RequestUnion::CreateRequest(_)))
}

/// A write with a lease that will expire.
pub(super) fn expiring_put(lease: i64, key: &bytes::Bytes) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: "expires".into(),
        lease,
        ..PutRequest::default()
    }
}

/// The size of a call's entry in the log, or a few bytes more; 0 for reads and for calls that are always small.
fn proposal_bytes(call: &Call) -> usize {
    if call.is_read() {
        return 0;
    }
    let mut entry = InternalRaftRequest {
        header: Some(RequestHeader {
            id: u64::MAX,
            ..RequestHeader::default()
        }),
        ..InternalRaftRequest::default()
    };
    match call {
        Call::Put(request) => entry.put = Some(request.clone()),
        Call::Txn(request) => entry.txn = Some(request.clone()),
        Call::DeleteRange(request) => entry.delete_range = Some(request.clone()),
        // All others are small.
        Call::Alarm(_)
        | Call::Auth(_)
        | Call::Authenticate(_)
        | Call::Compact(_)
        | Call::HashKv(_)
        | Call::LeaseGrant(_)
        | Call::LeaseKeepAlive { .. }
        | Call::LeaseLeases
        | Call::LeaseRevoke(_)
        | Call::LeaseTimeToLive(_)
        | Call::Lock(_)
        | Call::MemberAdd(_)
        | Call::MemberList(_)
        | Call::MemberPromote(_)
        | Call::MemberRemove(_)
        | Call::MemberUpdate(_)
        | Call::MoveLeader(_)
        | Call::Range(_)
        | Call::Status => return 0,
    }
    entry.encoded_len()
}

fn too_large() -> Refusal {
    Refusal {
        code: 3,
        message: "etcdserver: request is too large".to_owned(),
    }
}
