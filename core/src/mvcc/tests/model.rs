//! The key space against a simple model: a list of all changes ever made, replayed for every answer.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Table;
use super::scan::{assert_hashes_agree, assert_steps_agree};
use crate::error::Error;
use crate::mvcc::{CompactProgress, Event, EventKind, Mvcc, View, Write};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;
use crate::random::Prng;

/// One change: main revision, key, and the pair unless it was deleted.
type Change = (i64, Bytes, Option<KeyValue>);

#[derive(Clone, Default)]
struct Model {
    changes: Vec<Change>,
    revision: i64,
    compact_revision: i64,
}

impl Model {
    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut pairs = BTreeMap::new();
        for (_, key, pair) in self.changes.iter().filter(|(main, ..)| *main <= revision) {
            match pair {
                Some(pair) => drop(pairs.insert(key.clone(), pair.clone())),
                None => drop(pairs.remove(key)),
            }
        }
        pairs
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let revision = match request.revision {
            later if later > self.revision => return Err(Error::FutureRevision),
            now if now <= 0 => self.revision,
            compacted if compacted < self.compact_revision => return Err(Error::Compacted),
            then => then,
        };
        let in_range = |key: &Bytes| match &request.range_end[..] {
            [] => *key == request.key,
            [0] => *key >= request.key,
            end => *key >= request.key && &key[..] < end,
        };
        let mut kvs: Vec<_> = self.at(revision).into_values().filter(|kv| in_range(&kv.key)).collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(RangeResponse {
                count,
                ..RangeResponse::default()
            });
        }
        kvs.retain(|kv| request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision);
        kvs.retain(|kv| request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision);
        match (request.sort_order, request.sort_target) {
            (0, _) | (1, 0) => {}
            (1, 1) => kvs.sort_by_key(|kv| kv.version),
            (1, 4) => kvs.sort_by_key(|kv| kv.value.clone()),
            (2, 0) => kvs.reverse(),
            (2, 3) => kvs.sort_by_key(|kv| -kv.mod_revision),
            other => panic!("the model does not know order {other:?}"),
        }
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse {
            header: None,
            kvs,
            more,
            count,
        })
    }

    /// The rows that a finished compaction leaves: main revision and key.
    fn kept(&self) -> Vec<(i64, Bytes)> {
        let visible = self.at(self.compact_revision);
        let keep = |(main, key, pair): &Change| {
            let is_seen = visible.get(key).is_some_and(|kv| kv.mod_revision == *main);
            *main > self.compact_revision || is_seen || (pair.is_none() && *main == self.compact_revision)
        };
        self.changes
            .iter()
            .filter(|change| keep(change))
            .map(|(main, key, _)| (*main, key.clone()))
            .collect()
    }
}

fn draw_key(random: &mut Prng) -> Bytes {
    Bytes::from(format!("k{:02}", random.below(24)))
}

fn draw_range(random: &mut Prng) -> (Bytes, Bytes) {
    let end = match random.below(4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        _ => draw_key(random),
    };
    (draw_key(random), end)
}

/// One random change, made in both; never the same key twice in a write, as in transactions.
fn change(random: &mut Prng, write: &mut Write<'_>, model: &mut Model, main: i64) {
    let pairs = model.at(main);
    let untouched = |key: &Bytes| {
        !model
            .changes
            .iter()
            .any(|(at, changed, _)| *at == main && changed == key)
    };
    if random.below(3) > 0 {
        let key = draw_key(random);
        if !untouched(&key) {
            return;
        }
        let before = pairs.get(&key);
        let (value, lease) = (Bytes::from(format!("{}", random.below(1_000))), random.below(3) as i64);
        assert_eq!(write.put(key.clone(), value.clone(), lease).as_ref(), before);
        let create_revision = before.map_or(main, |before| before.create_revision);
        let version = before.map_or(1, |before| before.version + 1);
        let kv = KeyValue {
            key: key.clone(),
            create_revision,
            mod_revision: main,
            version,
            value,
            lease,
        };
        model.changes.push((main, key, Some(kv)));
        return;
    }
    let (key, end) = match random.below(6) {
        0 => draw_range(random),
        _ => (draw_key(random), Bytes::new()),
    };
    let within = |other: &Bytes| match &end[..] {
        [] => *other == key,
        [0] => *other >= key,
        end => *other >= key && &other[..] < end,
    };
    if !model
        .changes
        .iter()
        .filter(|(at, ..)| *at == main)
        .any(|(_, changed, _)| within(changed))
    {
        let gone: Vec<_> = pairs.into_values().filter(|kv| within(&kv.key)).collect();
        assert_eq!(write.delete_range(&key, &end), gone);
        model.changes.extend(gone.into_iter().map(|kv| (main, kv.key, None)));
    }
}

fn assert_view_is(view: &View, model: &Model, random: &mut Prng) {
    assert_eq!(view.revision(), model.revision);
    assert_eq!(view.compact_revision().max(0), model.compact_revision);
    for _ in 0..6 {
        let (key, range_end) = draw_range(random);
        let (sort_order, sort_target) =
            [(0, 0), (0, 0), (1, 0), (1, 1), (1, 4), (2, 0), (2, 3)][random.below(7) as usize];
        let request = RangeRequest {
            key,
            range_end,
            limit: [0, 0, 1, 3, 10][random.below(5) as usize],
            revision: random.below(model.revision as u64 + 2) as i64,
            sort_order,
            sort_target,
            keys_only: random.below(4) == 0,
            count_only: random.below(4) == 0,
            min_mod_revision: [0, 0, 0, model.revision / 2][random.below(4) as usize],
            max_create_revision: [0, 0, 0, model.revision / 2][random.below(4) as usize],
            ..RangeRequest::default()
        };
        assert_eq!(view.range(&request), model.range(&request), "{request:?}");
        assert_steps_agree(view, &request, random);
    }
    let start = model
        .compact_revision
        .max(random.below(model.revision as u64 + 2) as i64);
    let told = view
        .events_since(start, usize::MAX)
        .map(|event| (event.revision().main, event.key().to_vec()));
    let expected = model
        .changes
        .iter()
        .filter(|(main, ..)| *main >= start)
        .map(|(main, key, _)| (*main, key.to_vec()));
    assert!(told.eq(expected), "every event from {start} on, in order");
}

fn assert_events_are(events: &[Event], before: &BTreeMap<Bytes, KeyValue>, changes: &[Change], view: &View) {
    assert_eq!(events.len(), changes.len());
    for (event, (main, key, pair)) in events.iter().zip(changes) {
        let deleted = KeyValue {
            key: key.clone(),
            mod_revision: *main,
            ..KeyValue::default()
        };
        let kind = if pair.is_some() {
            EventKind::Put
        } else {
            EventKind::Delete
        };
        assert_eq!((event.kind, &event.kv), (kind, pair.as_ref().unwrap_or(&deleted)));
        assert_eq!(event.prev_kv.as_ref(), before.get(key));
        let compacted = main - 1 < view.compact_revision();
        assert_eq!(view.prev_kv(key, *main), event.prev_kv.clone().filter(|_| !compacted));
    }
}

fn run(seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut random = Prng::new(seed);
    let (mut mvcc, mut table, mut model) = (
        Mvcc::new(),
        Table::default(),
        Model {
            revision: 1,
            ..Model::default()
        },
    );
    let mut views = Vec::new();
    for step in 0..steps {
        let mut ops = Vec::new();
        match random.below(20) {
            0 => {
                let revision = random.below(model.revision as u64 + 2) as i64;
                let refused = match revision {
                    old if old <= mvcc.compact_revision() => Err(Error::Compacted),
                    future if future > model.revision => Err(Error::FutureRevision),
                    good => {
                        model.compact_revision = good;
                        Ok(())
                    }
                };
                assert_eq!(mvcc.compact(revision, &mut ops), refused);
            }
            1..4 => {
                let more = mvcc.compact_step(1 + random.below(40) as usize, &mut ops) == CompactProgress::More;
                assert_eq!(more, mvcc.is_compacting());
            }
            _ => {
                let (main, before, so_far) = (model.revision + 1, model.at(model.revision), model.changes.len());
                let (mut events, mut write) = (Vec::new(), mvcc.begin());
                for _ in 0..=random.below(4) {
                    change(&mut random, &mut write, &mut model, main);
                }
                let wrote = write.end(&mut events, &mut ops);
                assert_eq!(wrote, model.changes.len() > so_far);
                model.revision += i64::from(wrote);
                assert_events_are(&events, &before, &model.changes[so_far..], &mvcc.view());
            }
        }
        table.write(ops);
        if !mvcc.is_compacting() {
            let kept = mvcc
                .view()
                .log
                .iter()
                .map(|(at, record)| (at.main, record.key().to_vec()))
                .collect::<Vec<_>>();
            assert!(
                kept.into_iter()
                    .eq(model.kept().into_iter().map(|(main, key)| (main, key.to_vec())))
            );
        }
        if step % 10 == 0 {
            table.check(&mvcc);
            assert_view_is(&mvcc.view(), &model, &mut random);
            let restored = table.restore();
            table.check(&restored);
            assert_view_is(&restored.view(), &model, &mut random);
            assert_eq!(restored.view().hash_kv(0), mvcc.view().hash_kv(0));
            assert_hashes_agree(
                &mvcc.view(),
                random.below(model.revision as u64 + 2) as i64,
                &mut random,
            );
            if random.below(4) == 0 {
                mvcc = restored;
            }
            views.push((mvcc.view(), model.clone()));
        }
    }
    for (view, model) in views {
        assert_view_is(&view, &model, &mut random);
    }
}

#[test]
fn answers_equal_those_of_a_list_of_all_changes() {
    for seed in 0..6 {
        run(seed, 400);
    }
}
