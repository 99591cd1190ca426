//! The maintenance service: status, alarms, hashes, moving the leader.

use super::{Answer, Server, Step, Then};
use crate::error::Error;
use crate::id::MemberId;
use crate::mvcc::{HashKv, Hashing};
use crate::node::Request;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, DowngradeInfo, HashKvRequest, HashKvResponse, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, StatusResponse,
};
use crate::store::View;
use crate::version::SERVER_VERSION;

/// An estimate of the bytes of members, leases and the store's own rows: one page, the least that etcd reports.
const NOTES_BYTES: u64 = 4096;

/// A hash over the whole history.
#[derive(Debug)]
pub enum Computation {
    /// Of everything stored. etcd hashes the bytes of its file; there is no such file here, so the keys are hashed.
    Hash(Hashing),
    /// Of the keys at a revision; equal on all members.
    HashKv(Hashing),
}

impl Computation {
    /// Continues over about `rows` rows; true once the computation is complete.
    pub fn step(&mut self, rows: usize) -> bool {
        match self {
            Self::Hash(hashing) | Self::HashKv(hashing) => hashing.step(rows),
        }
    }

    /// The answer of a complete computation.
    #[must_use]
    pub fn answer(self, server: &Server<'_>) -> Answer {
        match self {
            Self::Hash(hashing) => Answer::Hash(HashResponse {
                header: Some(server.header()),
                hash: hashing.finish().hash,
            }),
            Self::HashKv(hashing) => hash_answer(server, hashing.finish()),
        }
    }
}

/// A hash of everything stored.
pub(super) fn hash(server: &Server<'_>) -> Result<Step, Error> {
    let hashing = Hashing::new(&server.view.kv, 0)?;
    Ok(Step::Compute(Computation::Hash(hashing)))
}

/// A hash of the keys at a revision. At a compaction's revision it is the hash that the compaction remembered.
pub(super) fn hash_kv(server: &Server<'_>, request: HashKvRequest) -> Result<Step, Error> {
    if let Some(remembered) = server.facts.compact_hash(request.revision) {
        return Ok(Step::Answer(hash_answer(server, remembered)));
    }
    let hashing = Hashing::new(&server.view.kv, request.revision)?;
    Ok(Step::Compute(Computation::HashKv(hashing)))
}

fn hash_answer(server: &Server<'_>, hash: HashKv) -> Answer {
    Answer::HashKv(HashKvResponse {
        header: Some(server.header()),
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.hash_revision,
    })
}

/// Lists, raises or clears alarms. All three go through the log, as in etcd.
pub(super) fn alarm(request: AlarmRequest) -> Step {
    Step::ask(Request::Alarm(request), Then::Answer)
}

/// Moves leadership to another member. It is not forwarded: etcd's client sends it to the leader.
pub(super) fn move_leader(server: &Server<'_>, request: MoveLeaderRequest) -> Result<Step, Error> {
    if !server.status.leads {
        return Err(Error::NotLeader);
    }
    let to = MemberId(request.target_id);
    Ok(Step::ask(Request::MoveLeader { to }, Then::Answer))
}

/// The answer once leadership has moved.
pub(super) fn moved(server: &Server<'_>) -> Answer {
    Answer::MoveLeader(MoveLeaderResponse {
        header: Some(server.header()),
    })
}

/// The status of this member. It is answered whatever the state of the cluster.
pub(super) fn status(server: &Server<'_>) -> Step {
    let (view, status) = (server.view, server.status);
    let mut errors = Vec::new();
    if status.leader == MemberId::NONE {
        errors.push(Error::NoLeader.message().to_owned());
    }
    errors.extend(view.alarms.list(AlarmType::None).map(|alarm| alarm_text(&alarm)));
    let in_use = in_use_bytes(view);
    let downgrade = view.cluster.downgrade().map(|downgrade| DowngradeInfo {
        enabled: downgrade.enabled,
        target_version: downgrade.target.clone(),
    });
    Step::Answer(Answer::Status(StatusResponse {
        header: Some(server.header()),
        version: SERVER_VERSION.to_owned(),
        // The newest rows are not in the table yet.
        db_size: server.facts.table_bytes().max(in_use),
        leader: status.leader.0,
        raft_index: status.commit_index,
        raft_term: status.term,
        raft_applied_index: view.applied_index,
        errors,
        db_size_in_use: in_use,
        is_learner: status.is_learner,
        storage_version: view
            .cluster
            .version()
            .map_or_else(String::new, |version| version.to_string()),
        db_size_quota: server
            .limits
            .quota_bytes
            .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        downgrade_info: Some(downgrade.unwrap_or_default()),
    }))
}

/// Bytes of the backing store that hold data.
#[must_use]
pub fn in_use_bytes(view: &View) -> i64 {
    i64::try_from(view.size_bytes.saturating_add(NOTES_BYTES)).unwrap_or(i64::MAX)
}

/// An alarm in protobuf's text format, which etcd shows.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut text = String::new();
    if alarm.member_id != 0 {
        text.push_str(&format!("memberID:{} ", alarm.member_id));
    }
    if alarm.alarm() != AlarmType::None {
        text.push_str(&format!("alarm:{} ", alarm.alarm().as_str_name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_reads_as_in_etcd() {
        let alarm = AlarmMember {
            member_id: 123,
            alarm: AlarmType::Nospace.into(),
        };
        assert_eq!(alarm_text(&alarm), "memberID:123 alarm:NOSPACE ");
        assert_eq!(alarm_text(&AlarmMember::default()), "");
    }
}
