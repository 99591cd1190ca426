//! Sizes that are accepted, and sizes that are not.

use etcd_client::{DeleteOptions, GetOptions, SortOrder, SortTarget, Txn, TxnOp};

use super::tale::Tale;

/// The server's default, in operations a transaction.
const MOST_OPERATIONS: usize = 128;
const KEYS: usize = 10_000;
const KEYS_AT_ONCE: usize = 100;

/// Values up to the limit of a request.
pub(crate) async fn big_values(tale: &mut Tale) {
    let mut client = tale.client();
    let big: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    tale.tell("put a megabyte", client.put("big", big.clone(), None).await);
    let got = tale.tell("get it", client.get("big", None).await).expect("it is there");
    assert_eq!(got.kvs()[0].value(), big, "the bytes are as they were put");
    tale.tell(
        "as much as a request takes",
        client.put("big", vec![b'x'; 1_572_800], None).await,
    );
    tale.tell(
        "a byte more than a request",
        client.put("big", vec![b'x'; 1_572_865], None).await,
    );
    tale.tell(
        "what even the transport refuses",
        client.put("big", vec![b'x'; 3_000_000], None).await,
    );
    tale.tell("a long key", client.put(vec![b'k'; 100_000], "v", None).await);
    tale.tell(
        "get them",
        client.get("", Some(GetOptions::new().with_all_keys())).await,
    );
}

/// Transactions of as many operations as are allowed, and one more.
pub(crate) async fn many_operations(tale: &mut Tale) {
    let mut client = tale.client();
    let puts = |count: usize| -> Vec<TxnOp> {
        (0..count)
            .map(|at| TxnOp::put(format!("k{at:03}"), "x", None))
            .collect()
    };
    let most = client
        .txn(Txn::new().and_then(puts(MOST_OPERATIONS)))
        .await
        .expect("as many as are allowed");
    tale.line(format_args!(
        "{MOST_OPERATIONS} puts: {} answers",
        most.op_responses().len()
    ));
    tale.tell(
        "they share a revision",
        client.get("k", Some(GetOptions::new().with_prefix())).await,
    );
    tale.tell(
        "one more",
        client.txn(Txn::new().and_then(puts(MOST_OPERATIONS + 1))).await,
    );
    tale.tell(
        "one more in the branch not taken",
        client.txn(Txn::new().or_else(puts(MOST_OPERATIONS + 1))).await,
    );
    let compares: Vec<_> = (0..=MOST_OPERATIONS)
        .map(|at| etcd_client::Compare::version(format!("k{at}"), etcd_client::CompareOp::Greater, -1))
        .collect();
    tale.tell("too many compares", client.txn(Txn::new().when(compares)).await);
    let mut beside = puts(MOST_OPERATIONS - 1);
    beside.push(TxnOp::txn(Txn::new().and_then([TxnOp::put("inner", "x", None)])));
    tale.tell(
        "a nested one has what is left, which is nothing",
        client.txn(Txn::new().and_then(beside)).await,
    );
    let mut fewer = puts(10);
    fewer.push(TxnOp::txn(
        Txn::new().and_then(
            (0..100)
                .map(|at| TxnOp::get(format!("g{at}"), None))
                .collect::<Vec<_>>(),
        ),
    ));
    let response = client
        .txn(Txn::new().and_then(fewer))
        .await
        .expect("a hundred and eleven");
    tale.line(format_args!(
        "100 gets nested beside 10 puts: {} answers",
        response.op_responses().len()
    ));
}

/// A list of ten thousand keys, whole and in pages.
pub(crate) async fn many_keys(tale: &mut Tale) {
    let mut client = tale.client();
    for from in (0..KEYS).step_by(KEYS_AT_ONCE) {
        let puts: Vec<TxnOp> = (from..from + KEYS_AT_ONCE)
            .map(|at| TxnOp::put(format!("key/{at:05}"), format!("value {at}"), None))
            .collect();
        client.txn(Txn::new().and_then(puts)).await.expect("a hundred puts");
    }
    let all = || GetOptions::new().with_prefix();
    tale.tell("all", client.get("key/", Some(all())).await);
    tale.tell("their number", client.get("key/", Some(all().with_count_only())).await);
    tale.tell(
        "the newest",
        client
            .get(
                "key/",
                Some(all().with_sort(SortTarget::Value, SortOrder::Descend).with_limit(2)),
            )
            .await,
    );
    let (mut from, mut pages, mut seen) = ("key/".to_owned(), 0, 0);
    loop {
        let page = GetOptions::new().with_range("key0").with_limit(999).with_revision(101);
        let response = client.get(from.as_str(), Some(page)).await.expect("a page");
        pages += 1;
        seen += response.kvs().len();
        let Some(last) = response.kvs().last().filter(|_| response.more()) else {
            break;
        };
        from = format!("{}\0", last.key_str().expect("our own key"));
        assert!(pages < KEYS, "paging ends");
    }
    tale.line(format_args!("{seen} keys in {pages} pages"));
    tale.tell(
        "delete half",
        client
            .delete("key/05", Some(DeleteOptions::new().with_range("key0")))
            .await,
    );
    tale.tell("what is left", client.get("key/", Some(all())).await);
    tale.tell(
        "before the delete",
        client
            .get("key/", Some(all().with_revision(101).with_count_only()))
            .await,
    );
}
