//! HTTP/1.1 as a connection's recorded bytes have it: requests and their responses. The last one may be cut.

use std::collections::BTreeMap;

use quoin_conformance::proxy::Passed;

/// A request, or a response.
#[derive(Debug, Default)]
pub(crate) struct Part {
    first: String,
    /// Headers, with names in lower case.
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A request with its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Part,
    pub(crate) response: Part,
}

impl Exchange {
    /// The exchanges of a connection. A request without any response is left out.
    pub(crate) fn all(passed: &Passed) -> Vec<Self> {
        let (requests, responses) = (parts(&passed.requests), parts(&passed.responses));
        let pairs = requests.into_iter().zip(responses);
        pairs.map(|(request, response)| Self { request, response }).collect()
    }

    pub(crate) fn path(&self) -> &str {
        self.request.first.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.response.first.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).expect("a status")
    }
}

/// All requests, or all responses, of one direction of a connection.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields: BTreeMap<String, String> = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body = if fields
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            chunked(&mut bytes)
        } else {
            let length = fields
                .get("content-length")
                .map_or(0, |text| text.parse().expect("a length"));
            let (body, rest) = bytes.split_at(bytes.len().min(length));
            bytes = rest;
            body.to_vec()
        };
        parts.push(Part { first, fields, body });
    }
    parts
}

/// Takes a body in chunks, to its end or to the end of what was recorded.
fn chunked(bytes: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).ok();
        let length = length.and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = length.expect("the length of a chunk");
        let chunk = &bytes[end + 2..];
        body.extend_from_slice(&chunk[..chunk.len().min(length)]);
        *bytes = &chunk[chunk.len().min(length + 2)..];
        if length == 0 {
            break;
        }
    }
    body
}

#[test]
fn requests_are_taken_apart_by_their_lengths_and_chunks() {
    let bytes =
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n1\r\nc\r\n0\r\n\r\nGET /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    let parts = parts(bytes);
    let seen: Vec<_> = parts.iter().map(|part| (&part.first[..], &part.body[..])).collect();
    assert_eq!(
        seen,
        [
            ("POST /a HTTP/1.1", &b"abc"[..]),
            ("POST /b HTTP/1.1", b"abc"),
            ("GET /c HTTP/1.1", b"ab")
        ]
    );
}
