//! The responses of a watch stream, with every event encoded once for all its watchers. This file makes the bytes; the
//! hub decides when to send.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::proto::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::proto::mvccpb;

/// The tag before an event's length in a `WatchResponse`: field 11, the last one, length-delimited.
const EVENTS_KEY: u8 = 11 << 3 | 2;

/// The watch id of a response for no watcher, or for all of them.
pub(super) const NO_WATCH: i64 = -1;

/// One message of a watch stream: events, progress, or the creation or end of a watch.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The watch; -1 for none or all of the stream.
    pub watch_id: i64,
    /// The watch was made; with `canceled`, it was refused.
    pub created: bool,
    /// The watch has ended.
    pub canceled: bool,
    /// If not 0: the watch has ended because history before this revision is compacted.
    pub compact_revision: i64,
    /// Why the watch was refused.
    pub cancel_reason: Cow<'static, str>,
    /// The next response continues this one.
    pub fragment: bool,
    /// Revision for the header.
    pub revision: i64,
    /// The events, in order.
    pub events: Events,
}

/// The fields of a response's header that come from the member, not from the watch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The cluster.
    pub cluster_id: u64,
    /// The answering member.
    pub member_id: u64,
    /// Its raft term at that time.
    pub raft_term: u64,
}

impl Origin {
    /// The origin with the longest encoding, for computing a length before the real one is known.
    const LONGEST: Self = Self {
        cluster_id: u64::MAX,
        member_id: u64::MAX,
        raft_term: u64::MAX,
    };
}

impl Response {
    /// Bytes of the encoded `etcdserverpb.WatchResponse`.
    #[must_use]
    pub fn encoded_len(&self, origin: Origin) -> usize {
        self.head(origin).encoded_len() + self.events.encoded_len()
    }

    /// Appends the encoded `etcdserverpb.WatchResponse` to `buf`, which grows or has room for
    /// [`Response::encoded_len`] bytes.
    pub fn encode(&self, origin: Origin, buf: &mut impl BufMut) {
        self.encode_head(origin, buf);
        for event in self.events.parts() {
            buf.put_slice(event);
        }
    }

    /// The response as its message.
    ///
    /// # Panics
    /// Never: the hub encodes valid events.
    #[must_use]
    pub fn message(&self, origin: Origin) -> WatchResponse {
        let events = self.events.parts().iter().flat_map(|part| {
            let part = WatchResponse::decode(part.clone()).expect("an event is a field of a response");
            part.events
        });
        WatchResponse {
            events: events.collect(),
            ..self.head(origin)
        }
    }

    /// Appends the bytes before the events, which are [`Events::parts`].
    pub fn encode_head(&self, origin: Origin, buf: &mut impl BufMut) {
        self.head(origin).encode(buf).expect("the caller has made room");
    }

    /// Cuts the response between events so that every part with more than one event encodes to less than `max_bytes`. A
    /// response of a single event stays whole, whatever its size.
    pub(super) fn split(self, max_bytes: usize) -> Vec<Self> {
        if self.events.len() < 2 || self.encoded_len(Origin::LONGEST) < max_bytes {
            return vec![self];
        }
        let head = Self {
            fragment: true,
            events: Events::default(),
            ..self
        };
        let room = max_bytes.saturating_sub(head.encoded_len(Origin::LONGEST));
        let mut rest = &self.events.parts[..];
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|event| {
                bytes += event.len();
                bytes < room
            });
            let (part, more) = rest.split_at(fitting.count().max(1));
            rest = more;
            parts.push(Self {
                fragment: !rest.is_empty(),
                events: part.iter().cloned().collect(),
                ..head.clone()
            });
        }
        parts
    }

    /// The response without its events.
    fn head(&self, origin: Origin) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                cluster_id: origin.cluster_id,
                member_id: origin.member_id,
                revision: self.revision,
                raft_term: origin.raft_term,
            }),
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.cancel_reason.clone().into_owned(),
            fragment: self.fragment,
            events: Vec::new(),
        }
    }
}

/// Encoded events; clones share their bytes.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Each with the tag and length of a field of a `WatchResponse`.
    parts: Arc<[Bytes]>,
    encoded_len: usize,
}

impl Events {
    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The events in order, each as a field of an encoded `etcdserverpb.WatchResponse`.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Bytes of the events in a response.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }
}

impl FromIterator<Bytes> for Events {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let parts: Arc<[Bytes]> = parts.into_iter().collect();
        Self {
            encoded_len: parts.iter().map(Bytes::len).sum(),
            parts,
        }
    }
}

/// `event` as a field of a `WatchResponse`.
pub(super) fn encode_event(event: &mvccpb::Event) -> Bytes {
    let body = event.encoded_len();
    let mut buf = BytesMut::with_capacity(1 + prost::length_delimiter_len(body) + body);
    buf.put_u8(EVENTS_KEY);
    event
        .encode_length_delimited(&mut buf)
        .expect("a growing buffer has room");
    buf.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb::KeyValue;

    const ORIGIN: Origin = Origin {
        cluster_id: 0xcdf8_1818_13e2_3f11,
        member_id: 0x8e9e_05c5_2164_694d,
        raft_term: 3,
    };

    fn event(key: &'static str, value_bytes: usize) -> mvccpb::Event {
        mvccpb::Event {
            r#type: 0,
            kv: Some(KeyValue {
                key: key.into(),
                create_revision: 2,
                mod_revision: 300,
                version: 9,
                value: vec![b'v'; value_bytes].into(),
                lease: 7,
            }),
            prev_kv: None,
        }
    }

    fn encoded(response: &Response) -> Vec<u8> {
        let mut buf = Vec::new();
        response.encode(ORIGIN, &mut buf);
        assert_eq!(buf.len(), response.encoded_len(ORIGIN));
        buf
    }

    #[test]
    fn the_bytes_equal_the_encoded_message() {
        let deletion = mvccpb::Event {
            r#type: 1,
            kv: Some(KeyValue {
                key: "k".into(),
                mod_revision: 301,
                ..KeyValue::default()
            }),
            prev_kv: event("k", 200).kv,
        };
        let events = [event("a", 0), event("b", 1000), deletion];
        let all_set = Response {
            watch_id: 77,
            created: true,
            canceled: true,
            compact_revision: 12,
            cancel_reason: "because".into(),
            fragment: true,
            revision: 301,
            events: events.iter().map(encode_event).collect(),
        };
        let mut message = all_set.head(ORIGIN);
        message.events = events.to_vec();
        assert_eq!(encoded(&all_set), message.encode_to_vec());
        assert_eq!(WatchResponse::decode(&encoded(&all_set)[..]), Ok(message));

        // Created, for watch 0: only header and flag are on the wire.
        let created = Response {
            created: true,
            revision: 1,
            ..Response::default()
        };
        let bytes = encoded(&created);
        assert_eq!(bytes[bytes.len() - 2..], [0x18, 1]);
        assert_eq!(bytes, created.head(ORIGIN).encode_to_vec());
    }

    #[test]
    fn a_compacted_watch_has_a_header_without_revision() {
        let response = Response {
            watch_id: 1,
            canceled: true,
            compact_revision: 9,
            ..Response::default()
        };
        let header = WatchResponse::decode(&encoded(&response)[..]).unwrap().header;
        let header = header.expect("every watch response has one");
        assert_eq!((header.revision, header.raft_term), (0, 3));
    }

    /// Events of `sizes` bytes of value, cut at `max_bytes`: the values of each part, and whether another part follows.
    fn cut(sizes: &[usize], max_bytes: usize) -> Vec<(Vec<usize>, bool)> {
        let response = Response {
            revision: 300,
            events: sizes.iter().map(|size| encode_event(&event("k", *size))).collect(),
            ..Response::default()
        };
        let value_len = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.value.len());
        let parts = response.split(max_bytes);
        for part in &parts {
            assert!(part.events.len() == 1 || part.encoded_len(ORIGIN) < max_bytes);
        }
        parts
            .iter()
            .map(|part| WatchResponse::decode(&encoded(part)[..]).unwrap())
            .map(|part| (part.events.iter().map(value_len).collect(), part.fragment))
            .collect()
    }

    #[test]
    fn fragments_end_between_events() {
        assert_eq!(cut(&[100, 100], 1000), [(vec![100, 100], false)]);
        assert_eq!(
            cut(&[400, 400, 400, 400, 400], 1000),
            [(vec![400, 400], true), (vec![400, 400], true), (vec![400], false)]
        );
        assert_eq!(
            cut(&[5000, 1, 5000, 1, 1], 1000),
            [
                (vec![5000], true),
                (vec![1], true),
                (vec![5000], true),
                (vec![1, 1], false)
            ]
        );
        assert_eq!(cut(&[5000], 1000), [(vec![5000], false)]);
    }
}
