//! From JSON to the bytes of a message, by the rules and in the words of Go's `protojson`, as etcd's gateway sets it:
//! fields have either of their names, unknown fields and unknown names of enum values are ignored.

use prost::encoding::{WireType, encode_key, encode_varint};

use super::number::{self, Number};
use super::scan::is_space;
use super::shape::{FieldKind, FieldShape, MessageShape, Seen, Shapes};
use super::text;

/// The length of a nested message has as many bytes as the largest needs, so that its content is not moved once it is known.
const LENGTH_BYTES: usize = 5;
/// Messages that may be nested; the decoders of messages have this bound, too.
const MAX_DEPTH: usize = 100;

/// Appends the message that a JSON value describes.
///
/// # Errors
/// If the value does not describe such a message, in `protojson`'s words.
pub(crate) fn read(value: &[u8], shape: usize, message: &mut Vec<u8>) -> Result<(), String> {
    let mut reader = MessageReader {
        shapes: Shapes::get(),
        value,
        at: 0,
    };
    reader.message(shape, 0, message)
}

/// What a JSON value begins with.
#[derive(Debug, PartialEq)]
enum Token {
    Bool(bool),
    Null,
    /// A number; its text is the token's.
    Number,
    Text(String),
    /// The beginning or the end of an array or an object.
    Mark(u8),
}

/// A token and where it is.
struct Placed {
    token: Token,
    start: usize,
    end: usize,
}

/// Reads a value, which is known to be JSON; but its texts are not known to be Unicode.
struct MessageReader<'a> {
    shapes: &'static Shapes,
    value: &'a [u8],
    at: usize,
}

impl MessageReader<'_> {
    fn message(&mut self, shape: usize, depth: usize, message: &mut Vec<u8>) -> Result<(), String> {
        if depth == MAX_DEPTH {
            return Err("proto: exceeded max recursion depth".to_owned());
        }
        let open = self.next()?;
        if open.token != Token::Mark(b'{') {
            return Err(self.unexpected(&open));
        }
        let shape = self.shapes.message(shape);
        let mut seen = Seen::default();
        loop {
            let name = self.next()?;
            let Token::Text(text) = &name.token else {
                return Ok(());
            };
            let Some(at) = shape.by_name.get(text).copied() else {
                self.skip()?;
                continue;
            };
            self.field(shape, at, &name, &mut seen, depth, message)?;
        }
    }

    fn field(
        &mut self,
        shape: &MessageShape,
        at: usize,
        name: &Placed,
        seen: &mut Seen,
        depth: usize,
        message: &mut Vec<u8>,
    ) -> Result<(), String> {
        if !seen.fields.insert(at) {
            return Err(self.wrong(name, format_args!("duplicate field {}", self.raw(name))));
        }
        let field = &shape.fields[at];
        if self.is_null() {
            return self.next().map(drop);
        }
        if field.is_repeated {
            return self.list(field, depth, message);
        }
        if let Some(oneof) = field.oneof
            && !seen.oneofs.insert(oneof)
        {
            let oneof = &shape.oneofs[oneof];
            let name_text = self.raw(name);
            let why = format_args!("error parsing {name_text}, oneof {oneof} is already set");
            return Err(self.wrong(name, why));
        }
        self.single(field, depth, message)
    }

    fn list(&mut self, field: &FieldShape, depth: usize, message: &mut Vec<u8>) -> Result<(), String> {
        let open = self.next()?;
        if open.token != Token::Mark(b'[') {
            return Err(self.unexpected(&open));
        }
        while self.peek() != Some(b']') {
            self.single(field, depth, message)?;
        }
        self.next().map(drop)
    }

    /// One value of a field, with the field's number before it.
    fn single(&mut self, field: &FieldShape, depth: usize, message: &mut Vec<u8>) -> Result<(), String> {
        if let FieldKind::Message(shape) = field.kind {
            encode_key(field.number, WireType::LengthDelimited, message);
            let start = message.len() + LENGTH_BYTES;
            message.resize(start, 0);
            self.message(shape, depth + 1, message)?;
            let length = message.len() - start;
            for (at, byte) in message[start - LENGTH_BYTES..start].iter_mut().enumerate() {
                let more = if at + 1 < LENGTH_BYTES { 0x80 } else { 0 };
                *byte = (length >> (7 * at)) as u8 & 0x7f | more;
            }
            return Ok(());
        }
        let token = self.next()?;
        let scalar = self.scalar(field, &token).ok_or_else(|| {
            let (kind, name) = (field.kind.name(), &field.json_name);
            let raw = self.raw(&token);
            self.wrong(&token, format_args!("invalid value for {kind} field {name}: {raw}"))
        })?;
        // A default value is not sent, except as a choice or in a list.
        let is_sent_always = field.is_repeated || field.oneof.is_some();
        match scalar {
            Scalar::Varint(0) if !is_sent_always => {}
            Scalar::Varint(number) => {
                encode_key(field.number, WireType::Varint, message);
                encode_varint(number, message);
            }
            Scalar::Bytes(bytes) if bytes.is_empty() && !is_sent_always => {}
            Scalar::Bytes(bytes) => {
                encode_key(field.number, WireType::LengthDelimited, message);
                encode_varint(bytes.len() as u64, message);
                message.extend_from_slice(&bytes);
            }
            Scalar::Unknown => {}
        }
        Ok(())
    }

    /// The value of a field that is no message; `None` if the token has no value of its type.
    fn scalar(&self, field: &FieldShape, token: &Placed) -> Option<Scalar> {
        Some(match (field.kind, &token.token) {
            (FieldKind::Bool, Token::Bool(value)) => Scalar::Varint(u64::from(*value)),
            (FieldKind::Int64, _) => Scalar::Varint(self.number(token)?.int64()?.cast_unsigned()),
            (FieldKind::Int32, _) => Scalar::Varint(self.number(token)?.int32()?.cast_unsigned()),
            (FieldKind::Uint64, _) => Scalar::Varint(self.number(token)?.uint64()?),
            (FieldKind::Uint32, _) => Scalar::Varint(self.number(token)?.uint32()?),
            (FieldKind::Text, Token::Text(text)) => Scalar::Bytes(text.clone().into_bytes()),
            (FieldKind::Bytes, Token::Text(text)) => Scalar::Bytes(text::decode_base64(text)?),
            (FieldKind::Enum(index), Token::Text(name)) => {
                match self.shapes.enumeration(index).numbers.get(name) {
                    // The sign of an enum's number fills all bits.
                    Some(number) => Scalar::Varint(i64::from(*number).cast_unsigned()),
                    None => Scalar::Unknown,
                }
            }
            (FieldKind::Enum(_), Token::Number) => Scalar::Varint(self.number(token)?.int32()?.cast_unsigned()),
            _ => return None,
        })
    }

    /// The number of a token, which may be a text.
    fn number(&self, token: &Placed) -> Option<Number> {
        match &token.token {
            Token::Number => number::parse(&self.value[token.start..token.end]),
            Token::Text(text) if text.trim() == text => number::parse(text.as_bytes()),
            _ => None,
        }
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), String> {
        let mut depth = 0_usize;
        loop {
            match self.next()?.token {
                Token::Mark(b'{' | b'[') => depth += 1,
                Token::Mark(_) => depth -= 1,
                _ => {}
            }
            // After a name comes its value; that `depth` is 0 shows that this was no name.
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.value.get(self.at) {
            if !is_space(*byte) && !matches!(byte, b',' | b':') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn is_null(&mut self) -> bool {
        self.peek() == Some(b'n')
    }

    fn next(&mut self) -> Result<Placed, String> {
        let first = self.peek().expect("the value has been scanned");
        let start = self.at;
        let (token, end) = match first {
            b'"' => match text::parse(&self.value[start..]) {
                Ok((text, length)) => (Token::Text(text), start + length),
                Err(text::Malformed::UnexpectedEnd) => return Err("proto: unexpected EOF".to_owned()),
                Err(text::Malformed::Because(why)) => return Err(self.syntax(start, &why)),
            },
            b't' => (Token::Bool(true), start + 4),
            b'f' => (Token::Bool(false), start + 5),
            b'n' => (Token::Null, start + 4),
            b'{' | b'}' | b'[' | b']' => (Token::Mark(first), start + 1),
            _ => {
                let rest = &self.value[start..];
                let length = rest
                    .iter()
                    .position(|byte| !number::may_have(*byte))
                    .unwrap_or(rest.len());
                (Token::Number, start + length)
            }
        };
        self.at = end;
        Ok(Placed { token, start, end })
    }

    /// A token's text.
    fn raw(&self, token: &Placed) -> String {
        String::from_utf8_lossy(&self.value[token.start..token.end]).into_owned()
    }

    fn unexpected(&self, token: &Placed) -> String {
        self.syntax(token.start, &format!("unexpected token {}", self.raw(token)))
    }

    fn syntax(&self, at: usize, why: &str) -> String {
        let (line, column) = self.place(at);
        format!("proto: syntax error (line {line}:{column}): {why}")
    }

    fn wrong(&self, token: &Placed, why: std::fmt::Arguments<'_>) -> String {
        let (line, column) = self.place(token.start);
        format!("proto: (line {line}:{column}): {why}")
    }

    /// The line and the column of an index, from 1. Bytes that are no character count as one each.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.value[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let chunks = before[line_start..].utf8_chunks();
        let columns = chunks.map(|chunk| chunk.valid().chars().count() + chunk.invalid().len());
        (line, columns.sum::<usize>() + 1)
    }
}

/// The value of a field that is no message.
enum Scalar {
    Bytes(Vec<u8>),
    Varint(u64),
    /// A name that the enum does not have; it counts as no value.
    Unknown,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use quoin_core::api::Method;
    use quoin_core::proto::etcdserverpb::{RangeRequest, TxnRequest, WatchRequest};

    use super::*;

    fn read_as<M: prost::Message + Default>(method: Method, json: &[u8]) -> Result<M, String> {
        let mut message = Vec::new();
        read(json, Shapes::get().of(method).0, &mut message)?;
        Ok(M::decode(&message[..]).expect("what was written is a message"))
    }

    fn range(json: &str) -> Result<RangeRequest, String> {
        read_as(Method::Range, json.as_bytes())
    }

    fn limit(json: &str) -> Result<i64, String> {
        range(&format!("{{\"limit\":{json}}}")).map(|range| range.limit)
    }

    #[test]
    fn fields_have_either_name_and_others_are_ignored() {
        let expected = RangeRequest {
            key: "foo".into(),
            range_end: "fop".into(),
            limit: 7,
            sort_order: 2,
            serializable: true,
            ..RangeRequest::default()
        };
        let texts = [
            r#"{"key":"Zm9v","range_end":"Zm9w","limit":"7","sort_order":"DESCEND","serializable":true}"#,
            r#" { "serializable" : true , "sortOrder" : 2 , "limit" : 7.0e0 , "rangeEnd" : "Zm9w" , "key" : "Zm9v" } "#,
            r#"{"key":"Zm9v","x":[{"key":1},"\u00fc",[]],"range_end":"Zm9w","limit":70e-1,"sort_order":2,"Key":1,
                "serializable":true,"min_mod_revision":null,"sort_target":"NO SUCH"}"#,
        ];
        for text in texts {
            assert_eq!(range(text.trim()), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn a_default_is_sent_only_as_a_choice() {
        let mut message = Vec::new();
        read(
            br#"{"key":"","limit":0,"serializable":false}"#,
            Shapes::get().of(Method::Range).0,
            &mut message,
        )
        .unwrap();
        assert_eq!(message, b"");
        let txn = br#"{"compare":[{"key":"YQ==","target":"VERSION","version":0},{}],"success":[{"requestRange":{}}]}"#;
        let txn: TxnRequest = read_as(Method::Txn, txn).unwrap();
        assert!(txn.compare[0].target_union.is_some() && txn.compare[1].target_union.is_none());
        assert!(txn.success[0].request.is_some());
    }

    #[test]
    fn numbers_may_be_texts_and_have_exponents() {
        let table = [
            ("1", 1),
            ("\"1\"", 1),
            ("-0", 0),
            ("\"\\u0031\"", 1),
            ("1e1", 10),
            ("\"1e1\"", 10),
            ("1.50e1", 15),
            ("0.1e1", 1),
            ("10e-1", 1),
            ("1000000000000000000000e-20", 10),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807", i64::MAX),
            ("\"1,\"", 1),
        ];
        for (text, expected) in table {
            assert_eq!(limit(text), Ok(expected), "{text}");
        }
        for text in [
            "1.5",
            "1e19",
            "1e400",
            "9223372036854775808",
            "\"\"",
            "\" 1\"",
            "\"1 \"",
            "\"0001\"",
            "\"1.\"",
            "\"1e\"",
            "\"{}\"",
            "\"x\"",
            "true",
            "1e-1",
            "-1e19",
            "\"+1\"",
            "1e99999999999",
            "\"-\"",
        ] {
            let why = format!("proto: (line 1:10): invalid value for int64 field limit: {text}");
            assert_eq!(limit(text), Err(why));
        }
        for text in ["[1]", "{}"] {
            let first = &text[..1];
            let why = format!("proto: (line 1:10): invalid value for int64 field limit: {first}");
            assert_eq!(limit(text), Err(why));
        }
    }

    #[test]
    fn bytes_are_base64_of_either_alphabet_with_or_without_padding() {
        let key = |text: &str| range(&format!("{{\"key\":\"{text}\"}}")).map(|range| range.key);
        for (text, expected) in [
            ("YQ==", &b"a"[..]),
            ("YQ", b"a"),
            ("YR==", b"a"),
            ("YQ\\n", b"a"),
            ("Y\\u0051==", b"a"),
            ("+/8=", b"\xfb\xff"),
            ("-_8", b"\xfb\xff"),
            ("", b""),
        ] {
            assert_eq!(key(text).unwrap(), expected, "{text}");
        }
        for text in ["*", "YQ=", "YQ===", "Y Q", "+_8=", "YQ==YQ==", "Y"] {
            let why = format!("proto: (line 1:8): invalid value for bytes field key: \"{text}\"");
            assert_eq!(key(text), Err(why));
        }
    }

    #[test]
    fn errors_have_the_words_of_protojson() {
        let table = [
            ("[]", "proto: syntax error (line 1:1): unexpected token ["),
            ("1", "proto: syntax error (line 1:1): unexpected token 1"),
            ("\"x\"", "proto: syntax error (line 1:1): unexpected token \"x\""),
            ("null", "proto: syntax error (line 1:1): unexpected token null"),
            (
                r#"{"key":"YQ==","key":"YQ=="}"#,
                "proto: (line 1:15): duplicate field \"key\"",
            ),
            (
                r#"{"rangeEnd":null,"range_end":""}"#,
                "proto: (line 1:18): duplicate field \"range_end\"",
            ),
            (
                r#"{"sort_order":true}"#,
                "proto: (line 1:15): invalid value for enum field sortOrder: true",
            ),
            (
                r#"{"sort_order":3000000000}"#,
                "proto: (line 1:15): invalid value for enum field sortOrder: 3000000000",
            ),
            (
                r#"{"serializable":"true"}"#,
                "proto: (line 1:17): invalid value for bool field serializable: \"true\"",
            ),
            (
                "{\n \"\u{fc}\": 1, \"limit\": \"x\"}",
                "proto: (line 2:19): invalid value for int64 field limit: \"x\"",
            ),
            (r#"{"key":"\ud800"}"#, "proto: unexpected EOF"),
            (
                r#"{"x":"\ud800\u0041"}"#,
                "proto: syntax error (line 1:6): invalid escape code \"\\\\u0041\" in string",
            ),
        ];
        for (text, why) in table {
            assert_eq!(range(text), Err(why.to_owned()), "{text}");
        }
        let not_unicode = read_as::<RangeRequest>(Method::Range, b"{\"x\":\"a\xff\"}");
        assert_eq!(
            not_unicode.unwrap_err(),
            "proto: syntax error (line 1:6): invalid UTF-8 in string"
        );
        let twice = br#"{"compare":[{"target":"MOD","mod_revision":"1","version":1}]}"#;
        assert_eq!(
            read_as::<TxnRequest>(Method::Txn, twice).unwrap_err(),
            "proto: (line 1:48): error parsing \"version\", oneof etcdserverpb.Compare.target_union is already set"
        );
        let null = read_as::<TxnRequest>(Method::Txn, br#"{"compare":[null]}"#);
        assert_eq!(
            null.unwrap_err(),
            "proto: syntax error (line 1:13): unexpected token null"
        );
    }

    #[test]
    fn lists_of_enums_leave_out_unknown_names() {
        let json = br#"{"createRequest":{"filters":["NODELETE","x",0]}}"#;
        let watch: WatchRequest = read_as(Method::Watch, json).unwrap();
        let mut expected = Vec::new();
        read(
            br#"{"create_request":{"filters":[1,0]}}"#,
            Shapes::get().of(Method::Watch).0,
            &mut expected,
        )
        .unwrap();
        assert_eq!(
            watch.encode_to_vec(),
            WatchRequest::decode(&expected[..]).unwrap().encode_to_vec()
        );
    }

    #[test]
    fn messages_nest_as_deep_as_decoders_allow() {
        let nested = |depth: usize| {
            let text = r#"{"success":[{"requestTxn":"#.repeat(depth) + "{}" + &"}]}".repeat(depth);
            read_as::<TxnRequest>(Method::Txn, text.as_bytes())
        };
        assert!(nested(49).is_ok());
        assert_eq!(nested(50).unwrap_err(), "proto: exceeded max recursion depth");
        let unknown = "{\"x\":".repeat(9_999) + "1" + &"}".repeat(9_999);
        assert_eq!(range(&unknown), Ok(RangeRequest::default()));
    }
}
