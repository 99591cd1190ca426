//! The answer to a call over the gateway: its responses as JSON, or its error.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use quoin_core::api::Kind;

use super::super::grpc::call::Call;
use super::super::grpc::status::{OK, Status, UNAUTHENTICATED};
use super::super::grpc::{Payload, stream};
use super::super::reply::{Reply, Stream};
use super::shape::Shapes;
use super::text;
use super::write::Writer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METADATA_CONTENT_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// One byte for compression, which the gateway does not ask for, and four for the length.
const PREFIX_BYTES: usize = 5;

/// The HTTP response of a call. It begins once the call has its first response or its error.
pub(super) async fn respond(mut call: Call, answered: Result<Payload, Status>) -> Response<Reply> {
    let is_stream = call.method.parts().2 != Kind::Unary;
    let transcoder = Transcoder::new(Shapes::get().of(call.method).1, is_stream);
    let (source, is_endless) = match answered {
        Ok(Payload::Message(message)) => {
            let mut transcoder = transcoder;
            call.finish(OK);
            return begun(Reply::Bytes(transcoder.json(&message).into()));
        }
        Ok(Payload::Finite(source)) => (source, false),
        Ok(Payload::Endless(source)) => (source, true),
        Err(status) => {
            call.finish(status.code);
            return if is_stream {
                stream_refusal(&status)
            } else {
                refusal(&status)
            };
        }
    };
    let mut json = Box::new(Json {
        stream: stream(call, source, is_endless),
        transcoder,
        first: Bytes::new(),
        is_over: false,
    });
    match poll_fn(|cx| json.poll_responses(cx)).await {
        Some(Err(status)) if is_stream => stream_refusal(&status),
        Some(Err(status)) => refusal(&status),
        Some(Ok(first)) => {
            json.first = first;
            begun(Reply::Json(json))
        }
        // As in etcd, a stream without a response has no headers of one.
        None => Response::new(Reply::Json(json)),
    }
}

fn begun(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(METADATA_CONTENT_TYPE, GRPC);
    response
}

/// The response to a call that failed: code and text, as in etcd 3.5.30 and later, and the text as `error`, where
/// clients of earlier versions look for it.
pub(super) fn refusal(status: &Status) -> Response<Reply> {
    let mut body = b"{\"error\":".to_vec();
    text::write(&status.message, false, &mut body);
    body.push(b',');
    write_status(status, false, &mut body);
    failed(status, body)
}

/// The response to a stream that failed before its first response.
fn stream_refusal(status: &Status) -> Response<Reply> {
    failed(status, error_line(status))
}

fn failed(status: &Status, body: Vec<u8>) -> Response<Reply> {
    let mut response = Response::new(Reply::Bytes(body.into()));
    *response.status_mut() = http_status(status.code);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    if status.code == UNAUTHENTICATED
        && let Ok(text) = HeaderValue::from_str(&status.message)
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, text);
    }
    response
}

/// The last line of a stream that fails. It also has the fields of earlier versions, which Patroni reads.
fn error_line(status: &Status) -> Vec<u8> {
    let (code, http) = (status.code, http_status(status.code));
    let (number, reason) = (http.as_u16(), http.canonical_reason().unwrap_or_default());
    let earlier = format!("\"grpc_code\":{code},\"http_code\":{number},\"http_status\":\"{reason}\",");
    let mut line = b"{\"error\":{".to_vec();
    line.extend_from_slice(earlier.as_bytes());
    write_status(status, true, &mut line);
    line.extend_from_slice(b"}\n");
    line
}

/// The fields of a status, and the brace that ends its object.
fn write_status(status: &Status, for_html: bool, json: &mut Vec<u8>) {
    json.extend_from_slice(format!("\"code\":{},\"message\":", status.code).as_bytes());
    text::write(&status.message, for_html, json);
    json.push(b'}');
}

/// The HTTP status for a code of gRPC.
fn http_status(code: u8) -> StatusCode {
    let number = match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    };
    StatusCode::from_u16(number).expect("a status of three digits")
}

/// The body of an answer whose messages come one after the other.
pub(crate) struct Json {
    stream: Box<Stream>,
    transcoder: Transcoder,
    /// What was read before the response began.
    first: Bytes,
    is_over: bool,
}

impl Json {
    /// The next bytes of the body; `None` at its end.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(mem::take(&mut self.first)));
        }
        Poll::Ready(match ready!(self.poll_responses(cx)) {
            Some(Ok(json)) => Some(json),
            Some(Err(status)) if self.transcoder.is_stream => Some(error_line(&status).into()),
            // The one value of a unary call stays incomplete, which its client notices.
            Some(Err(_)) | None => None,
        })
    }

    /// JSON of the next responses.
    fn poll_responses(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        while !self.is_over {
            match ready!(self.stream.poll_bytes(cx)) {
                Some(Ok(bytes)) => {
                    let json = self.transcoder.json(&bytes);
                    if !json.is_empty() {
                        return Poll::Ready(Some(Ok(json.into())));
                    }
                }
                Some(Err(status)) => {
                    self.is_over = true;
                    self.stream.call.finish(status.code);
                    return Poll::Ready(Some(Err(status)));
                }
                None => {
                    self.is_over = true;
                    self.stream.call.finish(OK);
                }
            }
        }
        Poll::Ready(None)
    }
}

/// Turns gRPC's messages into JSON: of a unary call the value, of a stream a line for each.
struct Transcoder {
    shape: usize,
    is_stream: bool,
    /// The beginning of a message's prefix.
    prefix: Vec<u8>,
    /// The writer of the current message, and how many of its bytes are still to come.
    current: Option<(Writer, usize)>,
}

impl Transcoder {
    fn new(shape: usize, is_stream: bool) -> Self {
        Self {
            shape,
            is_stream,
            prefix: Vec::new(),
            current: None,
        }
    }

    /// The JSON of the next bytes of gRPC's body, which are messages or parts of them.
    fn json(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut json = Vec::with_capacity(bytes.len() * 4 / 3 + 256);
        while let Some((mut writer, left)) = self.current.take().or_else(|| self.begin(&mut bytes, &mut json)) {
            let (content, rest) = bytes.split_at(left.min(bytes.len()));
            bytes = rest;
            if !writer.write(content, &mut json) {
                self.current = Some((writer, left - content.len()));
                break;
            }
            if self.is_stream {
                json.extend_from_slice(b"}\n");
            }
        }
        json
    }

    /// Begins the next message once its prefix is there.
    fn begin(&mut self, bytes: &mut &[u8], json: &mut Vec<u8>) -> Option<(Writer, usize)> {
        let wanted = PREFIX_BYTES - self.prefix.len();
        let (more, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.prefix.extend_from_slice(more);
        *bytes = rest;
        let [_, length @ ..] = *self.prefix.first_chunk::<PREFIX_BYTES>()?;
        self.prefix.clear();
        let length = u32::from_be_bytes(length) as usize;
        if self.is_stream {
            json.extend_from_slice(b"{\"result\":");
        }
        Some((Writer::new(self.shape, length, self.is_stream, json), length))
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::api::Method;

    use super::*;

    /// The JSON of gRPC's messages that arrive in pieces.
    fn transcoded(method: Method, is_stream: bool, bytes: &[u8], size: usize) -> String {
        let mut transcoder = Transcoder::new(Shapes::get().of(method).1, is_stream);
        let pieces = bytes.chunks(size).map(|piece| transcoder.json(piece));
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    #[test]
    fn messages_become_lines_in_pieces_of_any_size() {
        // A lease with number 7, an empty response, and a lease with number 8.
        let bytes = [0, 0, 0, 0, 2, 0x10, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 8];
        for size in [1, 2, 5, 6, 7, 100] {
            let lines = transcoded(Method::LeaseKeepAlive, true, &bytes, size);
            let expected = "{\"result\":{\"ID\":\"7\"}}\n{\"result\":{}}\n{\"result\":{\"ID\":\"8\"}}\n";
            assert_eq!(lines, expected, "pieces of {size}");
            let value = transcoded(Method::LeaseGrant, false, &bytes[..7], size);
            assert_eq!(value, "{\"ID\":\"7\"}");
        }
    }

    #[test]
    fn errors_have_a_status_of_http() {
        let status = Status::new(UNAUTHENTICATED, "a \"<b>\"");
        let response = refusal(&status);
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "a \"<b>\"");
        let Reply::Bytes(body) = response.into_body() else {
            panic!("an error is short")
        };
        assert_eq!(body, r#"{"error":"a \"<b>\"","code":16,"message":"a \"<b>\""}"#);
        let expected = concat!(
            r#"{"error":{"grpc_code":16,"http_code":401,"http_status":"Unauthorized","#,
            r#""code":16,"message":"a \"\u003cb\u003e\""}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(error_line(&status)).unwrap(), expected);
    }
}
