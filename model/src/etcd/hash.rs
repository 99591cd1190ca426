//! The hash of all keys.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::proto::etcdserverpb::HashKvResponse;
use quoin_core::proto::mvccpb::KeyValue;

use super::kv::{Event, EventKind, header};
use super::range::View;
use crate::call::Refusal;

/// CRC-32C, as in etcd.
#[derive(Clone, Copy, Debug)]
struct Crc(u32);

/// The lookup table of CRC-32C, by byte.
const STEPS: [u32; 256] = {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut steps = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut step = at as u32;
        let mut bit = 0;
        while bit < 8 {
            step = (step >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(step & 1));
            bit += 1;
        }
        steps[at] = step;
        at += 1;
    }
    steps
};

impl Crc {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 >> 8) ^ STEPS[usize::from(self.0 as u8 ^ byte)];
        }
    }
}

/// The hash of a member that has deleted the rows of compacted revisions. Until then the hash differs if no key exists
/// at the revision: by a quirk of etcd, it then hashes all rows that it still has.
pub(super) fn hash_kv(view: View<'_>, asked: i64) -> Result<HashKvResponse, Refusal> {
    // At a negative revision, no rows are hashed.
    let revision = if asked < 0 { asked } else { view.resolve(asked)? };
    let compacted = view.compact_revision;
    // Of the rows of compacted revisions, only these are hashed: the rows of keys that exist at the revision or, if
    // there are none, of keys that exist at the compact revision.
    let mut kept: BTreeSet<_> = view.kv.live(revision).map(stamp).collect();
    if kept.is_empty() {
        kept = view.kv.live(compacted).map(stamp).collect();
    }
    let mut crc = Crc(u32::MAX);
    crc.feed(b"key");
    for event in view.kv.events(0, revision) {
        let is_kept = event.kind == EventKind::Put && kept.contains(&stamp(&event.kv));
        if event.revision <= compacted && !is_kept {
            continue;
        }
        let (key, value) = record(event);
        crc.feed(&key);
        crc.feed(&value);
    }
    Ok(HashKvResponse {
        header: header(view.revision),
        hash: !crc.0,
        compact_revision: compacted,
        hash_revision: revision,
    })
}

/// Revision and key, which identify one version of a key.
fn stamp(kv: &KeyValue) -> (i64, &Bytes) {
    (kv.mod_revision, &kv.key)
}

/// The row in which etcd stores an event. Its key is the revision and sub-revision, with a mark for a tombstone; its
/// value is the encoded key-value.
fn record(event: &Event) -> (Vec<u8>, Vec<u8>) {
    let mut key = event.revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(event.sub.to_be_bytes());
    let value = match event.kind {
        EventKind::Put => event.kv.encode_to_vec(),
        EventKind::Delete => {
            key.push(b't');
            let key = event.kv.key.clone();
            KeyValue {
                key,
                ..KeyValue::default()
            }
            .encode_to_vec()
        }
    };
    (key, value)
}
