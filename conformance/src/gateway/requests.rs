//! Random requests to the gateway.

use super::Request;
use crate::rng::Rng;

/// Requests of one seed. Servers that get the same ones in the same order have the same revisions.
#[derive(Debug)]
pub struct Requests(Rng);

/// Paths of unary methods, and the fields of their requests: name, and kind of value.
const METHODS: &[(&str, &[(&str, Content)])] = &[
    ("kv/range", RANGE),
    ("kv/range", RANGE),
    ("kv/put", PUT),
    ("kv/put", PUT),
    ("kv/deleterange", DELETE),
    (
        "kv/txn",
        &[
            ("compare", Content::Compares),
            ("success", Content::Ops),
            ("failure", Content::Ops),
        ],
    ),
    (
        "kv/txn",
        &[
            ("compare", Content::Compares),
            ("success", Content::Ops),
            ("failure", Content::Ops),
        ],
    ),
    (
        "kv/compaction",
        &[("revision", Content::Old), ("physical", Content::Bool)],
    ),
    ("lease/grant", &[("TTL", Content::Ttl), ("ID", Content::Lease)]),
    ("lease/revoke", LEASE),
    ("kv/lease/revoke", LEASE),
    ("lease/timetolive", &[("ID", Content::Lease), ("keys", Content::Bool)]),
    (
        "kv/lease/timetolive",
        &[("ID", Content::Lease), ("keys", Content::Bool)],
    ),
    ("lease/leases", &[]),
    ("kv/lease/leases", &[]),
    (
        "maintenance/alarm",
        &[
            ("action", Content::Choice(&["GET", "ACTIVATE", "DEACTIVATE"])),
            ("alarm", Content::Alarm),
        ],
    ),
    ("maintenance/status", &[]),
    ("maintenance/hash", &[]),
    ("maintenance/transfer-leadership", &[("targetID", Content::Number)]),
    ("cluster/member/list", &[("linearizable", Content::Bool)]),
    (
        "cluster/member/add",
        &[("peerURLs", Content::Names), ("isLearner", Content::Bool)],
    ),
    ("cluster/member/remove", &[("ID", Content::Unknown)]),
    ("cluster/member/promote", &[("ID", Content::Unknown)]),
    (
        "cluster/member/update",
        &[("ID", Content::Unknown), ("peerURLs", Content::Names)],
    ),
    ("auth/status", &[]),
    (
        "auth/authenticate",
        &[("name", Content::Name), ("password", Content::Name)],
    ),
    ("auth/user/add", &[("name", Content::Name), ("password", Content::Name)]),
    ("auth/user/get", &[("name", Content::Name)]),
    ("auth/user/list", &[]),
    ("auth/user/delete", &[("name", Content::Name)]),
    (
        "auth/user/changepw",
        &[("name", Content::Name), ("password", Content::Name)],
    ),
    ("auth/user/grant", &[("user", Content::Name), ("role", Content::Name)]),
    ("auth/user/revoke", &[("name", Content::Name), ("role", Content::Name)]),
    ("auth/role/add", &[("name", Content::Name)]),
    ("auth/role/get", &[("role", Content::Name)]),
    ("auth/role/list", &[]),
    ("auth/role/delete", &[("role", Content::Name)]),
    (
        "auth/role/grant",
        &[("name", Content::Name), ("perm", Content::Permission)],
    ),
    (
        "auth/role/revoke",
        &[
            ("role", Content::Name),
            ("key", Content::Key),
            ("range_end", Content::End),
        ],
    ),
    ("election/leader", &[("name", Content::Key)]),
    ("election/resign", &[]),
    ("election/proclaim", &[("value", Content::Key)]),
    ("lock/unlock", &[("key", Content::Key)]),
];

const RANGE: &[(&str, Content)] = &[
    ("key", Content::Key),
    ("range_end", Content::End),
    ("limit", Content::Number),
    ("revision", Content::Old),
    ("sort_order", Content::Choice(&["NONE", "ASCEND", "DESCEND"])),
    (
        "sort_target",
        Content::Choice(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"]),
    ),
    ("serializable", Content::Bool),
    ("keys_only", Content::Bool),
    ("count_only", Content::Bool),
    ("min_mod_revision", Content::Number),
    ("max_create_revision", Content::Number),
];
const PUT: &[(&str, Content)] = &[
    ("key", Content::Key),
    ("value", Content::Key),
    ("lease", Content::Lease),
    ("prev_kv", Content::Bool),
    ("ignore_value", Content::Rarely),
    ("ignore_lease", Content::Rarely),
];
const DELETE: &[(&str, Content)] = &[
    ("key", Content::Key),
    ("range_end", Content::End),
    ("prev_kv", Content::Bool),
];
const LEASE: &[(&str, Content)] = &[("ID", Content::Lease)];
const COMPARE: &[(&str, Content)] = &[
    ("result", Content::Choice(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])),
    (
        "target",
        Content::Choice(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]),
    ),
    ("key", Content::Key),
    ("version", Content::Number),
    ("range_end", Content::End),
];

/// The kind of a field's value.
#[derive(Clone, Copy, Debug)]
enum Content {
    Alarm,
    Bool,
    Choice(&'static [&'static str]),
    Compares,
    End,
    Key,
    /// One of a few leases.
    Lease,
    Name,
    Names,
    Number,
    /// A revision of the past.
    Old,
    Ops,
    Permission,
    /// A flag that is seldom set.
    Rarely,
    Ttl,
    /// The id of no member.
    Unknown,
}

/// Values of the wrong type, or that are no JSON.
const WRONG: [&str; 26] = [
    "null",
    "true",
    "17",
    "-1",
    "1.5",
    "1e3",
    "1e400",
    "9223372036854775808",
    "18446744073709551616",
    "\"\"",
    "\"x\"",
    "\"Zg\"",
    "\"Zg==\"",
    "\"Z===\"",
    "\"!!\"",
    "\"_-8\"",
    "[]",
    "[1]",
    "{}",
    "{\"a\":1}",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u00zz\"",
    "01",
    "tru",
    "\"\u{fc}\"",
];
/// Lists of URLs that no member can have.
const BAD_URLS: [&str; 6] = [
    "[]",
    "[\"nonsense\"]",
    "[\"\"]",
    "[\"http://a\"]",
    "[\"http://a:1/b\"]",
    "[\"http://a:1\",\"ftp://a:1\"]",
];
const WRONG_CHOICES: [&str; 9] = [
    "null",
    "true",
    "1.5",
    "1e400",
    "\"x\"",
    "\"\"",
    "[]",
    "{\"a\":1}",
    "tru",
];
/// What is put into a text to damage it.
const GARBAGE: [&[u8]; 12] = [
    b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\", b"\0", b"\xff", b"\n", b"1",
];
const OTHER_PATHS: [&str; 9] = [
    "/v3/kv/nothing",
    "/v3/",
    "/v3/kv/range/",
    "/v3/kv//put",
    "/v3beta/kv/range",
    "/v3/kv/../kv/range",
    "/v3/kv/%72ange",
    "/v3/kv/range?limit=1",
    "/v3alpha/kv/range",
];
const TIMEOUTS: [&str; 7] = ["10S", "1H", "x", "1", "-1S", "1n", "99999999999999999999S"];

impl Requests {
    /// The requests of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// The next one.
    pub fn draw(&mut self) -> Request {
        let (path, fields) = *self.0.pick(METHODS);
        let body = self.object(fields, 0);
        let mut request = Request::post(&format!("/v3/{path}"), &body);
        // A lease must not become one that expires during the test.
        if self.0.once_in(4) && path != "lease/grant" {
            self.damage(&mut request.body);
        }
        match self.0.below(40) {
            0 => request.method = *self.0.pick(&["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
            1 => request.path = (*self.0.pick(&OTHER_PATHS)).to_owned(),
            2 => {
                let timeout = *self.0.pick(&TIMEOUTS);
                request = request.with("Grpc-Timeout", timeout);
            }
            3 => request = request.with("Grpc-Metadata-hasleader", "true"),
            4 => request = request.with("Content-Type", "text/plain"),
            5 => request = request.with("Authorization", "nobody"),
            6 if path != "lease/grant" => request.body.clear(),
            _ => {}
        }
        request
    }

    fn object(&mut self, fields: &[(&str, Content)], depth: usize) -> String {
        let mut parts = Vec::new();
        for (number, (name, kind)) in fields.iter().enumerate() {
            // The first field is nearly always needed.
            let is_left_out = self.0.once_in(if number == 0 { 12 } else { 2 });
            if is_left_out && !matches!(kind, Content::Ttl) {
                continue;
            }
            let name = if self.0.once_in(6) {
                camel(name)
            } else {
                (*name).to_owned()
            };
            let value = if self.0.once_in(40) && !matches!(kind, Content::Ttl) {
                self.wrong(*kind)
            } else {
                self.value(*kind, depth)
            };
            parts.push(format!("\"{name}\":{value}"));
        }
        if self.0.once_in(20) {
            parts.push("\"unknown\":[{\"x\":null},\"\"]".to_owned());
        }
        if self.0.once_in(60) && !parts.is_empty() {
            parts.push(parts[0].clone());
        }
        format!("{{{}}}", parts.join(*self.0.pick(&[",", ", ", " ,\n"])))
    }

    fn wrong(&mut self, kind: Content) -> String {
        let values = match kind {
            // etcd 3.5 takes numbers that name no order and no target of sorting; 3.6 and Quoin refuse them.
            Content::Choice(_) => &WRONG_CHOICES[..],
            _ => &WRONG,
        };
        (*self.0.pick(values)).to_owned()
    }

    fn value(&mut self, kind: Content, depth: usize) -> String {
        let integer = |rng: &mut Rng, number: u64| {
            if rng.once_in(2) {
                format!("\"{number}\"")
            } else {
                number.to_string()
            }
        };
        match kind {
            Content::Alarm => "\"NONE\"".to_owned(),
            Content::Bool => (*self.0.pick(&["true", "false"])).to_owned(),
            Content::Choice(names) => {
                let at = self.0.below(names.len() as u64);
                if self.0.once_in(4) {
                    at.to_string()
                } else {
                    format!("\"{}\"", names[at as usize])
                }
            }
            Content::Compares => self.list(COMPARE, depth),
            Content::End => (*self.0.pick(&["\"AA==\"", "\"ag==\"", "\"\"", "\"YQ==\""])).to_owned(),
            Content::Key => format!("\"{}\"", base64(&[b'a' + self.0.below(6) as u8])),
            Content::Lease => {
                let number = 11 + self.0.below(4);
                integer(&mut self.0, number)
            }
            Content::Name => (*self.0.pick(&["\"root\"", "\"a\"", "\"b\"", "\"\"", "\"<\u{fc}>\""])).to_owned(),
            Content::Names => (*self.0.pick(&BAD_URLS)).to_owned(),
            Content::Number => {
                let number = self.0.below(4);
                integer(&mut self.0, number)
            }
            Content::Old => {
                let number = 1 + self.0.below(30);
                integer(&mut self.0, number)
            }
            Content::Ops => self.ops(depth),
            Content::Permission => {
                let fields = [
                    ("key", Content::Key),
                    ("range_end", Content::End),
                    ("permType", Content::Choice(&["READ", "WRITE", "READWRITE"])),
                ];
                self.object(&fields, depth)
            }
            Content::Rarely => self.0.once_in(8).to_string(),
            Content::Ttl => (*self.0.pick(&["1000", "\"1e3\"", "2000.0", "\"9999999999\""])).to_owned(),
            Content::Unknown => "\"77\"".to_owned(),
        }
    }

    fn list(&mut self, fields: &[(&str, Content)], depth: usize) -> String {
        let count = self.0.below(3);
        let items: Vec<String> = (0..count).map(|_| self.object(fields, depth)).collect();
        format!("[{}]", items.join(","))
    }

    fn ops(&mut self, depth: usize) -> String {
        let count = self.0.below(3);
        let ops: Vec<String> = (0..count).map(|_| self.op(depth)).collect();
        format!("[{}]", ops.join(","))
    }

    fn op(&mut self, depth: usize) -> String {
        let (name, body) = match self.0.below(7) {
            0..3 => ("request_range", self.object(RANGE, depth)),
            3 | 4 => ("requestPut", self.object(PUT, depth)),
            5 if depth < 2 => {
                let nested = [
                    ("compare", Content::Compares),
                    ("success", Content::Ops),
                    ("failure", Content::Ops),
                ];
                ("request_txn", self.object(&nested, depth + 1))
            }
            _ => ("request_delete_range", self.object(DELETE, depth)),
        };
        format!("{{\"{name}\":{body}}}")
    }

    fn damage(&mut self, body: &mut Vec<u8>) {
        let at = self.0.below(body.len() as u64 + 1) as usize;
        match self.0.below(4) {
            0 => body.truncate(at),
            1 => {
                let garbage = *self.0.pick(&GARBAGE);
                body.splice(at..at, garbage.iter().copied());
            }
            2 if at < body.len() => drop(body.remove(at)),
            3 => {
                let garbage = *self.0.pick(&GARBAGE);
                body.extend_from_slice(garbage);
            }
            _ => {}
        }
    }
}

/// `lowerCamelCase` of a name with underscores.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |made, part| {
        let (initial, rest) = part.split_at(part.len().min(1));
        made + &initial.to_ascii_uppercase() + rest
    })
}

/// Bytes as base64, as in JSON.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
