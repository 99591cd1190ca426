//! Restores valid and damaged tables and backups.

use prost::Message as _;

use super::*;
use crate::mvcc::Revision;
use crate::proto::mvccpb::KeyValue;

type Rows = Vec<(Bucket, Bytes, Bytes)>;

fn row(bucket: Bucket, key: &[u8], value: &[u8]) -> (Bucket, Bytes, Bytes) {
    (bucket, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn key_row(main: i64, key: &'static str, lease: i64) -> (Bucket, Bytes, Bytes) {
    let kv = KeyValue {
        key: key.into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        lease,
        ..KeyValue::default()
    };
    (
        Bucket::Key,
        Revision::new(main, 0).to_row_key(false),
        kv.encode_to_vec().into(),
    )
}

fn restore(rows: &Rows) -> Result<Store, Fault> {
    Restore::from_table(StoreConfig::default(), |bucket| {
        let rows = rows.iter().filter(move |(of, ..)| *of == bucket);
        rows.map(|(_, key, value)| Ok((key.clone(), value.clone())))
            .collect::<Vec<_>>()
    })
}

#[test]
fn broken_rows_are_named() {
    let table = [
        (
            row(Bucket::Meta, b"term", b"1"),
            r#"bucket meta, row "term": not 8 bytes"#,
        ),
        (
            row(Bucket::Lease, b"1", b""),
            r#"bucket lease, row "1": the key is not 8 bytes"#,
        ),
        (
            row(Bucket::Key, b"k", b""),
            "row k of bucket key: the key is no revision",
        ),
        (
            row(Bucket::Members, b"x", b"{}"),
            r#"bucket members, row "x": the key is no member id"#,
        ),
        (
            row(Bucket::MembersRemoved, b"", b""),
            r#"bucket members_removed, row "": the key is no member id"#,
        ),
        (
            row(Bucket::Cluster, b"clusterVersion", b"x"),
            r#"bucket cluster, row "clusterVersion": not a version"#,
        ),
        (
            row(Bucket::Auth, b"authRevision", &[1]),
            r#"bucket auth, row "authRevision": not 8 bytes"#,
        ),
        (
            row(Bucket::AuthUsers, b"ann", b"\x0a\x03bob"),
            r#"bucket authUsers, row "ann": the name within is another"#,
        ),
    ];
    for (row, expected) in table {
        assert_eq!(
            restore(&vec![row]).err().map(|fault| fault.to_string()).as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn a_fault_of_the_table_is_passed_on() {
    let fault = Fault::Inconsistent {
        cause: "unreadable".into(),
    };
    let rows = || [Err(fault.clone())];
    assert_eq!(
        Restore::begin(StoreConfig::default(), rows()).err(),
        Some(fault.clone())
    );
    let begin = || Restore::begin(StoreConfig::default(), []).unwrap();
    assert_eq!(begin().leases(rows()).err(), Some(fault.clone()));
    assert_eq!(begin().leases([]).unwrap().kv(rows()).err(), Some(fault.clone()));
    let done = begin().leases([]).unwrap().kv([]).unwrap();
    assert_eq!(done.finish([Err(fault.clone())]).err(), Some(fault));
}

#[test]
fn rows_of_another_stage_are_refused() {
    let done = Restore::begin(StoreConfig::default(), [])
        .unwrap()
        .leases([])
        .unwrap()
        .kv([])
        .unwrap();
    let fault = done.finish([Ok(row(Bucket::Lease, b"", b""))]).err().unwrap();
    assert_eq!(fault.to_string(), "rows of bucket lease belong to another stage");
}

#[test]
fn leases_get_their_keys_and_at_least_the_shortest_time() {
    let lease = |id: i64, value: &[u8]| row(Bucket::Lease, &id.to_be_bytes(), value);
    let store = restore(&vec![
        lease(7, &[8, 7, 16, 1]),
        key_row(2, "a", 7),
        key_row(3, "orphan", 9),
        row(Bucket::Auth, b"authEnabled", &[0]),
        row(Bucket::AuthUsers, b"root", b"\x0a\x04root"),
        row(Bucket::Meta, b"fromTheFuture", b"x"),
    ])
    .unwrap();
    let view = store.view();
    let lease = view.leases.get(7).unwrap();
    assert_eq!(lease.ttl(), 2);
    assert!(lease.keys().eq(["a"]));
    assert!(view.kv.get(b"orphan").is_some() && view.leases.get(9).is_none());
}

#[test]
fn a_table_without_configuration_has_that_of_its_members() {
    let store = restore(&vec![
        row(
            Bucket::Members,
            b"b",
            br#"{"id":11,"peerURLs":["http://b:1"],"isLearner":true}"#,
        ),
        row(Bucket::Members, b"a", br#"{"id":10,"peerURLs":["http://a:1"]}"#),
    ])
    .unwrap();
    assert_eq!(
        (&store.conf_state().voters[..], &store.conf_state().learners[..]),
        (&[10][..], &[11][..])
    );
    store.check();
}

#[test]
fn a_restored_backup_has_the_configuration_of_its_new_members() {
    let store = restore(&vec![
        row(Bucket::Members, b"a", br#"{"id":10,"peerURLs":["http://a:1"]}"#),
        row(Bucket::Meta, b"confState", br#"{"voters":[99],"auto_leave":false}"#),
    ])
    .unwrap();
    assert_eq!(store.conf_state().voters, [10]);
    store.check();
}
