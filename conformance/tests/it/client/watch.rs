//! Watches: the events, their responses, and the end of a watch.

use std::time::Duration;

use etcd_client::{LeaseGrantOptions, PutOptions, Txn, TxnOp, WatchFilterType, WatchOptions, WatchResponse};

use super::tale::Tale;

/// New events: one response per revision.
pub(crate) async fn live_events(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell(
        "grant lease 7",
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(7))).await,
    );
    let mut one = client.watch("a", None).await.expect("a watch stream");
    tale.next("watch a", &mut one).await;
    let with_previous = WatchOptions::new().with_prefix().with_prev_key();
    let mut all = client.watch("", Some(with_previous)).await.expect("a watch stream");
    tale.next("watch everything on another stream, with previous", &mut all)
        .await;

    tale.tell("put a=1", client.put("a", "1", None).await);
    tale.next("on a", &mut one).await;
    tale.next("on everything", &mut all).await;
    tale.tell(
        "put a=2 with lease 7",
        client.put("a", "2", Some(PutOptions::new().with_lease(7))).await,
    );
    tale.next("on a", &mut one).await;
    tale.next("on everything", &mut all).await;
    tale.tell("put b", client.put("b", "x", None).await);
    tale.next("on everything", &mut all).await;
    let txn = Txn::new().and_then([
        TxnOp::put("c", "1", None),
        TxnOp::delete("a", None),
        TxnOp::put("b", "y", None),
    ]);
    tale.tell("three changes in a transaction", client.txn(txn).await);
    tale.next("on a", &mut one).await;
    tale.next("on everything", &mut all).await;
    tale.tell("delete of nothing", client.delete("a", None).await);
    tale.silence("on a", &mut one).await;
    tale.tell("put a=3", client.put("a", "3", None).await);
    tale.next("on a", &mut one).await;
    tale.next("on everything: a creation has no previous", &mut all).await;
}

/// Past events, followed by new ones.
pub(crate) async fn past_events(tale: &mut Tale) {
    let mut client = tale.client();
    for at in 0..5 {
        tale.tell(&format!("put k{at}"), client.put(format!("k{at}"), "x", None).await);
    }
    tale.tell("put k0 again", client.put("k0", "y", None).await);
    tale.tell("delete k1", client.delete("k1", None).await);
    for (what, key, options) in [
        (
            "all from the beginning",
            "",
            WatchOptions::new().with_all_keys().with_start_revision(1),
        ),
        (
            "prefix k from 6, with previous",
            "k",
            WatchOptions::new().with_prefix().with_start_revision(6).with_prev_key(),
        ),
        (
            "range [k1, k3) from 2",
            "k1",
            WatchOptions::new().with_range("k3").with_start_revision(2),
        ),
        (
            "from k3 on, from 2",
            "k3",
            WatchOptions::new().with_from_key().with_start_revision(2),
        ),
        ("one key from 2", "k0", WatchOptions::new().with_start_revision(2)),
        (
            "one key at the newest revision",
            "k1",
            WatchOptions::new().with_start_revision(8),
        ),
    ] {
        let mut watch = client.watch(key, Some(options)).await.expect("a watch stream");
        tale.next(what, &mut watch).await;
        tale.next("its history", &mut watch).await;
    }

    let future = WatchOptions::new().with_start_revision(11);
    let mut watch = client.watch("z", Some(future)).await.expect("a watch stream");
    tale.next("one key from a revision to come", &mut watch).await;
    for at in 9..=11 {
        tale.tell(&format!("put z at {at}"), client.put("z", at.to_string(), None).await);
    }
    tale.next("only from then on", &mut watch).await;
    let next = WatchOptions::new().with_start_revision(12);
    watch.watch("z", Some(next)).await.expect("the stream is open");
    tale.next("another on the stream", &mut watch).await;
    tale.tell("put z", client.put("z", "12", None).await);
    // The order between watchers is not fixed.
    let mut both = Vec::new();
    while both.len() < 2 {
        both.push(watch.message().await.expect("an event").expect("the stream is open"));
    }
    both.sort_by_key(WatchResponse::watch_id);
    for response in both {
        tale.tell("each of the two", Ok(response));
    }
}

/// Filters for puts or deletions.
pub(crate) async fn filters(tale: &mut Tale) {
    let mut client = tale.client();
    for (what, left_out) in [
        ("no puts", vec![WatchFilterType::NoPut]),
        ("no deletes", vec![WatchFilterType::NoDelete]),
        ("neither", vec![WatchFilterType::NoPut, WatchFilterType::NoDelete]),
    ] {
        tale.tell("put a", client.put("a", "1", None).await);
        let options = || WatchOptions::new().with_filters(left_out.clone()).with_prev_key();
        let mut watch = client.watch("a", Some(options())).await.expect("a watch stream");
        tale.next(what, &mut watch).await;
        tale.tell("put a", client.put("a", "2", None).await);
        tale.tell("delete a", client.delete("a", None).await);
        tale.silence_or_next(left_out.len() == 2, &mut watch).await;
        let past = options().with_start_revision(2);
        let mut watch = client.watch("a", Some(past)).await.expect("a watch stream");
        tale.next(&format!("{what}, from 2"), &mut watch).await;
        tale.silence_or_next(left_out.len() == 2, &mut watch).await;
    }
}

/// Ids chosen by the server and by the client, on one stream.
pub(crate) async fn watch_ids(tale: &mut Tale) {
    let mut client = tale.client();
    let id = |id| Some(WatchOptions::new().with_watch_id(id));
    let mut stream = client.watch("a", None).await.expect("a watch stream");
    tale.next("the server's first choice", &mut stream).await;
    for (what, options) in [
        ("id 2", id(2)),
        ("the server's second choice", None),
        ("the server's third choice", None),
        ("id 2 again", id(2)),
        ("id 9", id(9)),
        ("a negative id", id(-5)),
    ] {
        stream.watch("a", options).await.expect("the stream is open");
        tale.next(what, &mut stream).await;
    }
    stream.cancel(2).await.expect("the stream is open");
    tale.next("cancel 2", &mut stream).await;
    stream.cancel(2).await.expect("the stream is open");
    stream.cancel(77).await.expect("the stream is open");
    tale.silence("cancel unknown ids", &mut stream).await;
    stream.watch("a", id(2)).await.expect("the stream is open");
    tale.next("id 2 is free again", &mut stream).await;
    let mut other = client.watch("a", id(2)).await.expect("a watch stream");
    tale.next("and on another stream anyway", &mut other).await;
}

/// Watches that the server cancels, or never creates.
pub(crate) async fn cancelled_watches(tale: &mut Tale) {
    let mut client = tale.client();
    for value in ["1", "2", "3", "4"] {
        tale.tell(&format!("put a={value}"), client.put("a", value, None).await);
    }
    tale.tell("compact at 4", client.compact(4, None).await);
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut stream = client.watch("a", from(2)).await.expect("a watch stream");
    tale.next("from before the compacted revision", &mut stream).await;
    tale.next("it ends", &mut stream).await;
    for (what, key, options) in [
        ("a negative revision", "a", from(-3)),
        (
            "a range that ends before it begins",
            "b",
            Some(WatchOptions::new().with_range("a")),
        ),
        (
            "a range that ends where it begins",
            "b",
            Some(WatchOptions::new().with_range("b")),
        ),
    ] {
        stream.watch(key, options).await.expect("the stream is open");
        tale.next(what, &mut stream).await;
    }
    stream.watch("a", from(4)).await.expect("the stream is open");
    tale.next("from the compacted revision itself", &mut stream).await;
    tale.next("its history", &mut stream).await;
    stream.watch("", None).await.expect("the stream is open");
    tale.next("an empty key, which is the zero byte", &mut stream).await;
    tale.tell("put zero byte", client.put([0], "x", None).await);
    tale.next("it is watched", &mut stream).await;
}

/// Progress requested by the client.
pub(crate) async fn progress(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put a", client.put("a", "1", None).await);
    let mut stream = client.watch("a", None).await.expect("a watch stream");
    tale.next("watch a", &mut stream).await;
    stream.request_progress().await.expect("the stream is open");
    tale.next("progress", &mut stream).await;
    tale.tell("put elsewhere", client.put("elsewhere", "1", None).await);
    stream.request_progress().await.expect("the stream is open");
    tale.next("progress, without events", &mut stream).await;
    tale.tell("put a", client.put("a", "2", None).await);
    tale.next("its event", &mut stream).await;
    stream.request_progress().await.expect("the stream is open");
    tale.next("progress, after it", &mut stream).await;
    let future = WatchOptions::new().with_start_revision(50);
    stream.watch("a", Some(future)).await.expect("the stream is open");
    tale.next("a watch from a revision to come", &mut stream).await;
    stream.request_progress().await.expect("the stream is open");
    tale.silence("progress cannot be promised", &mut stream).await;
}

/// Progress sent periodically by the server.
pub(crate) async fn progress_notify(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put a", client.put("a", "1", None).await);
    let mut without = client.watch("a", None).await.expect("a watch stream");
    tale.next("watch a", &mut without).await;
    let mut with = client
        .watch("a", Some(WatchOptions::new().with_progress_notify()))
        .await
        .expect("a watch stream");
    tale.next("watch a with progress", &mut with).await;
    tale.next("progress", &mut with).await;
    tale.tell("put elsewhere", client.put("elsewhere", "1", None).await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    // Reports from before the put may still be queued; the newest one must include it.
    for _ in 0..20 {
        let report = with.message().await.expect("a report").expect("the stream is open");
        let revision = report.header().expect("a report has a header").revision();
        assert!(
            report.events().is_empty() && (2..=3).contains(&revision),
            "a report of progress: {report:?}"
        );
        if revision == 3 {
            tale.tell("progress past the put", Ok(report));
            break;
        }
    }
    tale.silence("no progress without progress_notify", &mut without).await;
}

/// Responses larger than a message, in fragments if the client accepts those.
pub(crate) async fn fragments(tale: &mut Tale) {
    let mut client = tale.client();
    let big = vec![b'x'; 700_000];
    for key in ["a", "b", "c", "d"] {
        tale.tell(&format!("put {key}, 700 kB"), client.put(key, big.clone(), None).await);
    }
    let options = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(2)
        .with_fragment();
    let mut stream = client.watch("", Some(options)).await.expect("a watch stream");
    tale.next("watch everything from 2, in fragments", &mut stream).await;
    for piece in 1..=2 {
        tale.next(&format!("piece {piece}"), &mut stream).await;
    }
    tale.silence("that was all", &mut stream).await;
    tale.tell("put small", client.put("small", "x", None).await);
    tale.next("a small one is whole", &mut stream).await;
}
