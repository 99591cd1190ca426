//! A second start from the same disk: it must have the same result as the first.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::node::{Effect, Input};
use quoin_core::store::View;
use quoin_runtime::clock::Time as _;
use quoin_runtime::lanes::table::TableTask;

use crate::observe::{Verdict, ensure};
use crate::process::{Process, Site};

/// The result of a second start from the same disk, left alone until it serves.
pub(super) fn run(site: &Site, unix_ms: u64) -> Option<View> {
    let site = site.fork();
    let (mut process, _) = Process::boot(&site, unix_ms, !0, &|_, _| BTreeMap::new()).ok()?;
    let mut effects = Vec::new();
    for _ in 0..200 {
        process.log.run(usize::MAX);
        process.rows.run(usize::MAX);
        let reports = process.reports.take(usize::MAX).into_iter().map(Input::Done);
        process.step(site.hand.now(), reports.chain([Input::Wake]), &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Halt(_) => return None,
                Effect::Log(job) => process.give_log(job),
                Effect::Publish { view, status, .. } if status.published => return Some(view),
                Effect::Hash(_)
                | Effect::Peer(_)
                | Effect::Publish { .. }
                | Effect::Reply { .. }
                | Effect::Tokens(_) => {}
                Effect::Table(job) => process.give_rows(TableTask::Job(job)),
            }
        }
        site.hand.advance(Duration::from_millis(5));
    }
    None
}

/// Two starts from one disk have the same result. If no key is left, the log does not determine the rows that are
/// hashed.
pub(super) fn compare(twin: &View, view: &View) -> Verdict {
    let revision = twin.kv.revision().min(view.kv.revision());
    let hashes = (twin.kv.hash_kv(revision), view.kv.hash_kv(revision));
    let is_empty = twin.kv.key_count() == 0 || view.kv.key_count() == 0;
    let differ = twin.kv.compact_revision() != view.kv.compact_revision();
    ensure(is_empty || differ || hashes.0 == hashes.1, "C40", || {
        format!("two starts from one disk have hashes {hashes:?}")
    })
}
