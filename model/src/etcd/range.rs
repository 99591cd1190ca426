//! Reads: the revision that a request means, and its answer.

use std::cmp::Ordering;

use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::{RangeRequest, RangeResponse};
use quoin_core::proto::mvccpb::KeyValue;

use super::kv::{Kv, header};
use super::refusal::{COMPACTED, FUTURE_REVISION};
use crate::call::Refusal;

/// The keys, as they can be read at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) kv: &'a Kv,
    /// The current revision at that moment.
    pub(super) revision: i64,
    /// The compact revision at that moment.
    pub(super) compact_revision: i64,
}

impl View<'_> {
    /// The revision to read at. The compact revision itself can be read.
    pub(super) fn resolve(&self, asked: i64) -> Result<i64, Refusal> {
        if asked > self.revision {
            return Err(FUTURE_REVISION.into());
        }
        let revision = if asked <= 0 { self.revision } else { asked };
        if revision < self.compact_revision {
            return Err(COMPACTED.into());
        }
        Ok(revision)
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        let revision = self.resolve(request.revision)?;
        let all = self.kv.scan(&request.key, &request.range_end, revision);
        if request.count_only {
            return Ok(RangeResponse {
                header: header(self.revision),
                count: all.count() as i64,
                ..RangeResponse::default()
            });
        }
        let mut count = 0;
        let mut kvs: Vec<&KeyValue> = all.inspect(|_| count += 1).filter(|kv| passes(request, kv)).collect();
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more && is_cut_before_sorting(request) {
            kvs.truncate(limit + 1);
        }
        sort(request, &mut kvs);
        if more {
            kvs.truncate(limit);
        }
        Ok(RangeResponse {
            header: header(self.revision),
            kvs: kvs.into_iter().map(|kv| shown(request, kv)).collect(),
            more,
            count,
        })
    }
}

/// Whether the limit is applied before sorting: true for a request without order and filters, even if it sorts by a
/// target other than the key.
fn is_cut_before_sorting(request: &RangeRequest) -> bool {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    request.sort_order == SortOrder::None as i32 && filters == [0; 4]
}

/// Whether a key passes the filters by revision; a filter of 0 does not filter.
fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(
            kv.create_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
}

/// Sorts as requested; for a target other than the key, no order means ascending. etcd does not define the order of
/// keys with equal targets; here they stay in ascending key order in both directions.
fn sort(request: &RangeRequest, kvs: &mut [&KeyValue]) {
    let target = SortTarget::try_from(request.sort_target);
    let by = |a: &KeyValue, b: &KeyValue| match target {
        Ok(SortTarget::Key) => a.key.cmp(&b.key),
        Ok(SortTarget::Version) => a.version.cmp(&b.version),
        Ok(SortTarget::Create) => a.create_revision.cmp(&b.create_revision),
        Ok(SortTarget::Mod) => a.mod_revision.cmp(&b.mod_revision),
        Ok(SortTarget::Value) => a.value.cmp(&b.value),
        Err(_) => Ordering::Equal,
    };
    match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::None | SortOrder::Ascend) | Err(_) => kvs.sort_by(|a, b| by(a, b)),
        Ok(SortOrder::Descend) => kvs.sort_by(|a, b| by(b, a)),
    }
}

fn shown(request: &RangeRequest, kv: &KeyValue) -> KeyValue {
    let mut kv = kv.clone();
    if request.keys_only {
        kv.value.clear();
    }
    kv
}
