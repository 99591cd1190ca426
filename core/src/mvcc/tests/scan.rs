//! Ranges and hashes in steps: the answer does not depend on the steps, and each step is bounded.

use bytes::Bytes;
use prost::Message as _;

use crate::mvcc::{Hashing, Mvcc, Scan, View};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::random::Prng;

/// Asserts that a range in random steps gives the same answer as at once, and that its encoded pairs are the answer's.
pub(super) fn assert_steps_agree(view: &View, request: &RangeRequest, random: &mut Prng) {
    let at_once = view.range(request);
    let mut scan = match Scan::new(view, request) {
        Ok(scan) => scan,
        Err(error) => return assert_eq!(at_once, Err(error), "{request:?}"),
    };
    while !scan.step(1 + random.below(5) as usize) {}
    let mut found = scan.finish();
    let (more, count, pair_bytes) = (found.more, found.count, found.pair_bytes());
    let mut pairs = Vec::new();
    loop {
        let until = pairs.len() + 1 + random.below(60) as usize;
        if found.encode(&mut pairs, until) {
            break;
        }
        assert!(pairs.len() >= until, "only the last piece is short");
    }
    assert_eq!(
        pairs.len(),
        pair_bytes,
        "the length is known before anything is encoded: {request:?}"
    );
    let RangeResponse { kvs, .. } = RangeResponse::decode(&pairs[..]).unwrap();
    let in_steps = RangeResponse {
        header: None,
        kvs,
        more,
        count,
    };
    assert_eq!(at_once, Ok(in_steps), "{request:?}");
}

/// Asserts that a hash in random steps equals the hash at once.
pub(super) fn assert_hashes_agree(view: &View, revision: i64, random: &mut Prng) {
    let in_steps = Hashing::new(view, revision).map(|mut hashing| {
        while !hashing.step(1 + random.below(5) as usize) {}
        hashing.finish()
    });
    assert_eq!(in_steps, view.hash_kv(revision));
}

const KEYS: usize = 10_000;

/// A store of many keys, each written once or twice, some of them deleted afterwards.
fn store() -> Mvcc {
    let mut random = Prng::new(7);
    let mut mvcc = Mvcc::new();
    let mut write = mvcc.begin();
    for key in 0..KEYS {
        let value = Bytes::from(random.below(500).to_string());
        write.put(format!("{key:05}").into(), value, 0);
    }
    write.end(&mut Vec::new(), &mut Vec::new());
    let mut write = mvcc.begin();
    for key in (0..KEYS).step_by(3) {
        write.put(format!("{key:05}").into(), Bytes::from_static(b"again"), 0);
    }
    write.delete_range(b"02", b"03");
    write.end(&mut Vec::new(), &mut Vec::new());
    mvcc
}

fn all() -> RangeRequest {
    RangeRequest {
        key: "0".into(),
        range_end: "1".into(),
        ..RangeRequest::default()
    }
}

/// How many steps of `rows` rows a range takes.
fn steps(view: &View, request: &RangeRequest, rows: usize) -> usize {
    let mut scan = Scan::new(view, request).unwrap();
    let mut steps = 1;
    while !scan.step(rows) {
        steps += 1;
    }
    steps
}

#[test]
fn a_step_of_any_kind_of_range_is_bounded() {
    let view = store().view();
    let rows = 100;
    for (request, least, most) in [
        (all(), 90, 92),
        (
            RangeRequest {
                keys_only: true,
                ..all()
            },
            90,
            92,
        ),
        (RangeRequest { limit: 50, ..all() }, 1, 2),
        (RangeRequest { limit: 1_000, ..all() }, 10, 12),
        (
            RangeRequest {
                count_only: true,
                ..all()
            },
            1,
            1,
        ),
        // Rows that a former revision needs: the keys, or the later changes.
        (RangeRequest { revision: 2, ..all() }, 200, 202),
        (
            RangeRequest {
                revision: 2,
                limit: 10,
                ..all()
            },
            40,
            50,
        ),
        (
            RangeRequest {
                revision: 2,
                count_only: true,
                ..all()
            },
            40,
            50,
        ),
        // A sort looks at all keys, and picks those of the answer.
        (
            RangeRequest {
                sort_order: 1,
                sort_target: 4,
                ..all()
            },
            180,
            182,
        ),
        (
            RangeRequest {
                sort_order: 2,
                sort_target: 1,
                limit: 10,
                ..all()
            },
            90,
            92,
        ),
        (
            RangeRequest {
                sort_order: 2,
                sort_target: 0,
                limit: 10,
                ..all()
            },
            90,
            92,
        ),
        // A filter looks at all keys, too.
        (
            RangeRequest {
                min_mod_revision: 3,
                ..all()
            },
            120,
            124,
        ),
        (
            RangeRequest {
                max_create_revision: 1,
                ..all()
            },
            90,
            92,
        ),
    ] {
        let taken = steps(&view, &request, rows);
        assert!((least..=most).contains(&taken), "{taken} steps for {request:?}");
    }
}

#[test]
fn a_step_of_a_hash_is_bounded() {
    let view = store().view();
    let mut hashing = Hashing::new(&view, 0).unwrap();
    let mut taken = 1;
    while !hashing.step(100) {
        taken += 1;
    }
    assert!(taken >= 140, "{taken} steps");
}

#[test]
fn sorting_in_runs_equals_sorting_at_once() {
    let view = store().view();
    let mut random = Prng::new(1);
    for (sort_order, sort_target) in [(1, 4), (2, 4), (1, 1), (2, 1), (1, 3), (2, 2), (0, 4), (2, 0)] {
        for limit in [0, 7, 5_000] {
            let request = RangeRequest {
                sort_order,
                sort_target,
                limit,
                ..all()
            };
            let found = view.range(&request).unwrap();
            let mut kvs = view
                .range(&RangeRequest {
                    // As in etcd, which sorts only the rows within the limit plus one.
                    limit: if sort_order == 0 && limit > 0 { limit + 1 } else { 0 },
                    ..all()
                })
                .unwrap()
                .kvs;
            match (sort_order, sort_target) {
                (2, 0) => kvs.reverse(),
                (2, 4) => kvs.sort_by(|a, b| b.value.cmp(&a.value)),
                (_, 4) => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
                (2, 1) => kvs.sort_by_key(|kv| -kv.version),
                (_, 1) => kvs.sort_by_key(|kv| kv.version),
                (2, 2) => kvs.sort_by_key(|kv| -kv.create_revision),
                _ => kvs.sort_by_key(|kv| kv.mod_revision),
            }
            if limit > 0 {
                kvs.truncate(limit as usize);
            }
            assert!(found.kvs == kvs, "{request:?}");
            assert_eq!((found.count, found.more), (9_000, limit > 0), "{request:?}");
        }
    }
    assert_steps_agree(
        &view,
        &RangeRequest {
            sort_order: 2,
            sort_target: 4,
            ..all()
        },
        &mut random,
    );
}

#[test]
fn the_rows_a_range_reads_are_estimated_beforehand() {
    let view = store().view();
    let rows = |request: &RangeRequest| view.rows_to_read(request);
    assert_eq!(
        rows(&RangeRequest {
            key: "00001".into(),
            ..RangeRequest::default()
        }),
        1
    );
    assert_eq!(
        rows(&RangeRequest {
            count_only: true,
            ..all()
        }),
        1
    );
    assert_eq!(rows(&all()), KEYS, "deleted keys may have to be passed over");
    assert_eq!(
        rows(&RangeRequest {
            range_end: "005".into(),
            ..all()
        }),
        500
    );
    assert_eq!(rows(&RangeRequest { limit: 10, ..all() }), 11);
    for longer in [
        RangeRequest {
            limit: 10,
            revision: 2,
            ..all()
        },
        RangeRequest {
            limit: 10,
            sort_order: 2,
            ..all()
        },
        RangeRequest {
            limit: 10,
            sort_order: 1,
            sort_target: 1,
            ..all()
        },
        RangeRequest {
            limit: 10,
            min_create_revision: 1,
            ..all()
        },
        RangeRequest {
            count_only: true,
            revision: 2,
            ..all()
        },
    ] {
        assert_eq!(rows(&longer), KEYS, "{longer:?}");
    }
}
