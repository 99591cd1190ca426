//! Watches over streams that break: they continue where they stopped, and miss nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quoin_core::proto::etcdserverpb::WatchCreateRequest;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;

use super::bench::Bench;
use super::mock::in_range;
use crate::client::plan::{Kind, Plan};
use crate::cluster::ports::Act;
use crate::observe::StreamId;

/// One client's only watch: its creations, each with the stream, and the revisions of its responses there.
fn lives(bench: &Bench) -> Vec<(StreamId, WatchCreateRequest)> {
    bench
        .acts
        .iter()
        .filter_map(|(_, act)| match act {
            Act::Watch { stream, request } => match &request.request_union {
                Some(RequestUnion::CreateRequest(create)) => Some((*stream, create.clone())),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// A plan with one client that watches once, beside some that write.
fn plan(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    (plan.watchers, plan.watches, plan.leaseholders, plan.lockers) = (1, 1, 0, 0);
    plan.pause = Duration::from_millis(20);
    plan.kinds = vec![(Kind::Put, 3), (Kind::DeleteRange, 1), (Kind::Txn, 1)];
    plan
}

#[test]
fn a_watch_goes_on_without_gap_or_repeat() {
    let (mut resumed, mut fragments) = (0, 0);
    for seed in 0..60 {
        let mut bench = Bench::new(seed, plan(seed));
        bench.breaks_percent = 10;
        // No random actions: one watch for the whole run, which only a broken stream can end.
        let watcher = usize::try_from(bench.crowd.plan().callers).unwrap();
        bench.crowd.clients[watcher].quiet();
        bench.run(Duration::from_secs(20), usize::MAX);
        let lives = lives(&bench);
        let Some((_, last)) = lives.last() else { continue };
        // Those before it were refused.
        let same = |create: &&(StreamId, WatchCreateRequest)| {
            WatchCreateRequest {
                start_revision: 0,
                ..create.1.clone()
            } == WatchCreateRequest {
                start_revision: 0,
                ..last.clone()
            }
        };
        let mine: Vec<_> = lives.iter().rev().take_while(same).cloned().collect();
        let streams: BTreeMap<StreamId, i64> = mine
            .iter()
            .map(|(stream, create)| (*stream, create.start_revision))
            .collect();
        let mut seen = BTreeSet::new();
        let mut pending = BTreeMap::<StreamId, Vec<_>>::new();
        let mut next = 0;
        let mut begun = BTreeSet::new();
        for (at, stream, response) in &bench.told {
            let Some(start) = streams.get(stream) else { continue };
            if response.watch_id == -1 {
                continue;
            }
            if begun.insert(*stream) {
                if next > 0 {
                    assert_eq!(*start, next, "seed {seed}: at {at} the watch goes on elsewhere");
                    resumed += 1;
                }
                next = *start;
            }
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            if response.created || response.events.is_empty() {
                assert!(!response.canceled, "seed {seed}: {response:?}");
                next = if response.created && next > 0 {
                    next
                } else {
                    next.max(revision + 1)
                };
                continue;
            }
            // Fragments count when the last of them has arrived.
            let parts = pending.entry(*stream).or_default();
            parts.extend(
                response
                    .events
                    .iter()
                    .map(|event| (event.r#type, event.kv.clone().unwrap())),
            );
            if response.fragment {
                fragments += 1;
                continue;
            }
            for (kind, kv) in std::mem::take(parts) {
                next = kv.mod_revision + 1;
                assert!(
                    seen.insert((kv.mod_revision, kind, kv.key.clone())),
                    "seed {seed}: {kv:?} comes twice"
                );
            }
        }
        let first = seen.iter().next().map_or(0, |(revision, _, _)| *revision);
        for event in &bench.store.events {
            let kv = event.kv.as_ref().unwrap();
            let owed = (first..next).contains(&kv.mod_revision) && in_range(&kv.key, &last.key, &last.range_end);
            let heard = seen.contains(&(kv.mod_revision, event.r#type, kv.key.clone()));
            assert!(heard || !owed, "seed {seed}: {kv:?} is missed");
        }
    }
    assert!(resumed > 100 && fragments > 20, "{resumed} {fragments}");
}

#[test]
fn after_a_compaction_a_watch_goes_on_at_what_is_left_or_lists() {
    let (mut at_compaction, mut after_list) = (0, 0);
    for seed in 0..60 {
        let mut plan = plan(seed);
        plan.kinds.push((Kind::Compact, 1));
        let mut bench = Bench::new(seed, plan);
        bench.breaks_percent = 10;
        bench.run(Duration::from_secs(30), 4_000);
        let canceled: Vec<_> = bench
            .told
            .iter()
            .filter(|(_, _, response)| response.compact_revision > 0)
            .map(|(at, _, response)| (*at, response.compact_revision))
            .collect();
        let created: Vec<_> = bench
            .acts
            .iter()
            .filter_map(|(at, act)| match act {
                Act::Watch { request, .. } => match &request.request_union {
                    Some(RequestUnion::CreateRequest(create)) => Some((*at, create.start_revision)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        for (at, compacted) in canceled {
            let next = created.iter().find(|(created_at, _)| *created_at >= at);
            match next {
                Some((_, start)) if *start == compacted => at_compaction += 1,
                Some((_, start)) if *start > compacted => after_list += 1,
                Some((_, _)) | None => {}
            }
        }
    }
    assert!(at_compaction > 5 && after_list > 5, "{at_compaction} {after_list}");
}
