//! Refusals, with their code and exact words: clients match on both.

use etcd_client::{
    CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, Txn,
    TxnOp, WatchOptions,
};

use super::tale::Tale;

/// Invalid requests.
pub(crate) async fn bad_requests(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put of an empty key", client.put("", "x", None).await);
    tale.tell("get of an empty key", client.get("", None).await);
    tale.tell(
        "get of an empty key up to b",
        client.get("", Some(GetOptions::new().with_range("b"))).await,
    );
    tale.tell("delete of an empty key", client.delete("", None).await);
    tale.tell(
        "delete of an empty key up to b",
        client.delete("", Some(DeleteOptions::new().with_range("b"))).await,
    );
    tale.tell(
        "get from a zero byte to before it",
        client.get([0, 0], Some(GetOptions::new().with_range([0]))).await,
    );
    tale.tell(
        "negative revision",
        client.get("a", Some(GetOptions::new().with_revision(i64::MIN))).await,
    );
    tale.tell(
        "largest revision",
        client.get("a", Some(GetOptions::new().with_revision(i64::MAX))).await,
    );
    tale.tell(
        "most negative limit",
        client.get("a", Some(GetOptions::new().with_limit(i64::MIN))).await,
    );
    tale.tell("compact at zero", client.compact(0, None).await);
    tale.tell("compact at a negative revision", client.compact(-1, None).await);
    tale.tell("compact in the future", client.compact(i64::MAX, None).await);
    tale.line("hash of the future");
    match client.hash_kv(99).await {
        Ok(response) => tale.line(format_args!("  {response:?}")),
        Err(error) => tale.line(format_args!("  {}", super::tale::shown_error(&error))),
    }
    tale.tell(
        "nothing was changed",
        client.get("", Some(GetOptions::new().with_all_keys())).await,
    );
}

/// Leases that are refused.
pub(crate) async fn refused_leases(tale: &mut Tale) {
    let mut client = tale.client();
    let id = |id| Some(LeaseGrantOptions::new().with_id(id));
    tale.tell("grant 7", client.lease_grant(60, id(7)).await);
    tale.tell("grant 7 again", client.lease_grant(60, id(7)).await);
    tale.tell("grant with a negative id", client.lease_grant(60, id(-7)).await);
    tale.tell("the longest life", client.lease_grant(9_000_000_000, id(8)).await);
    tale.tell("a longer life", client.lease_grant(9_000_000_001, id(9)).await);
    tale.tell("the longest number", client.lease_grant(i64::MAX, id(9)).await);
    tale.tell("no life", client.lease_grant(0, id(10)).await);
    tale.tell("a negative life", client.lease_grant(-5, id(11)).await);
    tale.tell("revoke an unknown one", client.lease_revoke(99).await);
    tale.tell("revoke none", client.lease_revoke(0).await);
    tale.tell(
        "time of an unknown one",
        client
            .lease_time_to_live(99, Some(LeaseTimeToLiveOptions::new().with_keys()))
            .await,
    );
    tale.tell("time of none", client.lease_time_to_live(0, None).await);
    match client.lease_keep_alive(99).await {
        Ok((_, mut answers)) => match answers.message().await {
            Ok(Some(answer)) => {
                tale.tell("keep an unknown one alive", Ok(answer));
            }
            other => tale.line(format_args!("keep an unknown one alive\n  {other:?}")),
        },
        // The crate sends the first request itself, and takes a TTL of zero for an error.
        Err(error) => tale.line(format_args!(
            "keep an unknown one alive\n  {}",
            super::tale::shown_error(&error)
        )),
    }
    tale.tell("revoke the negative one", client.lease_revoke(-7).await);
}

/// Compacted and future revisions.
pub(crate) async fn compacted_and_future_revisions(tale: &mut Tale) {
    let mut client = tale.client();
    for value in ["1", "2", "3", "4"] {
        tale.tell(&format!("put a={value}"), client.put("a", value, None).await);
    }
    tale.tell("put b", client.put("b", "x", None).await);
    tale.tell("delete b", client.delete("b", None).await);
    tale.tell("compact at 4", client.compact(4, None).await);
    for revision in [3, 4, 5, 7, 8] {
        let options = GetOptions::new().with_all_keys().with_revision(revision);
        tale.tell(&format!("get at {revision}"), client.get("", Some(options)).await);
    }
    for revision in [3, 4, 8] {
        tale.tell(&format!("compact at {revision}"), client.compact(revision, None).await);
    }
    for revision in [3, 99] {
        let read = TxnOp::get("a", Some(GetOptions::new().with_revision(revision)));
        let txn = Txn::new().and_then([TxnOp::put("c", "x", None), read.clone()]);
        tale.tell(
            &format!("put and get at {revision}, in a transaction"),
            client.txn(txn).await,
        );
        let unused = Txn::new()
            .when([Compare::version("a", CompareOp::Greater, 0)])
            .or_else([read]);
        tale.tell(
            &format!("get at {revision} in the branch not taken"),
            client.txn(unused).await,
        );
    }
    let physical = Some(CompactionOptions::new().with_physical());
    tale.tell("compact at 7, all the way", client.compact(7, physical).await);
    tale.tell("get", client.get("", Some(GetOptions::new().with_all_keys())).await);
    tale.tell(
        "get at 7",
        client
            .get("", Some(GetOptions::new().with_all_keys().with_revision(7)))
            .await,
    );
    let mut watch = client
        .watch("", Some(WatchOptions::new().with_all_keys().with_start_revision(7)))
        .await
        .expect("a watch stream");
    tale.next("watch from the compacted revision", &mut watch).await;
    tale.next("its delete is still sent", &mut watch).await;
}
