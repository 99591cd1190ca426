//! Transactions: compares, reads inside them, refusals.

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp};

use super::tale::Tale;

/// A transaction with only this compare: its success shows whether the compare holds.
fn only(compare: Compare) -> Txn {
    Txn::new().when([compare])
}

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::put(key, value, None)
}

fn get(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

fn delete(key: &str) -> TxnOp {
    TxnOp::delete(key, None)
}

/// Every target with every operator, on keys that exist and that do not.
pub(crate) async fn compares(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell(
        "grant lease 7",
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(7))).await,
    );
    tale.tell("put a=m", client.put("a", "m", None).await);
    tale.tell(
        "put a=m with lease 7",
        client.put("a", "m", Some(PutOptions::new().with_lease(7))).await,
    );
    let operators = [
        (CompareOp::Less, "<"),
        (CompareOp::Equal, "="),
        (CompareOp::NotEqual, "!="),
        (CompareOp::Greater, ">"),
    ];
    for (operator, sign) in operators {
        let mut held = Vec::new();
        for key in ["a", "none"] {
            for number in [0, 1, 2, 3, 7] {
                for (target, compare) in [
                    ("version", Compare::version(key, operator, number)),
                    ("create", Compare::create_revision(key, operator, number)),
                    ("mod", Compare::mod_revision(key, operator, number)),
                    ("lease", Compare::lease(key, operator, number)),
                ] {
                    let response = client.txn(only(compare)).await.expect("a transaction without writes");
                    if response.succeeded() {
                        held.push(format!("{target}({key})"));
                    }
                }
                tale.line(format_args!("{sign} {number}: {}", held.join(" ")));
                held.clear();
            }
            for value in ["", "l", "m", "ma", "n"] {
                let compare = Compare::value(key, operator, value);
                let response = client.txn(only(compare)).await.expect("a transaction without writes");
                tale.line(format_args!("value({key}) {sign} {value:?}: {}", response.succeeded()));
            }
        }
    }
}

/// A compare over a range must hold for every key in it.
pub(crate) async fn range_compares(tale: &mut Tale) {
    let mut client = tale.client();
    for key in ["k/a", "k/b", "k/b", "l"] {
        tale.tell(&format!("put {key}"), client.put(key, "v", None).await);
    }
    for (what, compare) in [
        (
            "all of k/ were created after 1",
            Compare::create_revision("k/", CompareOp::Greater, 1).with_prefix(),
        ),
        (
            "all of k/ are at version 1",
            Compare::version("k/", CompareOp::Equal, 1).with_prefix(),
        ),
        (
            "all of [k/a, k/b) are at version 1",
            Compare::version("k/a", CompareOp::Equal, 1).with_range("k/b"),
        ),
        (
            "all values from k/b on are v",
            Compare::value("k/b", CompareOp::Equal, "v").with_range([0]),
        ),
        (
            "all values are v",
            Compare::value([0], CompareOp::Equal, "v").with_range([0]),
        ),
        (
            "nothing under m was created",
            Compare::create_revision("m", CompareOp::Equal, 0).with_prefix(),
        ),
        (
            "nothing under m was created, said otherwise",
            Compare::create_revision("m", CompareOp::Less, 1).with_prefix(),
        ),
        (
            "something under m was created",
            Compare::create_revision("m", CompareOp::Greater, 0).with_prefix(),
        ),
        (
            "values of nothing differ from v",
            Compare::value("m", CompareOp::NotEqual, "v").with_prefix(),
        ),
        (
            "a range that ends before it begins",
            Compare::version("l", CompareOp::Equal, 0).with_range("k"),
        ),
    ] {
        tale.tell(what, client.txn(only(compare)).await);
    }
}

/// Branches, the one revision of all writes, and reads of earlier operations.
pub(crate) async fn transactions(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put a=1", client.put("a", "1", None).await);
    let branches = |value: &str| {
        let compare = Compare::value("a", CompareOp::Equal, value);
        Txn::new()
            .when([compare])
            .and_then([put("then", "x"), get("a")])
            .or_else([put("else", "x")])
    };
    tale.tell("then", client.txn(branches("1")).await);
    tale.tell("else", client.txn(branches("2")).await);
    let both = [
        Compare::version("a", CompareOp::Equal, 1),
        Compare::version("a", CompareOp::Equal, 2),
    ];
    tale.tell(
        "all compares must hold",
        client.txn(Txn::new().when(both).and_then([put("both", "x")])).await,
    );
    tale.tell("nothing at all", client.txn(Txn::new()).await);
    tale.tell(
        "reads only",
        client.txn(Txn::new().and_then([get("a"), get("none")])).await,
    );

    let previous = Some(PutOptions::new().with_prev_key());
    let seen = [
        get("a"),
        TxnOp::put("a", "2", previous),
        get("a"),
        put("b", "1"),
        get("b"),
    ];
    tale.tell("reads between writes", client.txn(Txn::new().and_then(seen)).await);
    let delete_then_read = [delete("a"), get("a"), put("c", "1")];
    tale.tell(
        "a delete, a read, a put",
        client.txn(Txn::new().and_then(delete_then_read)).await,
    );
    let of_nothing = [delete("a"), get("b")];
    tale.tell(
        "a delete of nothing makes no revision",
        client.txn(Txn::new().and_then(of_nothing)).await,
    );
    let ranges = [
        TxnOp::delete("", Some(DeleteOptions::new().with_all_keys().with_prev_key())),
        TxnOp::delete("b", Some(DeleteOptions::new().with_from_key())),
        TxnOp::get("", Some(GetOptions::new().with_all_keys())),
    ];
    tale.tell("deletes may overlap", client.txn(Txn::new().and_then(ranges)).await);
}

/// Transactions that are refused, and whether errors in the branch not taken matter.
pub(crate) async fn refused_transactions(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put c", client.put("c", "1", None).await);
    for (what, operations) in [
        ("two puts of a key", vec![put("a", "1"), put("a", "2")]),
        ("a put and a delete of it", vec![put("a", "1"), delete("a")]),
        ("a delete and then a put of it", vec![delete("a"), put("a", "1")]),
        (
            "a put inside a deleted range",
            vec![
                TxnOp::delete("a", Some(DeleteOptions::new().with_prefix())),
                put("ab", "1"),
            ],
        ),
        (
            "an unknown lease",
            vec![
                put("a", "1"),
                TxnOp::put("b", "1", Some(PutOptions::new().with_lease(9))),
            ],
        ),
        (
            "no value to keep",
            vec![
                put("a", "1"),
                TxnOp::put("b", "", Some(PutOptions::new().with_ignore_value())),
            ],
        ),
        (
            "a read of the future",
            vec![
                put("a", "1"),
                TxnOp::get("a", Some(GetOptions::new().with_revision(99))),
            ],
        ),
        ("a key that is empty", vec![put("", "1")]),
        ("a read of an empty key", vec![get("")]),
        ("a delete of an empty key", vec![delete("")]),
    ] {
        tale.tell(what, client.txn(Txn::new().and_then(operations.clone())).await);
        let unused = Txn::new()
            .when([Compare::version("none", CompareOp::Equal, 0)])
            .or_else(operations);
        tale.tell(&format!("{what}, in the branch not taken"), client.txn(unused).await);
    }
    tale.tell(
        "a compare of an empty key",
        client.txn(only(Compare::version("", CompareOp::Equal, 0))).await,
    );
    tale.tell(
        "nothing of all this was done",
        client.get("", Some(GetOptions::new().with_all_keys())).await,
    );
}

/// Transactions within transactions.
pub(crate) async fn nested_transactions(tale: &mut Tale) {
    let mut client = tale.client();
    tale.tell("put a=1", client.put("a", "1", None).await);
    let when = |value: &str| Compare::value("a", CompareOp::Equal, value);
    let inner = || {
        Txn::new()
            .when([when("1")])
            .and_then([put("then", "x")])
            .or_else([put("else", "x"), get("a")])
    };
    let outer = Txn::new().and_then([put("a", "2"), TxnOp::txn(inner()), get("then")]);
    tale.tell("all compares see the state before", client.txn(outer).await);
    let again = Txn::new().and_then([put("a", "3"), TxnOp::txn(inner())]);
    tale.tell("and so the other branch", client.txn(again).await);
    let reading = Txn::new().and_then([TxnOp::txn(Txn::new().and_then([get("a")]))]);
    tale.tell("reads only, nested", client.txn(reading).await);
    let deep = (0..5).fold(Txn::new().and_then([put("deep", "x")]), |txn, _| {
        Txn::new().and_then([TxnOp::txn(txn)])
    });
    tale.tell("five levels", client.txn(deep).await);

    let one = || Txn::new().and_then([put("k", "1")]);
    let either = Txn::new()
        .when([when("3")])
        .and_then([put("k", "1")])
        .or_else([put("k", "2")]);
    for (what, operations) in [
        ("a key in both branches of one", vec![TxnOp::txn(either)]),
        ("a key in two siblings", vec![TxnOp::txn(one()), TxnOp::txn(one())]),
        ("a key inside and beside", vec![TxnOp::txn(one()), put("k", "2")]),
        (
            "a delete inside, a put beside",
            vec![TxnOp::txn(Txn::new().and_then([delete("k")])), put("k", "2")],
        ),
        ("a put inside, a delete beside", vec![TxnOp::txn(one()), delete("k")]),
        (
            "deletes inside and beside",
            vec![TxnOp::txn(Txn::new().and_then([delete("k")])), delete("k")],
        ),
        (
            "a compare of an empty key inside",
            vec![TxnOp::txn(only(Compare::version("", CompareOp::Equal, 0)))],
        ),
        (
            "an unknown lease inside",
            vec![
                put("z", "1"),
                TxnOp::txn(Txn::new().and_then([TxnOp::put("k", "1", Some(PutOptions::new().with_lease(9)))])),
            ],
        ),
    ] {
        tale.tell(what, client.txn(Txn::new().and_then(operations)).await);
    }
    tale.tell(
        "what is there",
        client.get("", Some(GetOptions::new().with_all_keys())).await,
    );
}
