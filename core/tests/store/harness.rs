//! A store, the table of its rows, and the entries it applied.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::error::Fault;
use quoin_core::mvcc::CompactProgress;
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, RangeRequest, RequestHeader};
use quoin_core::proto::raftpb::{ConfChange, Entry, EntryType};
use quoin_core::store::{Applied, ApplyContext, Restore, Store, StoreConfig, Unusable};
use quoin_core::table::{Bucket, TableOp, is_own};

/// The term of every entry, unless the script sets another.
pub(crate) const TERM: u64 = 2;

/// A store, its table and its log.
pub(crate) struct Harness {
    pub(crate) store: Store,
    pub(crate) config: StoreConfig,
    pub(crate) table: BTreeMap<(Bucket, Bytes), Bytes>,
    pub(crate) log: Vec<Entry>,
    pub(crate) quota_bytes: Option<u64>,
    /// Whether a client waits for answers.
    pub(crate) wanted: bool,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let config = StoreConfig::default();
        let store = Store::new(config);
        Self {
            store,
            config,
            table: BTreeMap::new(),
            log: Vec::new(),
            quota_bytes: None,
            wanted: true,
        }
    }

    /// Makes the next entry of the log.
    pub(crate) fn entry(&self, kind: EntryType, data: Vec<u8>) -> Entry {
        let index = self.log.len() as u64 + 1;
        Entry {
            entry_type: kind as i32,
            term: TERM,
            index,
            data: data.into(),
            ..Entry::default()
        }
    }

    /// Proposes a request: the next entry, numbered by its index.
    pub(crate) fn request(&mut self, request: InternalRaftRequest) -> Result<(Applied, Vec<TableOp>), Fault> {
        let header = Some(RequestHeader {
            id: self.log.len() as u64 + 1,
            ..RequestHeader::default()
        });
        let data = InternalRaftRequest { header, ..request }.encode_to_vec();
        self.apply(self.entry(EntryType::EntryNormal, data))
    }

    /// Proposes a membership change.
    pub(crate) fn conf_change(&mut self, change: ConfChange) -> Result<(Applied, Vec<TableOp>), Fault> {
        let change = ConfChange {
            id: self.log.len() as u64 + 1,
            ..change
        };
        self.apply(self.entry(EntryType::EntryConfChange, change.encode_to_vec()))
    }

    /// Applies the next entry and writes its rows.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<(Applied, Vec<TableOp>), Fault> {
        let mut applied = Applied::default();
        let wanted = |_| self.wanted;
        let context = ApplyContext {
            quota_bytes: self.quota_bytes,
            wanted: &wanted,
        };
        self.store.apply(&entry, context, &mut applied)?;
        self.log.push(entry);
        let ops = self.take_ops(&mut applied);
        Ok((applied, ops))
    }

    /// Makes one step of compaction and writes the rows.
    pub(crate) fn sweep(&mut self, max_revisions: usize) -> (CompactProgress, Vec<TableOp>) {
        let mut applied = Applied::default();
        let progress = self.store.compact_step(max_revisions, &mut applied);
        let ops = self.take_ops(&mut applied);
        (progress, ops)
    }

    /// Writes the rows, and returns those that etcd would write too.
    pub(crate) fn take_ops(&mut self, applied: &mut Applied) -> Vec<TableOp> {
        let mut ops = self.store.take_ops(applied);
        self.write(&ops);
        ops.retain(|op| !is_own(op.bucket, &op.key));
        ops
    }

    fn write(&mut self, ops: &[TableOp]) {
        for op in ops {
            let row = (op.bucket, op.key.clone());
            match &op.value {
                Some(value) => self.table.insert(row, value.clone()),
                None => self.table.remove(&row),
            };
        }
    }

    /// The store restored from the rows so far.
    pub(crate) fn restored(&self) -> Result<Store, Fault> {
        let restored = Restore::from_sealed_table(self.config, |bucket| {
            let rows = self.table.iter().filter(move |((of, _), _)| *of == bucket);
            rows.map(|((_, key), value)| Ok((key.clone(), value.clone())))
        });
        restored.map_err(|unusable| match unusable {
            Unusable::Damaged { cause, .. } => Fault::Inconsistent { cause },
            Unusable::Fault(fault) => fault,
        })
    }

    /// Applies the last `count` entries again, and returns the results.
    pub(crate) fn replay(&mut self, count: usize) -> Applied {
        let mut applied = Applied::default();
        let context = ApplyContext {
            quota_bytes: self.quota_bytes,
            wanted: &|_| true,
        };
        for entry in &self.log[self.log.len() - count..] {
            self.store.apply(entry, context, &mut applied).unwrap();
        }
        applied
    }
}

/// The whole contents of a store as text, to compare two stores.
pub(crate) fn fingerprint(store: &Store) -> String {
    let view = store.view();
    let mut lines = vec![format!(
        "index {} term {} revision {} compacted {} size {}",
        view.applied_index,
        view.term,
        view.kv.revision(),
        view.kv.compact_revision(),
        store.size_bytes()
    )];
    let everything = RangeRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        ..RangeRequest::default()
    };
    lines.extend(view.range(&everything).unwrap().kvs.iter().map(|kv| format!("{kv:?}")));
    lines.push(format!("{:?}", view.kv.hash_kv(0)));
    lines.extend(
        view.leases
            .iter()
            .map(|(id, lease)| format!("{id} {lease:?} {:?}", lease.keys().collect::<Vec<_>>())),
    );
    lines.push(format!("{:?} {:?}", view.alarms, view.cluster));
    lines.join("\n")
}
