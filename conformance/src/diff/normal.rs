//! Normalises answers: removes what must differ between two servers, such as ids, file sizes and times.

use quoin_core::proto::etcdserverpb::{
    Member, ResponseHeader, ResponseOp, StatusResponse, response_op::Response as Done,
};
use quoin_model::call::Answer;

use super::step::OWN_ID;

/// The number that replaces a header's ids and term if they are the expected ones.
const SENDER: u64 = 1;
/// By how many seconds the remaining time of a lease may be less than its TTL minus the elapsed time.
const ROUNDING: i64 = 3;

/// The identity of a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) member: u64,
    pub(super) term: u64,
    /// The leader when the client connected.
    pub(super) leader: u64,
    /// Whether it is the only member of its cluster.
    pub(super) is_alone: bool,
    pub(super) client: String,
    pub(super) peer: String,
}

impl Identity {
    /// The normalised answer. `lapse` is the age of the client in seconds: no lease of a script is older.
    pub(super) fn normal(&self, mut answer: Answer, lapse: i64) -> Answer {
        self.header(answer.header_mut());
        match &mut answer {
            Answer::Alarm(response) => {
                for alarm in &mut response.alarms {
                    alarm.member_id = self.own(alarm.member_id);
                }
                // etcd lists them in no fixed order.
                response.alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
            }
            Answer::LeaseTimeToLive(response) => {
                let least = response.granted_ttl - lapse - ROUNDING;
                if response.granted_ttl > 0 && (least..=response.granted_ttl).contains(&response.ttl) {
                    response.ttl = response.granted_ttl;
                }
                // etcd lists them in no fixed order either.
                response.keys.sort();
            }
            // etcd lists leases by their expiry, which only the leader knows. Followers list them in the order of a
            // map.
            Answer::LeaseLeases(response) if !self.is_alone => response.leases.sort_by_key(|lease| lease.id),
            Answer::MemberList(response) => {
                // The model has one member, so only the answering member is kept of a list of several.
                if !self.is_alone && response.members.len() > 1 {
                    response.members.retain(|member| member.id == self.member);
                }
                response.members.iter_mut().for_each(|member| self.member(member));
            }
            Answer::Status(response) => self.status(response),
            Answer::Txn(response) => response.responses.iter_mut().for_each(|op| self.nested(op)),
            Answer::Auth(_)
            | Answer::Authenticate(_)
            | Answer::Compact(_)
            | Answer::DeleteRange(_)
            | Answer::HashKv(_)
            | Answer::Internal
            | Answer::LeaseGrant(_)
            | Answer::LeaseKeepAlive(_)
            | Answer::LeaseLeases(_)
            | Answer::LeaseRevoke(_)
            | Answer::Lock(_)
            | Answer::MemberAdd(_)
            | Answer::MemberPromote(_)
            | Answer::MemberRemove(_)
            | Answer::MemberUpdate(_)
            | Answer::MoveLeader(_)
            | Answer::Put(_)
            | Answer::Range(_) => {}
        }
        answer
    }

    /// Replaces the ids of the answering member; other ids stay.
    pub(super) fn header(&self, header: Option<&mut ResponseHeader>) {
        if let Some(header) = header
            && (header.cluster_id, header.member_id) == (self.cluster, self.member)
            && self.is_term(header.raft_term)
        {
            (header.cluster_id, header.member_id, header.raft_term) = (SENDER, SENDER, SENDER);
        }
    }

    fn nested(&self, op: &mut ResponseOp) {
        match &mut op.response {
            Some(Done::ResponseDeleteRange(response)) => self.header(response.header.as_mut()),
            Some(Done::ResponsePut(response)) => self.header(response.header.as_mut()),
            Some(Done::ResponseRange(response)) => self.header(response.header.as_mut()),
            Some(Done::ResponseTxn(response)) => {
                self.header(response.header.as_mut());
                response.responses.iter_mut().for_each(|op| self.nested(op));
            }
            None => {}
        }
    }

    /// Whether the term is as expected: a cluster on a busy machine may elect again.
    fn is_term(&self, term: u64) -> bool {
        term == self.term || !self.is_alone && term > self.term
    }

    fn own(&self, id: u64) -> u64 {
        if id == self.member { OWN_ID } else { id }
    }

    fn member(&self, member: &mut Member) {
        member.id = self.own(member.id);
        for url in member.client_urls.iter_mut().chain(&mut member.peer_urls) {
            *url = url.replace(&self.client, "client").replace(&self.peer, "peer");
        }
    }

    fn status(&self, status: &mut StatusResponse) {
        let is_known = status.leader == self.leader || !self.is_alone && status.raft_term > self.term;
        if is_known && status.leader != 0 {
            status.leader = OWN_ID;
        }
        if self.is_term(status.raft_term) {
            status.raft_term = SENDER;
        }
        // Sizes and the length of the log differ between servers, but must not be zero.
        for size in [&mut status.db_size, &mut status.db_size_in_use] {
            *size = (*size).signum();
        }
        for index in [&mut status.raft_index, &mut status.raft_applied_index] {
            *index = (*index).min(1);
        }
        for error in &mut status.errors {
            *error = error.replace(&self.member.to_string(), "own");
        }
        status.errors.sort();
    }
}
