//! The election service. The leader is the oldest key under `<name>/`; each candidate has a key there, which ends with
//! its lease and whose value the candidate announces.

use std::collections::VecDeque;

use bytes::Bytes;

use super::recipe::{self, Queue, Recipe, RecipeStep};
use super::{Answer, Call};
use crate::error::Error;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{ResponseHeader, TxnResponse, WatchCreateRequest, WatchResponse};
use crate::proto::mvccpb::KeyValue;
use crate::proto::mvccpb::event::EventType;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};

/// Waits until a candidate is the leader.
#[derive(Debug)]
pub(super) struct Campaigning {
    request: CampaignRequest,
    key: Bytes,
    /// The header of the answer: that of the transaction that created the key, or found it.
    header: Option<ResponseHeader>,
    queue: Queue,
    stage: Stage,
}

/// The step whose result a [`Campaigning`] waits for.
#[derive(Debug)]
enum Stage {
    /// The grant of a lease.
    Grant,
    /// The transaction that creates its key.
    Enter,
    /// The transaction that writes the value of a key that was there before.
    Announce,
    /// The deletion of the keys before its own.
    Wait,
    /// None: the call has its result.
    Over,
}

impl Campaigning {
    pub(super) fn new(request: CampaignRequest) -> Self {
        let prefix = recipe::prefix(&request.name);
        Self {
            request,
            key: Bytes::new(),
            header: None,
            queue: Queue { prefix, own: 0 },
            stage: Stage::Grant,
        }
    }

    fn enter(&mut self) -> RecipeStep {
        self.stage = Stage::Enter;
        self.key = recipe::key(&self.queue.prefix, self.request.lease);
        let put = recipe::put(&self.key, self.request.value.clone(), self.request.lease);
        let get = Op::RequestRange(recipe::get(&self.key));
        RecipeStep::Call(recipe::if_created(&self.key, 0, vec![put], vec![get]))
    }

    fn entered(&mut self, response: TxnResponse) -> RecipeStep {
        self.header = response.header;
        self.queue.own = recipe::revision(self.header.as_ref());
        let found = recipe::range_at(&response, 0).and_then(|range| range.kvs.first());
        if !response.succeeded
            && let Some(own) = found
        {
            self.queue.own = own.create_revision;
            if own.value != self.request.value {
                self.stage = Stage::Announce;
                let value = self.request.value.clone();
                let put = announce(&self.key, self.queue.own, value, self.request.lease);
                return RecipeStep::Call(put);
            }
        }
        self.wait()
    }

    fn wait(&mut self) -> RecipeStep {
        self.stage = Stage::Wait;
        self.queue.look()
    }

    fn elected(&mut self) -> RecipeStep {
        self.stage = Stage::Over;
        RecipeStep::Answer(Answer::Campaign(CampaignResponse {
            header: self.header,
            leader: Some(LeaderKey {
                name: self.request.name.clone(),
                key: self.key.clone(),
                rev: self.queue.own,
                lease: self.request.lease,
            }),
        }))
    }

    fn withdraw(&self) -> Call {
        resign(&self.key, self.queue.own)
    }
}

impl Recipe for Campaigning {
    fn begin(&mut self) -> RecipeStep {
        if self.request.lease == 0 {
            return recipe::grant();
        }
        self.enter()
    }

    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error> {
        Ok(match (&self.stage, answer) {
            (Stage::Grant, Answer::LeaseGrant(granted)) => {
                self.request.lease = granted.id;
                self.enter()
            }
            (Stage::Enter, Answer::Txn(response)) => self.entered(response),
            (Stage::Announce, Answer::Txn(response)) if response.succeeded => self.wait(),
            (Stage::Announce, Answer::Txn(_)) => {
                self.stage = Stage::Over;
                return Err(Error::ElectionNotLeader);
            }
            (Stage::Wait, Answer::Range(found)) => self.queue.looked(&found).unwrap_or_else(|| self.elected()),
            (stage, answer) => unreachable!("{answer:?} is no result of {stage:?}"),
        })
    }

    fn saw(&mut self, response: &WatchResponse) -> Result<RecipeStep, Error> {
        self.queue.saw(response)
    }

    /// As in etcd, a candidate whose wait has failed keeps its key, and one whose value could not be written does not.
    fn failed(&self) -> Option<Call> {
        matches!(self.stage, Stage::Announce).then(|| self.withdraw())
    }

    fn abandoned(&self) -> Option<Call> {
        matches!(self.stage, Stage::Wait).then(|| self.withdraw())
    }
}

/// Writes the value of a leader's key, if the key has this creation revision.
fn announce(key: &Bytes, created: i64, value: Bytes, lease: i64) -> Call {
    recipe::if_created(key, created, vec![recipe::put(key, value, lease)], Vec::new())
}

/// Deletes a leader's key, if the key has this creation revision.
fn resign(key: &Bytes, created: i64) -> Call {
    let delete = Op::RequestDeleteRange(recipe::delete(key));
    recipe::if_created(key, created, vec![delete], Vec::new())
}

/// A change of the leader's key, by the leader. As in etcd, a lease is granted if the leader's key names none.
#[derive(Debug)]
pub(super) struct Leading {
    leader: LeaderKey,
    change: Change,
}

/// What a [`Leading`] changes.
#[derive(Debug)]
enum Change {
    /// The value.
    Proclaim(Bytes),
    /// The key is deleted.
    Resign,
}

impl Leading {
    /// # Errors
    /// [`Error::ElectionLeaderMissing`].
    pub(super) fn proclaim(request: ProclaimRequest) -> Result<Self, Error> {
        Ok(Self {
            leader: request.leader.ok_or(Error::ElectionLeaderMissing)?,
            change: Change::Proclaim(request.value),
        })
    }

    /// # Errors
    /// [`Error::ElectionLeaderMissing`].
    pub(super) fn resign(request: ResignRequest) -> Result<Self, Error> {
        Ok(Self {
            leader: request.leader.ok_or(Error::ElectionLeaderMissing)?,
            change: Change::Resign,
        })
    }

    fn change(&self) -> RecipeStep {
        let LeaderKey { key, rev, lease, .. } = &self.leader;
        RecipeStep::Call(match &self.change {
            Change::Proclaim(value) => announce(key, *rev, value.clone(), *lease),
            Change::Resign => resign(key, *rev),
        })
    }
}

impl Recipe for Leading {
    fn begin(&mut self) -> RecipeStep {
        if self.leader.lease == 0 {
            return recipe::grant();
        }
        self.change()
    }

    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error> {
        let response = match answer {
            Answer::LeaseGrant(granted) => {
                self.leader.lease = granted.id;
                return Ok(self.change());
            }
            Answer::Txn(response) => response,
            other => unreachable!("{other:?} is no result of {:?}", self.change),
        };
        let header = response.header;
        Ok(RecipeStep::Answer(match self.change {
            Change::Proclaim(_) if !response.succeeded => return Err(Error::ElectionNotLeader),
            Change::Proclaim(_) => Answer::Proclaim(ProclaimResponse { header }),
            // A leader that is none any more resigns without an error.
            Change::Resign => Answer::Resign(ResignResponse { header }),
        }))
    }
}

/// Reads the leader's key.
#[derive(Debug)]
pub(super) struct Asking(pub(super) LeaderRequest);

impl Recipe for Asking {
    fn begin(&mut self) -> RecipeStep {
        let prefix = recipe::prefix(&self.0.name);
        RecipeStep::Call(Call::Range(recipe::first(&prefix)))
    }

    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error> {
        let Answer::Range(found) = answer else {
            unreachable!("{answer:?} is no result of a range");
        };
        let leader = found.kvs.into_iter().next().ok_or(Error::ElectionNoLeader)?;
        Ok(RecipeStep::Answer(Answer::Leader(LeaderResponse {
            header: found.header,
            kv: Some(leader),
        })))
    }
}

/// Reports the leader, each value that it announces, and each leader after it. Like etcd's, the stream ends without an
/// error if a read or the watch of it fails.
#[derive(Debug)]
pub struct Observer {
    prefix: Bytes,
    /// The watch waits for the first leader; otherwise it follows the leader's key.
    is_vacant: bool,
    /// What the client is sent next.
    ready: VecDeque<LeaderResponse>,
}

impl Observer {
    pub(super) fn new(request: &LeaderRequest) -> Self {
        Self {
            prefix: recipe::prefix(&request.name),
            is_vacant: true,
            ready: VecDeque::new(),
        }
    }

    /// The next message for the client, if there is one.
    pub fn next_response(&mut self) -> Option<LeaderResponse> {
        self.ready.pop_front()
    }

    /// Reads the leader's key: the first step.
    #[must_use]
    pub fn begin(&self) -> RecipeStep {
        RecipeStep::Call(Call::Range(recipe::first(&self.prefix)))
    }

    /// Goes on with the answer to that call.
    #[must_use]
    pub fn answered(&mut self, answer: Answer) -> RecipeStep {
        let Answer::Range(found) = answer else {
            unreachable!("{answer:?} is no result of a range");
        };
        if let Some(leader) = found.kvs.into_iter().next() {
            return self.follow(found.header, leader);
        }
        self.is_vacant = true;
        RecipeStep::Watch(WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: recipe::end(&self.prefix),
            start_revision: recipe::revision(found.header.as_ref()),
            ..WatchCreateRequest::default()
        })
    }

    /// Goes on with a response of the watch; `None` ends the stream.
    #[must_use]
    pub fn saw(&mut self, response: WatchResponse) -> Option<RecipeStep> {
        if response.canceled {
            return None;
        }
        for event in response.events {
            let is_deleted = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            if self.is_vacant && !is_deleted {
                let header = response.header.map(|header| ResponseHeader {
                    revision: kv.mod_revision,
                    ..header
                });
                return Some(self.follow(header, kv));
            }
            if !self.is_vacant && is_deleted {
                return Some(self.begin());
            }
            if !self.is_vacant {
                self.report(response.header, kv);
            }
        }
        Some(RecipeStep::Wait)
    }

    /// Reports a leader and watches its key from then on.
    fn follow(&mut self, header: Option<ResponseHeader>, leader: KeyValue) -> RecipeStep {
        self.is_vacant = false;
        let key = leader.key.clone();
        self.report(header, leader);
        RecipeStep::Watch(WatchCreateRequest {
            key,
            start_revision: recipe::revision(header.as_ref()) + 1,
            ..WatchCreateRequest::default()
        })
    }

    fn report(&mut self, header: Option<ResponseHeader>, leader: KeyValue) {
        let kv = Some(leader);
        self.ready.push_back(LeaderResponse { header, kv });
    }
}
