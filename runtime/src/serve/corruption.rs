//! Compares this member's data with that of the other members, by the rules of [`quoin_core::corruption`].

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quoin_core::api::{Answer, PeerCall, PeerStep, hash_answer, hash_request, member_hash};
use quoin_core::corruption::{
    Findings, MemberHash, NoHash, PeerHash, check_compaction, check_initially, check_periodically,
};
use quoin_core::error::Error;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::limits::MAX_PEER_ANSWER_BYTES;
use quoin_core::mvcc::HashKv;
use quoin_core::node::Request;
use quoin_core::peer::PeerHead;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{AlarmRequest, AlarmType, HashKvRequest};

use super::Context;
use super::calls::{ask, compute};
use crate::logs;
use crate::peers::dial;

/// Compares this member's data with its peers' before it serves.
///
/// # Errors
/// The reason why it must not serve.
pub(crate) async fn check_before_serving(context: &Context) -> Result<(), String> {
    if !context.settings.initial_corrupt_check {
        return Ok(());
    }
    let me = MemberId(context.node.member_id());
    tracing::info!("local-member-id" = %me, "starting initial corruption check");
    let own = own_hash(context).await;
    let own = own.map_err(|error| format!("{me} failed to fetch hash ({error})"))?;
    let findings = check_initially(own, &peer_hashes(context, own.revision).await);
    findings.notices.iter().for_each(logs::notice);
    if !findings.alarms.is_empty() {
        return Err(format!("{me} found data inconsistency with peers"));
    }
    tracing::info!("local-member-id" = %me, "initial corruption checking passed; no corruption");
    Ok(())
}

/// Starts the checks that the leader makes from time to time, if they are switched on.
pub(crate) fn start(context: &Arc<Context>) {
    if let Some(interval) = context.settings.corrupt_check {
        let context = Arc::clone(context);
        let runtime = Arc::clone(&context.runtime);
        runtime.spawn(Box::pin(async move {
            while is_due(&context, interval).await {
                if let Err(error) = check_now(&context).await {
                    tracing::warn!(%error, "failed to check hash KV");
                }
            }
        }));
    }
    if let Some(interval) = context.settings.compact_hash_check {
        let context = Arc::clone(context);
        let runtime = Arc::clone(&context.runtime);
        runtime.spawn(Box::pin(async move {
            let mut checked = 0;
            while is_due(&context, interval).await {
                check_compactions(&context, &mut checked).await;
            }
        }));
    }
}

/// Waits until an interval ends at which this member leads; false once the server stops.
async fn is_due(context: &Context, interval: Duration) -> bool {
    let mut stop = context.stop.clone();
    loop {
        let mut sleep = context.runtime.sleep_until(context.clock.now() + interval);
        let goes_on = poll_fn(|cx| {
            if stop.poll_stopped(cx).is_ready() {
                return Poll::Ready(false);
            }
            sleep.as_mut().poll(cx).map(|()| true)
        });
        if !goes_on.await {
            return false;
        }
        if context.node.published().status.leads {
            return true;
        }
    }
}

async fn check_now(context: &Context) -> Result<(), Error> {
    let own = own_hash(context).await?;
    let peers = peer_hashes(context, own.revision).await;
    ask(context, Request::Read).await?;
    let later = own_hash(context).await?;
    let me = MemberId(context.node.member_id());
    act_on(context, check_periodically(me, own, later, &peers)).await;
    tracing::info!(
        "number-of-peers-checked" = peers.len(),
        "finished peer corruption check"
    );
    Ok(())
}

/// Checks compactions newer than `checked`, the newest first, until one check covers all peers or raises an alarm.
async fn check_compactions(context: &Context, checked: &mut i64) {
    let me = MemberId(context.node.member_id());
    let hashes: Vec<HashKv> = context.node.compact_hashes();
    for hash in hashes
        .into_iter()
        .rev()
        .take_while(|hash| hash.hash_revision > *checked)
    {
        let peers = peer_hashes(context, hash.hash_revision).await;
        if peers.is_empty() {
            continue;
        }
        let findings = check_compaction(me, hash, &peers);
        let is_over = findings.is_complete || !findings.alarms.is_empty();
        act_on(context, findings).await;
        if is_over {
            *checked = hash.hash_revision;
            tracing::info!(revision = hash.hash_revision, "finished compaction hash check");
            return;
        }
    }
}

/// Logs what a check found and raises the alarms.
async fn act_on(context: &Context, findings: Findings) {
    findings.notices.iter().for_each(logs::notice);
    for member in findings.alarms {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member.0,
            alarm: AlarmType::Corrupt.into(),
        };
        if let Err(error) = ask(context, Request::Alarm(alarm)).await {
            tracing::warn!(%member, %error, "the alarm CORRUPT could not be raised");
        }
    }
}

/// This member's hash of its newest revision.
async fn own_hash(context: &Context) -> Result<MemberHash, Error> {
    let call = PeerCall::HashKv(HashKvRequest { revision: 0 });
    let hash = match context.server(|server| call.begin(server)) {
        PeerStep::Compute(computation) => match compute(context, computation).await? {
            Answer::HashKv(answer) => member_hash(&answer).hash,
            other => unreachable!("{other:?} is no hash"),
        },
        step => unreachable!("{step:?} computes no hash of the newest revision"),
    };
    let revision = hash.hash_revision;
    Ok(MemberHash { hash, revision })
}

/// The hashes of all other members at a revision.
async fn peer_hashes(context: &Context, revision: i64) -> Vec<PeerHash> {
    let cluster = context.node.published().view.cluster.clone();
    let mut hashes = Vec::new();
    for member in cluster.members() {
        if member.id.0 != context.node.member_id() && !member.peer_urls.is_empty() {
            let hash = peer_hash(context, &member.peer_urls, revision).await;
            hashes.push((member.id, hash));
        }
    }
    hashes
}

/// The hash of one other member, asked for at one URL after the other.
async fn peer_hash(context: &Context, urls: &[String], revision: i64) -> Result<MemberHash, NoHash> {
    let (path, body) = hash_request(revision);
    let fields = [
        ("content-type", "application/json".to_owned()),
        ("x-etcd-cluster-id", ClusterId(context.node.cluster_id()).to_string()),
    ];
    let head = PeerHead {
        method: "GET".to_owned(),
        path: path.to_owned(),
        fields: BTreeMap::from(fields.map(|(name, value)| (name.to_owned(), value))),
    };
    let mut failure = NoHash::Unknown("it has no URL".to_owned());
    for url in urls {
        let (body, patience) = (body.clone(), context.settings.limits.request_timeout);
        let asked = dial::ask(&context.dialer, url, &head, body, MAX_PEER_ANSWER_BYTES, patience).await;
        let answer = asked.map_err(NoHash::Unknown);
        match answer.and_then(|(status, _, body)| hash_answer(status, &body)) {
            Ok(hash) => return Ok(hash),
            Err(error) => {
                tracing::warn!(url, revision, ?error, "failed hash kv request");
                failure = error;
            }
        }
    }
    Err(failure)
}
