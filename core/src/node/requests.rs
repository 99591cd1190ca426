//! Inputs: one method per kind of request, report and event. Requests that are invalid by themselves were refused
//! before, on their callers' tasks, by [`crate::store::check`].

use crate::bug;
use crate::error::Error;
use crate::id::MemberId;
use crate::member::{Halt, Origin, Reader, Reconfiguration, Token};
use crate::membership::{ConfChangeContext, Member as Peer};
use crate::proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest};
use crate::proto::raftpb::{ConfChange, ConfChangeType, Message};
use crate::store::{Content, check};
use crate::time::Instant;

use super::{Done, Node, PeerEvent, Request};

/// The client behind a request, and its deadline.
#[derive(Clone, Copy)]
struct Caller {
    token: Token,
    now: Instant,
    deadline: Instant,
}

impl Node {
    /// A client's request.
    pub(super) fn request(&mut self, now: Instant, token: Token, request: Request, deadline: Instant) {
        let deadline = deadline.min(now + self.config.member.request_timeout());
        let caller = Caller { token, now, deadline };
        let accepted = match request {
            _ if self.halted => Err(Error::Stopped),
            Request::Alarm(request) => self.propose(caller, Content::Alarm(request)),
            Request::Compact(request) => self.compact(caller, request),
            Request::DeleteRange(request) => self.propose(caller, Content::DeleteRange(request)),
            Request::LeaseGrant(request) => self.lease_grant(caller, request),
            Request::LeaseLeases => {
                self.lists_wanted.push(token);
                Ok(())
            }
            Request::LeaseRenew { id } => self.ask_leader(caller, Reader::Renew(token, id)),
            Request::LeaseRevoke(request) => self.propose(caller, Content::LeaseRevoke(request)),
            Request::LeaseTimeToLive { id, keys } => {
                self.ask_leader(caller, Reader::TimeToLive { token, lease: id, keys })
            }
            Request::MemberAdd {
                peer_urls,
                is_learner,
                unix_seconds,
            } => self.member_add(caller, peer_urls, is_learner, unix_seconds),
            Request::MemberPromote { id } => self.member_promote(caller, id),
            Request::MemberRemove { id } => self.member_remove(caller, id),
            Request::MemberUpdate { id, peer_urls } => self.member_update(caller, id, peer_urls),
            Request::MoveLeader { to } => self.move_leader(caller, to),
            Request::Put(request) => self.propose(caller, Content::Put(request)),
            Request::Read => self.member.read(Reader::Read(token), deadline),
            Request::Stop => self.stop(caller),
            Request::Txn(request) => self.propose(caller, Content::Txn(request)),
        };
        if let Err(error) = accepted {
            self.reply(token, Err(error));
        }
    }

    /// A message from a peer. Messages of removed members are ignored, also those that another member forwards.
    pub(super) fn message(&mut self, now: Instant, from: MemberId, message: Message) {
        let cluster = self.store.view().cluster;
        if !cluster.is_removed(from) && !cluster.is_removed(MemberId(message.from)) {
            self.member.message(now, from, message, &mut self.outputs);
        }
    }

    /// A client cancelled its request.
    pub(super) fn cancel(&mut self, token: Token) {
        self.member.cancel(token);
        self.lessor.cancel(token);
        self.compaction.cancel(token);
    }

    /// A report of the host.
    pub(super) fn done(&mut self, now: Instant, done: Done) {
        match done {
            Done::Failed(fault) => self.member.fail(fault, &mut self.outputs),
            Done::Persisted { batch } => self.member.persisted(now, batch, &mut self.outputs),
            Done::Stored { batch, durable_index } => {
                self.writes.stored(batch);
                self.member.durable_to(durable_index, &mut self.outputs);
                self.compaction.stored(batch, &mut self.replies);
            }
        }
    }

    /// An event about a peer.
    pub(super) fn peer(&mut self, now: Instant, event: PeerEvent) {
        match event {
            PeerEvent::Active(id) => self.member.peer_active(now, id, &mut self.outputs),
            PeerEvent::Inactive(id) => {
                self.versions.heard(id, None);
                self.member.peer_inactive(id);
            }
            PeerEvent::RemovedUs => self.member.halt(Halt::Removed, &mut self.outputs),
            PeerEvent::Snapshot { to, received } => self.member.peer_snapshot(now, to, received),
            PeerEvent::Unreachable(id) => self.member.peer_unreachable(id),
            PeerEvent::Version(id, version) => self.versions.heard(id, version),
        }
    }

    fn compact(&mut self, caller: Caller, request: CompactionRequest) -> Result<(), Error> {
        let Caller { token, now, deadline } = caller;
        let origin = if request.physical {
            Origin::Compact(token)
        } else {
            Origin::Client(token)
        };
        self.has_room()?;
        self.member.propose(now, origin, deadline, Content::Compaction(request))
    }

    fn lease_grant(&mut self, caller: Caller, mut request: LeaseGrantRequest) -> Result<(), Error> {
        if request.id == 0 {
            // An id may have been drawn before, if the wall clock was set back between two starts, or chosen by a client.
            let leases = self.store.view().leases;
            let mut draws = std::iter::repeat_with(|| self.member.lease_id());
            request.id = draws.find(|id| leases.get(*id).is_none()).unwrap_or_default();
        }
        self.propose(caller, Content::LeaseGrant(request))
    }

    /// Requests that only a leader can answer: they wait until leadership is confirmed.
    fn ask_leader(&mut self, caller: Caller, reader: Reader) -> Result<(), Error> {
        if !self.member.leads() {
            return Err(Error::NotLeader);
        }
        self.member.read(reader, caller.deadline)
    }

    fn member_add(
        &mut self,
        caller: Caller,
        mut peer_urls: Vec<String>,
        is_learner: bool,
        unix_seconds: u64,
    ) -> Result<(), Error> {
        self.may_reconfigure(caller, Reconfiguration::Add { is_learner })?;
        peer_urls.sort_unstable();
        let id = if bug!(AddsByAddressAlone) {
            MemberId::compute(&peer_urls, "etcd-cluster", None)
        } else {
            MemberId::compute(&peer_urls, "", Some(unix_seconds))
        };
        let change_type = if is_learner {
            ConfChangeType::AddLearnerNode
        } else {
            ConfChangeType::AddNode
        };
        let member = Peer {
            id,
            peer_urls,
            is_learner,
            ..Peer::default()
        };
        self.reconfigure(caller, change_type as i32, id, member.to_json())
    }

    fn member_promote(&mut self, caller: Caller, id: MemberId) -> Result<(), Error> {
        self.may_reconfigure(caller, Reconfiguration::Promote(id))?;
        if self.ambiguous.contains(&id) {
            // An etcd that takes the learner for a voter answers this. It would refuse the change when it is applied,
            // and this member would not: from then on they would count different quorums.
            return Err(Error::MemberNotLearner);
        }
        self.reconfigure(
            caller,
            ConfChangeType::AddNode as i32,
            id,
            ConfChangeContext::promotion(id).to_json(),
        )
    }

    fn member_remove(&mut self, caller: Caller, id: MemberId) -> Result<(), Error> {
        self.may_reconfigure(caller, Reconfiguration::Remove(id))?;
        self.reconfigure(caller, ConfChangeType::RemoveNode as i32, id, Vec::new())
    }

    fn member_update(&mut self, caller: Caller, id: MemberId, mut peer_urls: Vec<String>) -> Result<(), Error> {
        peer_urls.sort_unstable();
        let cluster = self.store.view().cluster;
        let member = Peer {
            id,
            peer_urls,
            // Versions of etcd up to 3.6.11 take it over from here.
            is_learner: cluster.member(id).is_some_and(|member| member.is_learner),
            ..Peer::default()
        };
        self.reconfigure(caller, ConfChange::UPDATE_NODE, id, member.to_json())
    }

    fn move_leader(&mut self, caller: Caller, to: MemberId) -> Result<(), Error> {
        self.member
            .move_leader(caller.token, to, caller.deadline, &mut self.outputs);
        Ok(())
    }

    fn stop(&mut self, caller: Caller) -> Result<(), Error> {
        self.member.stop(caller.now, &mut self.outputs);
        Ok(())
    }

    /// Proposes a client's request. If the quota leaves too little space for it, the alarm is raised instead.
    fn propose(&mut self, caller: Caller, content: Content) -> Result<(), Error> {
        let Caller { token, now, deadline } = caller;
        let cost = content.cost();
        if !check::fits_quota(cost, self.store.size_bytes(), self.config.quota_bytes) {
            self.raise_no_space(now, Some(token));
            return Ok(());
        }
        self.has_room()?;
        self.member.propose(now, Origin::Client(token), deadline, content)
    }

    /// Whether the rows that wait for the table are within their bound.
    fn has_room(&self) -> Result<(), Error> {
        if self.writes.is_full() {
            Err(Error::TooManyRequests)
        } else {
            Ok(())
        }
    }

    fn may_reconfigure(&self, caller: Caller, change: Reconfiguration) -> Result<(), Error> {
        let members: Vec<Peer> = self.store.view().cluster.members().cloned().collect();
        self.member.may_reconfigure(caller.now, change, &members)
    }

    fn reconfigure(&mut self, caller: Caller, change_type: i32, id: MemberId, context: Vec<u8>) -> Result<(), Error> {
        let Caller { token, now, deadline } = caller;
        let change = ConfChange {
            change_type,
            node_id: id.0,
            context: context.into(),
            ..ConfChange::default()
        };
        self.member
            .propose_conf_change(now, Origin::Client(token), deadline, change)
    }
}
