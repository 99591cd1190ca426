//! The maintenance service: how the member is, alarms, hashes.
//!
//! Hashes walk the whole history, so they run on a lane of their own.

use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::READ_SLICE_ROWS;
use quoin_core::mvcc::{HashKv, Hashing};
use quoin_core::node::Request;
use quoin_core::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, StatusRequest, StatusResponse,
};
use quoin_core::store::Response as Applied;
use quoin_core::version::SERVER_VERSION;

use super::kv::unexpected;
use super::propose;
use crate::serve::grpc::status::{Status, UNKNOWN};
use crate::serve::{Context, facts};

/// How this member is. It answers whatever the cluster does.
pub(crate) fn status(context: &Context, _: StatusRequest) -> StatusResponse {
    let published = context.node.published();
    let (view, status) = (&published.view, &published.status);
    let mut header = None;
    facts::complete_from(context, &published, &mut header);
    let mut errors = Vec::new();
    if status.leader == MemberId::NONE {
        errors.push(Error::NoLeader.message().to_owned());
    }
    errors.extend(view.alarms.list(AlarmType::None).map(|alarm| alarm_text(&alarm)));
    let in_use = facts::in_use_bytes(&published);
    StatusResponse {
        header,
        version: SERVER_VERSION.to_owned(),
        // What was written last is not in the table yet.
        db_size: context.metrics.mvcc.db_bytes.get().max(in_use),
        leader: status.leader.0,
        raft_index: status.commit_index,
        raft_term: status.term,
        raft_applied_index: view.applied_index,
        errors,
        db_size_in_use: in_use,
        is_learner: status.is_learner,
        storage_version: facts::cluster_version(context).unwrap_or_default(),
        db_size_quota: context
            .settings
            .quota_bytes
            .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        downgrade_info: Some(
            view.cluster
                .downgrade()
                .map_or_else(DowngradeInfo::default, |downgrade| DowngradeInfo {
                    enabled: downgrade.enabled,
                    target_version: downgrade.target.clone(),
                }),
        ),
    }
}

/// An alarm as protobuf's text format has it, which is what etcd shows.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut text = String::new();
    if alarm.member_id != 0 {
        text.push_str(&format!("memberID:{} ", alarm.member_id));
    }
    if !facts::is_alarm(alarm, AlarmType::None) {
        text.push_str(&format!("alarm:{} ", alarm.alarm().as_str_name()));
    }
    text
}

/// Lists, sets or clears alarms, by agreement of the cluster even when they are only listed.
pub(crate) async fn alarm(context: &Context, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    match propose(context, Request::Alarm(request)).await? {
        Applied::Alarm(mut response) => {
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// A hash of the keys at a revision, equal on all members.
pub(crate) async fn hash_kv(context: &Context, request: HashKvRequest) -> Result<HashKvResponse, Status> {
    let view = context.node.published().view.kv.clone();
    let hash = match context.node.compact_hash(request.revision) {
        Some(remembered) => remembered,
        None => {
            let began = context.clock.now();
            let hash = hash_in_steps(context, Hashing::new(&view, request.revision)?).await?;
            let took = context.clock.now().saturating_since(began);
            context.metrics.mvcc.hash_revision_seconds.observe(took.as_secs_f64());
            hash
        }
    };
    let mut header = None;
    facts::complete(context, &mut header);
    Ok(HashKvResponse {
        header,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.hash_revision,
    })
}

/// Hashes in the lane for computations, in turns with others.
async fn hash_in_steps(context: &Context, hashing: Hashing) -> Result<HashKv, Error> {
    let mut hashing = Some(hashing);
    let step = move || {
        let is_over = hashing.as_mut().is_none_or(|hashing| hashing.step(READ_SLICE_ROWS));
        if is_over {
            hashing.take().map(Hashing::finish)
        } else {
            None
        }
    };
    context.compute.steps(step).await
}

/// A hash of what is stored. etcd's covers the bytes of its file, which there are none of here: it covers the keys.
pub(crate) async fn hash(context: &Context, _: HashRequest) -> Result<HashResponse, Status> {
    let began = context.clock.now();
    let view = context.node.published().view.kv.clone();
    let hash = hash_in_steps(context, Hashing::new(&view, 0)?).await?;
    let took = context.clock.now().saturating_since(began);
    context.metrics.mvcc.hash_seconds.observe(took.as_secs_f64());
    let mut header = None;
    facts::complete(context, &mut header);
    Ok(HashResponse {
        header,
        hash: hash.hash,
    })
}

/// Gives space back to the file system. Reads and writes go on meanwhile.
pub(crate) async fn defragment(context: &Context, _: DefragmentRequest) -> Result<DefragmentResponse, Status> {
    let began = context.clock.now();
    tracing::info!("starting defragment");
    let disk = &context.metrics.disk;
    disk.defrag_inflight.set(1);
    let result = context.node.defragment().await;
    disk.defrag_inflight.set(0);
    let took = context.clock.now().saturating_since(began);
    disk.backend_defrag_seconds.observe(took.as_secs_f64());
    match result {
        Ok(()) => {
            let bytes = context.metrics.mvcc.db_bytes.get();
            tracing::info!(
                "current-db-size-bytes" = bytes,
                ?took,
                "finished defragmenting directory"
            );
            tracing::info!("finished defragment");
            Ok(DefragmentResponse::default())
        }
        Err(why) => Err(Status::new(UNKNOWN, why)),
    }
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
