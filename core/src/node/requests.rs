//! Inputs: one method per kind of request, report and event. [`crate::store::check`] has already refused, on the
//! callers' tasks, the requests that are invalid by themselves.

use crate::bug;
use crate::error::Error;
use crate::id::MemberId;
use crate::member::{Halt, Origin, Reader, Reconfiguration, Token};
use crate::membership::{ConfChangeContext, Member as Peer};
use crate::proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest, RequestHeader};
use crate::proto::raftpb::{ConfChange, ConfChangeType, Message};
use crate::store::{Content, check};
use crate::time::Instant;

use super::{Done, Node, PeerEvent, Request};

impl Node {
    /// A client's request.
    pub(super) fn request(&mut self, now: Instant, token: Token, request: Request, deadline: Instant) {
        let deadline = deadline.min(now + self.config.member.request_timeout());
        let (caller, request) = match request {
            Request::By { caller, request } => (caller, *request),
            request => (RequestHeader::default(), request),
        };
        let accepted = match request {
            _ if self.halted => Err(Error::Stopped),
            Request::Alarm(request) => self.propose(now, token, deadline, (caller, Content::Alarm(request))),
            Request::Auth(change) => self.propose(now, token, deadline, (caller, Content::Auth(change))),
            Request::Authenticate(request) => {
                self.propose(now, token, deadline, (caller, Content::Authenticate(request)))
            }
            // A request has one user.
            Request::By { .. } => Err(Error::PermissionDenied),
            Request::Compact(request) => self.compact(now, token, deadline, (caller, request)),
            Request::DeleteRange(request) => {
                self.propose(now, token, deadline, (caller, Content::DeleteRange(request)))
            }
            Request::Downgrade(request) => self.propose(now, token, deadline, (caller, Content::Downgrade(request))),
            Request::LeaseGrant(request) => self.lease_grant(now, token, deadline, (caller, request)),
            Request::LeaseLeases => {
                self.lists_wanted.push(token);
                Ok(())
            }
            Request::LeaseRenew { id } => self.ask_leader(deadline, Reader::Renew(token, id)),
            Request::LeaseRevoke(request) => {
                self.propose(now, token, deadline, (caller, Content::LeaseRevoke(request)))
            }
            Request::LeaseTimeToLive { id, keys } => {
                self.ask_leader(deadline, Reader::TimeToLive { token, lease: id, keys })
            }
            Request::MemberAdd {
                peer_urls,
                is_learner,
                unix_seconds,
            } => {
                let change = self.member_add(now, peer_urls, is_learner, unix_seconds);
                self.reconfigure(now, token, deadline, change)
            }
            Request::MemberPromote { id } => {
                self.promoting.insert(token);
                let change = self.member_promote(now, id);
                self.reconfigure(now, token, deadline, change)
            }
            Request::MemberRemove { id } => {
                let change = self.member_remove(now, id);
                self.reconfigure(now, token, deadline, change)
            }
            Request::MemberUpdate { id, peer_urls } => {
                let change = self.member_update(id, peer_urls);
                self.reconfigure(now, token, deadline, Ok(change))
            }
            Request::MoveLeader { to } => {
                self.member.move_leader(token, to, deadline, &mut self.outputs);
                Ok(())
            }
            Request::Put(request) => self.propose(now, token, deadline, (caller, Content::Put(request))),
            Request::Read => self.member.read(Reader::Read(token), deadline),
            Request::Stop => {
                self.member.stop(now, &mut self.outputs);
                Ok(())
            }
            Request::Txn(request) => self.propose(now, token, deadline, (caller, Content::Txn(request))),
        };
        if let Err(error) = accepted {
            self.reply(token, Err(error));
        }
    }

    /// A message from a peer. Messages of removed members are ignored, even if another member forwards them.
    pub(super) fn message(&mut self, now: Instant, from: MemberId, message: Message) {
        let cluster = self.store.view().cluster;
        if !cluster.is_removed(from) && !cluster.is_removed(MemberId(message.from)) {
            self.member.message(now, from, message, &mut self.outputs);
        }
    }

    /// A client cancelled its request.
    pub(super) fn cancel(&mut self, token: Token) {
        self.promoting.remove(&token);
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

    fn compact(
        &mut self,
        now: Instant,
        token: Token,
        deadline: Instant,
        (caller, request): (RequestHeader, CompactionRequest),
    ) -> Result<(), Error> {
        let origin = if request.physical {
            Origin::Compact(token)
        } else {
            Origin::Client(token)
        };
        self.has_room()?;
        self.member
            .propose(now, origin, deadline, (caller, Content::Compaction(request)))
    }

    fn lease_grant(
        &mut self,
        now: Instant,
        token: Token,
        deadline: Instant,
        (caller, mut request): (RequestHeader, LeaseGrantRequest),
    ) -> Result<(), Error> {
        if request.id == 0 {
            // The id may be in use: a client chose it, or the wall clock was set back between two starts.
            let leases = self.store.view().leases;
            let mut draws = std::iter::repeat_with(|| self.member.lease_id());
            request.id = draws.find(|id| leases.get(*id).is_none()).unwrap_or_default();
        }
        self.propose(now, token, deadline, (caller, Content::LeaseGrant(request)))
    }

    /// A request that only the leader can answer: it waits until leadership is confirmed.
    fn ask_leader(&mut self, deadline: Instant, reader: Reader) -> Result<(), Error> {
        if !self.member.leads() {
            return Err(Error::NotLeader);
        }
        self.member.read(reader, deadline)
    }

    fn member_add(
        &self,
        now: Instant,
        mut peer_urls: Vec<String>,
        is_learner: bool,
        unix_seconds: u64,
    ) -> Result<ConfChange, Error> {
        self.may_reconfigure(now, Reconfiguration::Add { is_learner })?;
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
        Ok(conf_change(change_type as i32, id, member.to_json()))
    }

    fn member_promote(&self, now: Instant, id: MemberId) -> Result<ConfChange, Error> {
        self.may_reconfigure(now, Reconfiguration::Promote(id))?;
        if self.ambiguous.contains(&id) {
            // An etcd that takes the learner for a voter gives the same answer. If this member proposed the promotion,
            // such an etcd would refuse it at apply and this member would not, and they would count different quorums.
            return Err(Error::MemberNotLearner);
        }
        let context = ConfChangeContext::promotion(id).to_json();
        Ok(conf_change(ConfChangeType::AddNode as i32, id, context))
    }

    fn member_remove(&self, now: Instant, id: MemberId) -> Result<ConfChange, Error> {
        self.may_reconfigure(now, Reconfiguration::Remove(id))?;
        Ok(conf_change(ConfChangeType::RemoveNode as i32, id, Vec::new()))
    }

    fn member_update(&self, id: MemberId, mut peer_urls: Vec<String>) -> ConfChange {
        peer_urls.sort_unstable();
        let cluster = self.store.view().cluster;
        let member = Peer {
            id,
            peer_urls,
            // etcd up to 3.6.11 takes this field over from the update.
            is_learner: cluster.member(id).is_some_and(|member| member.is_learner),
            ..Peer::default()
        };
        conf_change(ConfChange::UPDATE_NODE, id, member.to_json())
    }

    /// Proposes a client's request. If the quota leaves too little space for it, the NOSPACE alarm is raised instead.
    fn propose(
        &mut self,
        now: Instant,
        token: Token,
        deadline: Instant,
        request: (RequestHeader, Content),
    ) -> Result<(), Error> {
        let cost = request.1.cost();
        if !check::fits_quota(cost, self.store.size_bytes(), self.config.quota_bytes) {
            self.raise_no_space(now, Some(token));
            return Ok(());
        }
        self.has_room()?;
        self.member.propose(now, Origin::Client(token), deadline, request)
    }

    /// Fails if too many rows wait for the table.
    fn has_room(&self) -> Result<(), Error> {
        if self.writes.is_full() {
            Err(Error::TooManyRequests)
        } else {
            Ok(())
        }
    }

    fn may_reconfigure(&self, now: Instant, change: Reconfiguration) -> Result<(), Error> {
        let members: Vec<Peer> = self.store.view().cluster.members().cloned().collect();
        self.member.may_reconfigure(now, change, &members)
    }

    /// Proposes a client's change of the members, unless it was refused.
    fn reconfigure(
        &mut self,
        now: Instant,
        token: Token,
        deadline: Instant,
        change: Result<ConfChange, Error>,
    ) -> Result<(), Error> {
        self.member
            .propose_conf_change(now, Origin::Client(token), deadline, change?)
    }
}

fn conf_change(change_type: i32, id: MemberId, context: Vec<u8>) -> ConfChange {
    ConfChange {
        change_type,
        node_id: id.0,
        context: context.into(),
        ..ConfChange::default()
    }
}
