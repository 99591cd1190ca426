//! Writes: their answers, reads inside them, events and rows; and what a restore refuses.

use bytes::Bytes;

use super::Table;
use crate::error::Error;
use crate::mvcc::{CompactProgress, Event, EventKind, Mvcc, Revision};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;
use crate::table::{Bucket, TableOp};

fn put(mvcc: &mut Mvcc, key: &'static str, value: &'static str) -> Vec<TableOp> {
    let (mut write, mut ops) = (mvcc.begin(), Vec::new());
    write.put(
        Bytes::from_static(key.as_bytes()),
        Bytes::from_static(value.as_bytes()),
        0,
    );
    assert!(write.end(&mut Vec::new(), &mut ops));
    ops
}

fn delete(mvcc: &mut Mvcc, key: &str) -> Vec<TableOp> {
    let (mut write, mut ops) = (mvcc.begin(), Vec::new());
    write.delete_range(key.as_bytes(), b"");
    write.end(&mut Vec::new(), &mut ops);
    ops
}

fn kv(key: &'static str, value: &'static str, numbers: [i64; 3], lease: i64) -> KeyValue {
    let [create_revision, mod_revision, version] = numbers;
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    KeyValue {
        key,
        create_revision,
        mod_revision,
        version,
        value,
        lease,
    }
}

fn all(mvcc: &mut Mvcc) -> (i64, RangeResponse) {
    let write = mvcc.begin();
    let request = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"z"),
        ..Default::default()
    };
    (write.revision(), write.range(&request).unwrap())
}

#[test]
fn a_write_sees_its_changes_and_makes_one_revision() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "b", "1");
    let request = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"z"),
        ..Default::default()
    };
    let (mut events, mut ops) = (Vec::new(), Vec::new());

    let mut write = mvcc.begin();
    assert_eq!(write.revision(), 3);
    assert_eq!(
        write.put(Bytes::from_static(b"a"), Bytes::from_static(b"2"), 7),
        Some(kv("a", "1", [2, 2, 1], 0))
    );
    assert_eq!(write.revision(), 4, "after the first change its own revision counts");
    assert_eq!(
        write.range(&request).unwrap().kvs,
        [kv("a", "2", [2, 4, 2], 7), kv("b", "1", [3, 3, 1], 0)]
    );
    assert_eq!(write.put(Bytes::from_static(b"c"), Bytes::new(), 0), None);
    assert_eq!(
        write.delete_range(b"b", b"\0"),
        [kv("b", "1", [3, 3, 1], 0), kv("c", "", [4, 4, 1], 0)]
    );
    assert_eq!(write.delete_range(b"b", b"\0"), []);
    assert_eq!(write.get(b"b"), None);
    assert_eq!(
        write.range(&RangeRequest {
            revision: 5,
            ..request.clone()
        }),
        Err(Error::FutureRevision)
    );
    assert_eq!(
        write.range(&RangeRequest { revision: 3, ..request }).unwrap().count,
        2,
        "the revisions of other keys stay readable"
    );
    assert!(write.end(&mut events, &mut ops));

    let event = |kind, kv, prev_kv| Event { kind, kv, prev_kv };
    let gone = |key| kv(key, "", [0, 4, 0], 0);
    let expected = [
        event(
            EventKind::Put,
            kv("a", "2", [2, 4, 2], 7),
            Some(kv("a", "1", [2, 2, 1], 0)),
        ),
        event(EventKind::Put, kv("c", "", [4, 4, 1], 0), None),
        event(EventKind::Delete, gone("b"), Some(kv("b", "1", [3, 3, 1], 0))),
        event(EventKind::Delete, gone("c"), Some(kv("c", "", [4, 4, 1], 0))),
    ];
    assert_eq!(events, expected);
    let row_keys: Vec<_> = ops
        .iter()
        .map(|op| (op.bucket, Revision::from_row_key(&op.key).unwrap()))
        .collect();
    let row_key = |sub, tombstone| (Bucket::Key, (Revision::new(4, sub), tombstone));
    assert_eq!(
        row_keys,
        [row_key(0, false), row_key(1, false), row_key(2, true), row_key(3, true)]
    );
    assert_eq!(
        ops[2].value.as_deref(),
        Some(&b"\x0a\x01b"[..]),
        "a tombstone's row has only the key"
    );
    assert_eq!(mvcc.revision(), 4);
    assert_eq!(all(&mut mvcc).1.kvs, [kv("a", "2", [2, 4, 2], 7)]);
}

#[test]
fn a_write_that_changes_nothing_makes_no_revision() {
    let mut mvcc = Mvcc::new();
    assert_eq!(all(&mut mvcc), (1, RangeResponse::default()));
    let (mut events, mut ops) = (Vec::new(), Vec::new());
    let mut write = mvcc.begin();
    assert_eq!(write.delete_range(b"a", b"z"), []);
    assert!(!write.end(&mut events, &mut ops));
    assert_eq!((mvcc.revision(), events.len(), ops.len()), (1, 0, 0));
}

#[test]
fn a_deleted_key_begins_again_at_version_one() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "a", "2");
    delete(&mut mvcc, "a");
    put(&mut mvcc, "a", "3");
    assert_eq!(mvcc.view().get(b"a"), Some(kv("a", "3", [5, 5, 1], 0)));
}

#[test]
fn bad_sort_options_are_refused() {
    let view = Mvcc::new().view();
    let by = |sort_order, sort_target| RangeRequest {
        sort_order,
        sort_target,
        ..RangeRequest::default()
    };
    for request in [by(3, 0), by(-1, 0), by(0, 5), by(0, -1)] {
        assert_eq!(view.range(&request), Err(Error::InvalidSortOption));
    }
    assert_eq!(view.range(&by(2, 4)), Ok(RangeResponse::default()));
}

#[test]
fn a_compaction_does_not_change_a_view() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "a", "2");
    let view = mvcc.view();
    put(&mut mvcc, "a", "3");
    mvcc.compact(4, &mut Vec::new()).unwrap();
    assert_eq!(mvcc.compact_step(10, &mut Vec::new()), CompactProgress::Finished(4));
    assert_eq!(mvcc.view().prev_kv(b"a", 4), None, "the pair before is compacted");
    assert_eq!(view.prev_kv(b"a", 3), Some(kv("a", "1", [2, 2, 1], 0)));
    assert_eq!(
        view.events_since(2, 10)
            .map(|event| event.revision().main)
            .collect::<Vec<_>>(),
        [2, 3]
    );
}

#[test]
fn events_come_in_whole_revisions() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    let mut write = mvcc.begin();
    write.put(Bytes::from_static(b"b"), Bytes::new(), 0);
    write.delete_range(b"a", b"b");
    write.end(&mut Vec::new(), &mut Vec::new());
    put(&mut mvcc, "c", "1");
    let view = mvcc.view();
    let told = |start, revisions| -> Vec<_> {
        let events = view.events_since(start, revisions);
        events
            .map(|event| {
                (
                    event.key().to_vec(),
                    event.revision().main,
                    event.kind(),
                    event.is_create(),
                )
            })
            .collect()
    };
    let put = |key: &str, main| (key.as_bytes().to_vec(), main, EventKind::Put, true);
    let deleted = (b"a".to_vec(), 3, EventKind::Delete, false);
    assert_eq!(told(0, 2), [put("a", 2), put("b", 3), deleted.clone()]);
    assert_eq!(told(3, 1), [put("b", 3), deleted]);
    assert_eq!(told(4, 100), [put("c", 4)]);
    assert_eq!(told(5, 100), []);
    assert_eq!(told(2, 0), []);
}

#[test]
fn a_tombstone_at_the_compact_revision_stays_until_the_next_compaction() {
    let (mut mvcc, mut table) = (Mvcc::new(), Table::default());
    for ops in [
        put(&mut mvcc, "a", "1"),
        delete(&mut mvcc, "a"),
        put(&mut mvcc, "b", "1"),
    ] {
        table.write(ops);
    }
    let mut compact = |mvcc: &mut Mvcc, revision| {
        let mut ops = Vec::new();
        mvcc.compact(revision, &mut ops).unwrap();
        while mvcc.compact_step(1, &mut ops) == CompactProgress::More {}
        table.write(ops);
        table.check(mvcc);
        mvcc.view()
            .events_since(0, 100)
            .map(|event| event.revision().main)
            .collect::<Vec<_>>()
    };
    assert_eq!(compact(&mut mvcc, 3), [3, 4]);
    assert_eq!(compact(&mut mvcc, 4), [4]);
    assert_eq!(
        mvcc.view().keys.size().entries,
        1,
        "a key without revisions leaves the index"
    );
}

#[test]
fn a_later_compaction_continues_an_unfinished_one() {
    let (mut mvcc, mut table) = (Mvcc::new(), Table::default());
    for key in ["a", "b", "c", "d", "e"] {
        table.write(put(&mut mvcc, key, "1"));
        table.write(delete(&mut mvcc, key));
    }
    let mut ops = Vec::new();
    mvcc.compact(7, &mut ops).unwrap();
    assert_eq!(
        mvcc.compact_step(6, &mut ops),
        CompactProgress::More,
        "all records up to revision 7 are swept, tombstone 7 stays"
    );
    mvcc.compact(9, &mut ops).unwrap();
    assert_eq!(mvcc.compact_step(1, &mut ops), CompactProgress::More);
    assert_eq!(mvcc.compact_step(9, &mut ops), CompactProgress::Finished(9));
    assert_eq!(mvcc.compact_step(9, &mut ops), CompactProgress::Idle);
    table.write(ops);
    table.check(&mvcc);
    assert_eq!(mvcc.view().revision_count(), 3, "tombstone 9, put 10, tombstone 11");
}

#[test]
fn a_restored_store_keeps_its_compact_revisions() {
    let mark = |revision| Revision::first_of(revision).to_row_key(false);
    for (scheduled, finished, revision, compacting) in [
        (None, None, 1, false),
        (Some(9), None, 9, true),
        (Some(9), Some(5), 9, true),
        (Some(9), Some(9), 9, false),
    ] {
        let (scheduled, finished) = (scheduled.map(mark), finished.map(mark));
        let mvcc = Mvcc::restore()
            .finish(scheduled.as_deref(), finished.as_deref())
            .unwrap();
        assert_eq!((mvcc.revision(), mvcc.is_compacting()), (revision, compacting));
        assert_eq!(mvcc.compact_revision(), if revision == 9 { 9 } else { -1 });
    }
}

#[test]
fn a_restore_lists_the_keys_with_leases() {
    let (mut mvcc, mut table) = (Mvcc::new(), Table::default());
    let mut ops = Vec::new();
    for (key, lease) in [("a", 5), ("b", 6), ("c", 0), ("a", 7), ("d", 5)] {
        let mut write = mvcc.begin();
        write.put(Bytes::from_static(key.as_bytes()), Bytes::new(), lease);
        write.end(&mut Vec::new(), &mut ops);
    }
    ops.extend(delete(&mut mvcc, "d"));
    table.write(ops);
    let restored = table.restore();
    let leased: Vec<_> = restored
        .view()
        .leased_keys()
        .map(|(key, lease)| (key.to_vec(), lease))
        .collect();
    assert_eq!(leased, [(b"a".to_vec(), 7), (b"b".to_vec(), 6)]);
}

#[test]
fn damaged_tables_are_refused_with_a_reason() {
    let row = put(&mut Mvcc::new(), "a", "1")[0].clone();
    let value = row.value.unwrap();
    let key = |main, sub| Revision::new(main, sub).to_row_key(false);
    let table = [
        (Bytes::from_static(b"short"), value.clone(), "the key is no revision"),
        (key(0, 0), value.clone(), "the revision is out of range"),
        (key(i64::MAX, 0), value.clone(), "the revision is out of range"),
        (key(2, -1), value.clone(), "the revision is out of range"),
        (
            key(1, 0),
            value.clone(),
            "the revision is not greater than the one before",
        ),
        (key(3, 0), value, "the value has modification revision 2"),
        (key(2, 0), Bytes::from_static(b"\xff"), "the value is no key-value pair"),
    ];
    for (row_key, value, reason) in table {
        let mut restore = Mvcc::restore();
        if reason.contains("before") {
            restore.row(&key(1, 0), b"").unwrap();
        }
        let fault = restore.row(&row_key, &value).unwrap_err().to_string();
        assert!(fault.contains(reason), "{fault}");
    }
    let fault = Mvcc::restore().finish(Some(b"7"), None).unwrap_err().to_string();
    assert_eq!(fault, "bucket meta: 7 is no compaction mark");
}
