//! From the bytes of a message to JSON, in the form that Go's `protojson` writes without spaces: names of fields as in
//! the `.proto` files, 64-bit numbers as texts, bytes as base64, enums as names, defaults left out.
//!
//! The bytes may arrive in pieces; what is written of a piece can be sent before the next one is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::shape::{FieldKind, FieldShape, Shapes};
use super::text;

/// Bits of a field's key below its number: the wire type.
const WIRE_TYPE_BITS: u32 = 3;
const VARINT: u64 = 0;

/// Writes one message.
pub(crate) struct Writer {
    shapes: &'static Shapes,
    /// Text is escaped for HTML, too.
    for_html: bool,
    /// The open messages, outermost first.
    open: Vec<OpenMessage>,
    /// Bytes of the message before `rest`.
    position: usize,
    /// Bytes that arrived and are not written yet: an incomplete field.
    rest: Vec<u8>,
}

/// A message whose end was not reached.
struct OpenMessage {
    shape: usize,
    /// The position of its end.
    end: usize,
    /// The index of the field whose list is open.
    list: Option<usize>,
    /// A field was written.
    has_fields: bool,
}

/// What a field has on the wire.
enum WireValue {
    Varint(u64),
    /// This many bytes follow.
    Length(usize),
}

impl Writer {
    /// A writer of a message of `length` bytes. Appends its first byte to `json`.
    pub(crate) fn new(shape: usize, length: usize, for_html: bool, json: &mut Vec<u8>) -> Self {
        let mut writer = Self {
            shapes: Shapes::get(),
            for_html,
            open: Vec::new(),
            position: 0,
            rest: Vec::new(),
        };
        writer.begin_message(shape, length, json);
        writer
    }

    /// Appends what a piece of the message makes known; true once the message is written.
    pub(crate) fn write(&mut self, piece: &[u8], json: &mut Vec<u8>) -> bool {
        let joined = std::mem::take(&mut self.rest);
        let mut bytes = if joined.is_empty() {
            piece
        } else {
            self.rest = joined;
            self.rest.extend_from_slice(piece);
            &std::mem::take(&mut self.rest)[..]
        };
        loop {
            self.end_messages(json);
            if self.open.is_empty() {
                return true;
            }
            let Some(length) = self.field(bytes, json) else { break };
            bytes = &bytes[length..];
        }
        self.rest = bytes.to_vec();
        false
    }

    fn begin_message(&mut self, shape: usize, length: usize, json: &mut Vec<u8>) {
        json.push(b'{');
        self.open.push(OpenMessage {
            shape,
            end: self.position + length,
            list: None,
            has_fields: false,
        });
    }

    /// Ends the messages that end here.
    fn end_messages(&mut self, json: &mut Vec<u8>) {
        while self.open.last().is_some_and(|message| message.end == self.position) {
            if self.open.pop().is_some_and(|message| message.list.is_some()) {
                json.push(b']');
            }
            json.push(b'}');
        }
    }

    /// Writes the field at the beginning of the bytes, or only the beginning of a message. Returns its length, or `None`
    /// if the bytes are not complete.
    fn field(&mut self, bytes: &[u8], json: &mut Vec<u8>) -> Option<usize> {
        let mut rest = bytes;
        let key = take_varint(&mut rest)?;
        let value = if key & ((1 << WIRE_TYPE_BITS) - 1) == VARINT {
            WireValue::Varint(take_varint(&mut rest)?)
        } else {
            // The API has no numbers of fixed width.
            WireValue::Length(usize::try_from(take_varint(&mut rest)?).ok()?)
        };
        let head = bytes.len() - rest.len();
        let shapes = self.shapes;
        let message = shapes.message(self.open.last()?.shape);
        let number = key >> WIRE_TYPE_BITS;
        let at = message
            .fields
            .iter()
            .position(|field| u64::from(field.number) == number);
        let at = at.expect("messages are encoded from the declared fields");
        let field = &message.fields[at];
        match value {
            WireValue::Length(length) if let FieldKind::Message(shape) = field.kind => {
                self.name(at, field, json);
                self.position += head;
                self.begin_message(shape, length, json);
                Some(head)
            }
            WireValue::Length(length) => {
                let content = rest.get(..length)?;
                self.content(at, field, content, json);
                self.position += head + length;
                Some(head + length)
            }
            WireValue::Varint(number) => {
                self.name(at, field, json);
                write_number(shapes, field.kind, number, json);
                self.position += head;
                Some(head)
            }
        }
    }

    /// A text, bytes, or a list of numbers.
    fn content(&mut self, at: usize, field: &FieldShape, content: &[u8], json: &mut Vec<u8>) {
        match field.kind {
            FieldKind::Bytes => {
                self.name(at, field, json);
                json.push(b'"');
                write_base64(content, json);
                json.push(b'"');
            }
            FieldKind::Text => {
                self.name(at, field, json);
                text::write(&String::from_utf8_lossy(content), self.for_html, json);
            }
            kind => {
                let mut rest = content;
                while let Some(number) = take_varint(&mut rest) {
                    self.name(at, field, json);
                    write_number(self.shapes, kind, number, json);
                }
            }
        }
    }

    /// The name of a field, or what separates its value from the previous one of the same list.
    fn name(&mut self, at: usize, field: &FieldShape, json: &mut Vec<u8>) {
        let message = self.open.last_mut().expect("a field is in a message");
        if message.list == Some(at) {
            json.push(b',');
            return;
        }
        if message.list.take().is_some() {
            json.push(b']');
        }
        if std::mem::replace(&mut message.has_fields, true) {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(field.name.as_bytes());
        json.extend_from_slice(b"\":");
        if field.is_repeated {
            message.list = Some(at);
            json.push(b'[');
        }
    }
}

fn write_number(shapes: &Shapes, kind: FieldKind, number: u64, json: &mut Vec<u8>) {
    let text = match kind {
        FieldKind::Bool => (number != 0).to_string(),
        FieldKind::Int64 => format!("\"{}\"", number.cast_signed()),
        FieldKind::Uint64 => format!("\"{number}\""),
        FieldKind::Enum(index) => {
            // The sign of a 32-bit number fills all bits.
            let number = number.cast_signed();
            let name = i32::try_from(number).ok();
            let name = name.and_then(|number| shapes.enumeration(index).names.get(&number));
            name.map_or_else(|| number.to_string(), |name| format!("\"{name}\""))
        }
        _ => number.cast_signed().to_string(),
    };
    json.extend_from_slice(text.as_bytes());
}

fn write_base64(bytes: &[u8], json: &mut Vec<u8>) {
    let start = json.len();
    json.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut json[start..]);
    written.expect("there is room for four characters for every three bytes");
}

/// Takes a number off the beginning of the bytes; `None` if it is not complete.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use quoin_core::api::Method;
    use quoin_core::proto::authpb::{Permission, permission};
    use quoin_core::proto::etcdserverpb::response_op::Response;
    use quoin_core::proto::etcdserverpb::{
        AlarmMember, AlarmResponse, AuthRoleGetResponse, AuthUserListResponse, HashKvResponse, LeaseTimeToLiveResponse,
        PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse,
    };
    use quoin_core::proto::mvccpb::{Event, KeyValue};

    use super::*;

    /// The JSON of a response, which is the same for pieces of any size.
    fn written(method: Method, response: &impl Message, for_html: bool) -> String {
        let bytes = response.encode_to_vec();
        let shape = Shapes::get().of(method).1;
        let in_pieces = |size: usize| {
            let mut json = Vec::new();
            let mut writer = Writer::new(shape, bytes.len(), for_html, &mut json);
            let mut is_over = bytes.is_empty() && writer.write(&[], &mut json);
            for piece in bytes.chunks(size) {
                assert!(!is_over, "the message ends with its last piece");
                is_over = writer.write(piece, &mut json);
            }
            assert!(is_over);
            String::from_utf8(json).unwrap()
        };
        let whole = in_pieces(bytes.len().max(1));
        for size in 1..40 {
            assert_eq!(in_pieces(size), whole, "in pieces of {size}");
        }
        whole
    }

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 2,
            revision: -1,
            raft_term: 0,
        })
    }

    #[test]
    fn defaults_are_left_out_and_wide_numbers_are_texts() {
        let pair = |key: &'static str| KeyValue {
            key: key.into(),
            version: 1,
            lease: 77,
            ..KeyValue::default()
        };
        let range = RangeResponse {
            header: header(),
            kvs: vec![pair("foo"), pair("")],
            more: true,
            count: 2,
        };
        assert_eq!(
            written(Method::Range, &range, false),
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"2","revision":"-1"},"kvs":[{"key":"Zm9v","version":"1","lease":"77"},{"version":"1","lease":"77"}],"more":true,"count":"2"}"#
        );
        assert_eq!(written(Method::Range, &RangeResponse::default(), false), "{}");
        let hash = HashKvResponse {
            hash: u32::MAX,
            compact_revision: -1,
            ..HashKvResponse::default()
        };
        assert_eq!(
            written(Method::HashKv, &hash, false),
            r#"{"hash":4294967295,"compact_revision":"-1"}"#
        );
    }

    #[test]
    fn messages_nest_and_empty_ones_are_written() {
        let op = |response| ResponseOp {
            response: Some(response),
        };
        let inner = TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded: true,
            responses: vec![],
        };
        let txn = TxnResponse {
            header: None,
            succeeded: false,
            responses: vec![
                op(Response::ResponsePut(PutResponse::default())),
                op(Response::ResponseTxn(inner)),
            ],
        };
        assert_eq!(
            written(Method::Txn, &txn, false),
            r#"{"responses":[{"response_put":{}},{"response_txn":{"header":{},"succeeded":true}}]}"#
        );
    }

    #[test]
    fn enums_are_names_if_they_have_one() {
        let alarms = AlarmResponse {
            header: None,
            alarms: [1, 0, 9, -1].map(|alarm| AlarmMember { member_id: 1, alarm }).to_vec(),
        };
        assert_eq!(
            written(Method::Alarm, &alarms, false),
            r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"memberID":"1"},{"memberID":"1","alarm":9},{"memberID":"1","alarm":-1}]}"#
        );
        let role = AuthRoleGetResponse {
            header: None,
            perm: vec![Permission {
                perm_type: permission::Type::Readwrite as i32,
                key: "a".into(),
                range_end: "b".into(),
            }],
        };
        assert_eq!(
            written(Method::RoleGet, &role, false),
            r#"{"perm":[{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}]}"#
        );
    }

    #[test]
    fn lists_of_bytes_and_texts_keep_empty_ones() {
        let lease = LeaseTimeToLiveResponse {
            id: 1,
            granted_ttl: 5,
            keys: vec!["".into(), "a".into()],
            ..LeaseTimeToLiveResponse::default()
        };
        assert_eq!(
            written(Method::LeaseTimeToLive, &lease, false),
            r#"{"ID":"1","grantedTTL":"5","keys":["","YQ=="]}"#
        );
        let users = AuthUserListResponse {
            header: None,
            users: vec!["<\"\u{fc}\u{2028}".to_owned(), String::new()],
        };
        assert_eq!(
            written(Method::UserList, &users, false),
            "{\"users\":[\"<\\\"\u{fc}\u{2028}\",\"\"]}"
        );
        assert_eq!(
            written(Method::UserList, &users, true),
            "{\"users\":[\"\\u003c\\\"\u{fc}\\u2028\",\"\"]}"
        );
    }

    #[test]
    fn long_values_may_come_in_many_pieces() {
        let event = Event {
            r#type: 1,
            kv: Some(KeyValue {
                key: vec![7; 1000].into(),
                ..KeyValue::default()
            }),
            prev_kv: None,
        };
        let watch = WatchResponse {
            watch_id: 3,
            events: vec![event; 3],
            ..WatchResponse::default()
        };
        let json = written(Method::Watch, &watch, true);
        let key = STANDARD.encode([7; 1000]);
        assert_eq!(json.matches(&key).count(), 3);
        assert!(
            json.starts_with(r#"{"watch_id":"3","events":[{"type":"DELETE","kv":{"key":"#),
            "{json}"
        );
    }
}
