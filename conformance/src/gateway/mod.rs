//! The JSON gateway compared with etcd's: random requests, good and bad, and what of the answers must be equal.

mod requests;
pub mod websocket;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub use requests::{Requests, base64};

use crate::trouble::{During as _, Trouble};

/// The limit for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request over HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Request {
    /// Such as `POST`.
    pub method: &'static str,
    /// The path, with its query.
    pub path: String,
    /// Names and values, besides those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is compared of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// By name in lower case, without those that tell of time, length and connection.
    pub headers: BTreeMap<String, String>,
    /// The body, without white space between its tokens, and with `*` for what differs between servers.
    pub body: String,
}

/// Headers that are not compared.
const OTHER_HEADERS: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];
/// Fields whose values are ids, sizes, random, or times.
const OWN_VALUES: [&str; 15] = [
    "TTL",
    "blob",
    "cluster_id",
    "dbSize",
    "dbSizeInUse",
    "hash",
    "leader",
    "memberID",
    "member_id",
    "raftAppliedIndex",
    "raftIndex",
    "raftTerm",
    "raft_term",
    "remaining_bytes",
    "token",
];
/// Fields that etcd 3.5.30 does not have: those of version 3.6, and in a stream's error those of earlier versions.
const OTHER_FIELDS: [&str; 9] = [
    "grpc_code",
    "http_code",
    "http_status",
    "dbSizeQuota",
    "downgradeInfo",
    "hash_revision",
    "isLearner",
    "storageVersion",
    "version",
];

impl Request {
    /// A POST request of JSON.
    #[must_use]
    pub fn post(path: &str, body: &str) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn send(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(&[head.as_bytes(), b"\r\n", &self.body].concat())?;
        Ok(stream)
    }

    /// The whole answer.
    ///
    /// # Errors
    /// If there is none within the limit.
    pub fn ask(&self, address: SocketAddr) -> Result<Answer, Trouble> {
        let doing = || format!("{} {}", self.method, self.path);
        let mut stream = self.send(address).during(doing())?;
        stream.set_read_timeout(Some(PATIENCE)).during("setting a limit")?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        while !is_whole(&bytes, self.method == "HEAD") {
            let length = stream.read(&mut piece).during(doing())?;
            if length == 0 {
                break;
            }
            bytes.extend_from_slice(&piece[..length]);
        }
        Answer::read(&bytes).ok_or_else(|| Trouble::new(format!("{}: {}", doing(), String::from_utf8_lossy(&bytes))))
    }

    /// The beginning of a stream's answer: what comes until nothing comes for `silence`, or until there are `lines`.
    ///
    /// # Errors
    /// If nothing comes within the limit.
    pub fn begin(&self, address: SocketAddr, silence: Duration, lines: usize) -> Result<Answer, Trouble> {
        let mut stream = self.send(address).during("asking for a stream")?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        let mut limit = PATIENCE;
        loop {
            stream.set_read_timeout(Some(limit)).during("setting a limit")?;
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(Trouble::new(error.to_string())),
            }
            let found = Answer::read(&bytes).map_or(0, |answer| answer.body.lines().count());
            limit = if found < lines { PATIENCE } else { silence };
        }
        Answer::read(&bytes).ok_or_else(|| Trouble::new(format!("{}: no whole head came", self.path)))
    }
}

impl Answer {
    /// Reads an answer, of which the body may be cut off.
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        let mut is_chunked = false;
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            let name = name.to_ascii_lowercase();
            is_chunked |= name == "transfer-encoding";
            if !OTHER_HEADERS.contains(&name.as_str()) {
                headers.insert(name, value.to_owned());
            }
        }
        let body = &bytes[end + 4..];
        let body = if is_chunked { unchunked(body) } else { body.to_vec() };
        let text = String::from_utf8_lossy(&body).replace('\u{a0}', " ");
        let is_json = headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/json");
        let body = if is_json { comparable(&text) } else { text };
        Some(Self { status, headers, body })
    }
}

/// Whether these are all bytes of an answer.
fn is_whole(bytes: &[u8], has_no_body: bool) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    match length.and_then(|length| length.parse::<usize>().ok()) {
        _ if has_no_body => true,
        Some(length) => bytes.len() >= end + 4 + length,
        None => bytes.ends_with(b"0\r\n\r\n"),
    }
}

/// The chunks that are there.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            break;
        };
        let content = &rest[end + 2..];
        body.extend_from_slice(&content[..size.min(content.len())]);
        rest = content.get(size + 2..).unwrap_or_default();
    }
    body
}

/// JSON without what may differ between servers.
fn comparable(json: &str) -> String {
    let mut compact = compacted(json);
    for name in OWN_VALUES {
        compact = without_value(&compact, name, |_| true);
    }
    for name in ["ID", "peerURLs", "clientURLs", "header_member"] {
        compact = without_value(&compact, name, |value| value.len() > 15 || value.contains("http"));
    }
    // Quoin is of version 3.6 and says so.
    for name in OTHER_FIELDS {
        compact = without_field(&compact, name, |value| name != "version" || value.contains('.'));
    }
    // Clients of earlier versions look for the text of an error there; etcd 3.5.30 does not write it any more.
    if let Some(rest) = compact.strip_prefix("{\"error\":\"") {
        let text = rest.split("\",\"code\":").next().unwrap_or_default().to_owned();
        let after = &rest[text.len()..];
        if let Some(after) = after.strip_prefix("\",")
            && after.ends_with(&format!("\"message\":\"{text}\"}}"))
        {
            return format!("{{{after}");
        }
    }
    compact
}

/// JSON without white space between tokens, but with the ends of lines.
fn compacted(json: &str) -> String {
    let (mut compact, mut in_text, mut is_escaped) = (String::new(), false, false);
    for character in json.chars() {
        if in_text {
            in_text = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else {
            in_text = character == '"';
        }
        if in_text || !matches!(character, ' ' | '\t' | '\r') {
            compact.push(character);
        }
    }
    compact
}

/// The length of the value at the beginning of compact JSON.
fn value_length(json: &str) -> usize {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for (at, character) in json.char_indices() {
        if in_text {
            in_text = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            '"' => in_text = true,
            '{' | '[' => depth += 1,
            '}' | ']' | ',' if depth == 0 => return at,
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    json.len()
}

/// Writes `*` for the values of a field that `is_own` accepts.
fn without_value(json: &str, name: &str, is_own: impl Fn(&str) -> bool) -> String {
    replaced(json, name, |value| if is_own(value) { "*" } else { value }.to_owned())
}

fn replaced(json: &str, name: &str, with: impl Fn(&str) -> String) -> String {
    let key = format!("\"{name}\":");
    let mut parts = json.split(key.as_str());
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, rest) = part.split_at(value_length(part));
        made.push_str(&key);
        made.push_str(&with(value));
        made.push_str(rest);
    }
    made
}

/// Leaves out a field whose value `is_new` accepts.
fn without_field(json: &str, name: &str, is_new: impl Fn(&str) -> bool) -> String {
    const MARK: &str = "\u{0}";
    let marked = replaced(json, name, |value| if is_new(value) { MARK } else { value }.to_owned());
    let field = format!("\"{name}\":{MARK}");
    marked
        .replace(&format!(",{field}"), "")
        .replace(&format!("{field},"), "")
        .replace(&field, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_servers_is_not_compared() {
        let etcd = r#"{"header":{"cluster_id":"14", "revision":"2"}, "kvs":[{"key":"a b, c", "version":"1"}]}"#;
        let ours = r#"{"header":{"cluster_id":"15","revision":"2"},"kvs":[{"key":"a b, c","version":"1"}]}"#;
        assert_eq!(comparable(etcd), comparable(ours));
        assert_ne!(comparable(etcd), comparable(&ours.replace("a b", "ab")));
        let status = r#"{"version":"3.6.9","dbSize":"7","dbSizeQuota":"8","downgradeInfo":{},"raftTerm":"2"}"#;
        assert_eq!(comparable(status), r#"{"dbSize":*,"raftTerm":*}"#);
    }

    #[test]
    fn the_error_of_earlier_versions_must_be_the_message() {
        let etcd = r#"{"code":5, "message":"a \"b\""}"#;
        let ours = r#"{"error":"a \"b\"","code":5,"message":"a \"b\""}"#;
        assert_eq!(comparable(ours), comparable(etcd));
        let other = r#"{"error":"x","code":5,"message":"a \"b\""}"#;
        assert_eq!(comparable(other), other);
    }

    #[test]
    fn an_answer_is_read_with_its_chunks() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde";
        let answer = Answer::read(bytes).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
        assert_eq!(answer.headers["content-type"], "text/plain");
        assert!(Answer::read(&bytes[..40]).is_none());
    }
}
