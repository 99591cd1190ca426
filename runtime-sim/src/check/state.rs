//! Compares a member's whole state with the model's at the same entry.

use quoin_core::mvcc::{self, EventKind};
use quoin_core::proto::etcdserverpb::{AlarmType, RangeRequest};
use quoin_core::store::View;
use quoin_core::version::Version;

use super::Truth;
use quoin_model::etcd;

/// The first difference in a member's state, if there is one.
pub(super) fn compare(view: &View, truth: &Truth) -> Result<(), String> {
    revisions(view, truth)?;
    keys(view, truth)?;
    history(view, truth)?;
    leases(view, truth)?;
    cluster(view, truth)
}

/// The part of the comparison that is cheap.
pub(super) fn revisions(view: &View, truth: &Truth) -> Result<(), String> {
    let (model, index) = (truth.model(), view.applied_index);
    let found = (view.kv.revision(), view.kv.compact_revision());
    let expected = (model.revision_at(index), model.compact_revision_at(index));
    if found != expected {
        return Err(format!(
            "at entry {index} revision and compact revision are {found:?} and should be {expected:?}"
        ));
    }
    Ok(())
}

/// The revisions that a member keeps after its last compaction is finished: of every key the newest revision at the
/// compaction, even if that is a deletion at the compact revision, and everything after.
pub(super) fn compacted(view: &View, truth: &Truth) -> Result<(), String> {
    let (model, kv) = (truth.model(), &view.kv);
    let compacted = kv.compact_revision();
    if compacted < 1 || kv.finished_compact() != compacted {
        return Ok(());
    }
    let at_compaction = model.events(compacted, compacted);
    let is_last = |place: usize| {
        at_compaction[place + 1..]
            .iter()
            .all(|event| event.kv.key != at_compaction[place].kv.key)
    };
    let deletions = (0..at_compaction.len())
        .filter(|place| at_compaction[*place].kind == etcd::EventKind::Delete && is_last(*place))
        .count();
    let expected = model.live(compacted).count() + deletions + model.events(compacted + 1, kv.revision()).len();
    let found = kv.revision_count();
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "after the compaction at {compacted} there are {found} revisions of keys and should be {expected}"
    ))
}

fn keys(view: &View, truth: &Truth) -> Result<(), String> {
    let everything = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    };
    let found = view.kv.range(&everything).map_err(|error| error.to_string())?;
    truth.model().compare_kv(view.kv.revision(), found.kvs)
}

fn history(view: &View, truth: &Truth) -> Result<(), String> {
    let from = view.kv.compact_revision().max(1) + 1;
    let mut expected = truth.model().events(from, view.kv.revision()).iter();
    for found in view.kv.events_since(from, usize::MAX) {
        let known = expected.next();
        if !known.is_some_and(|known| is_kind(found.kind(), known.kind) && found.kv() == known.kv) {
            return Err(format!("the history has {:?} and should have {known:?}", found.kv()));
        }
    }
    match expected.next() {
        Some(missing) => Err(format!("the history ends before {missing:?}")),
        None => Ok(()),
    }
}

/// A checkpoint is stored only by clusters in which every member reads it back, so the member may have none if the
/// model has one.
fn leases(view: &View, truth: &Truth) -> Result<(), String> {
    let expected = truth.model().leases_at(view.applied_index);
    let equal = view.leases.len() == expected.len()
        && view.leases.iter().zip(&expected).all(|((id, lease), known)| {
            (id, lease.ttl()) == (known.id, known.granted_ttl)
                && [0, known.remaining_ttl].contains(&lease.remaining_ttl())
                && lease.keys().eq(&known.keys)
        });
    if equal {
        return Ok(());
    }
    let found = |(id, lease): (i64, &quoin_core::store::Lease)| {
        (
            id,
            lease.ttl(),
            lease.remaining_ttl(),
            lease.keys().cloned().collect::<Vec<_>>(),
        )
    };
    let found: Vec<_> = view.leases.iter().map(found).collect();
    let index = view.applied_index;
    Err(format!(
        "at entry {index} leases are {found:?} and should be {expected:?}"
    ))
}

/// Members, removed ids, version, alarms.
pub(super) fn cluster(view: &View, truth: &Truth) -> Result<(), String> {
    let (model, index) = (truth.model(), view.applied_index);
    let expected = model.cluster_at(index);
    let mut members = view.cluster.members();
    let equal = expected.members.iter().all(|(id, known)| {
        members.next().is_some_and(|member| {
            (member.id.0, member.is_learner) == (*id, known.is_learner)
                && (&member.name, &member.peer_urls, &member.client_urls)
                    == (&known.name, &known.peer_urls, &known.client_urls)
        })
    });
    let removed = view
        .cluster
        .removed()
        .map(|id| id.0)
        .eq(expected.removed.iter().copied());
    let version = view.cluster.version() == expected.version.as_deref().and_then(Version::parse);
    if !equal || members.next().is_some() || !removed || !version {
        let found = &view.cluster;
        return Err(format!(
            "at entry {index} the cluster is {found:?} and should be {expected:?}"
        ));
    }
    let mut alarms: Vec<_> = view
        .alarms
        .list(AlarmType::None)
        .map(|of| (of.alarm, of.member_id))
        .collect();
    let mut known: Vec<_> = model
        .alarms_at(index)
        .iter()
        .map(|of| (of.alarm, of.member_id))
        .collect();
    alarms.sort_unstable();
    known.sort_unstable();
    if alarms != known {
        return Err(format!(
            "at entry {index} alarms are {alarms:?} and should be {known:?}"
        ));
    }
    Ok(())
}

/// Whether an event equals the model's.
pub(super) fn is_same(found: &mvcc::Event, known: &etcd::Event) -> bool {
    // The previous pair for watchers follows another rule, which is checked with the watchers (C16).
    is_kind(found.kind, known.kind) && found.kv == known.kv
}

fn is_kind(found: EventKind, known: etcd::EventKind) -> bool {
    match found {
        EventKind::Put => known == etcd::EventKind::Put,
        EventKind::Delete => known == etcd::EventKind::Delete,
    }
}
