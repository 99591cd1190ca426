//! The JSON gateway answers as etcd's does: status, headers and bodies, but for ids, of two thousand random requests, of
//! streams, and of users.

use std::thread;
use std::time::Duration;

use quoin_conformance::gateway::{Answer, Request, Requests, base64};
use quoin_conformance::{Kind, Launch, Server, rng};

const REQUESTS: u64 = 2_000;
/// A stream that has sent all its lines is silent for longer.
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) fn servers() -> [Server; 3] {
    thread::scope(|scope| {
        let start = |kind| scope.spawn(move || Launch::of(kind).and_then(Launch::start).expect("a server"));
        [Kind::Etcd, Kind::QuoinTokio, Kind::QuoinSmol]
            .map(start)
            .map(|starting| starting.join().expect("a server"))
    })
}

/// The answer of etcd; those of the others must be equal to it.
pub(crate) fn same(servers: &[Server; 3], request: &Request, what: &str) -> Answer {
    let answers = servers.each_ref().map(|server| {
        request
            .ask(server.address())
            .unwrap_or_else(|trouble| panic!("{what}: {} {trouble}", server.name()))
    });
    for (server, answer) in servers.iter().zip(&answers) {
        assert_eq!(
            *answer,
            answers[0],
            "{what}: {} differs from etcd in {} {} {:?} {}",
            server.name(),
            request.method,
            request.path,
            request.headers,
            String::from_utf8_lossy(&request.body)
        );
    }
    answers.into_iter().next().expect("three answers")
}

#[test]
fn random_requests_have_etcds_answers() {
    let servers = servers();
    let seed = rng::number_from_env("QUOIN_SEED").unwrap_or(1);
    let mut requests = Requests::new(seed);
    let mut served = 0;
    for number in 0..REQUESTS {
        let what = format!("request {number} of seed {seed}");
        let answer = same(&servers, &requests.draw(), &what);
        served += usize::from(answer.status == 200);
    }
    assert!(served > 500, "{served} of {REQUESTS} were served");
}

#[test]
fn hostile_json_has_etcds_answers() {
    let servers = servers();
    let range = |body: &str| Request::post("/v3/kv/range", body);
    let nested = |depth| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let deep_txn = |depth| {
        let (open, close) = ("{\"success\":[{\"requestTxn\":", "}]}");
        open.repeat(depth) + "{}" + &close.repeat(depth)
    };
    for (what, request) in [
        ("deep", range(&nested(100_000))),
        ("as deep as Go reads", range(&nested(9_998))),
        ("deep messages", Request::post("/v3/kv/txn", &deep_txn(40))),
        ("too deep messages", Request::post("/v3/kv/txn", &deep_txn(20_000))),
        (
            "a long number",
            range(&format!("{{\"limit\":{}}}", "9".repeat(100_000))),
        ),
        ("a long exponent", range("{\"limit\":1e99999999999999999999}")),
        (
            "many fields",
            range(&format!("{{{}\"key\":\"YQ==\"}}", "\"a\":1,".repeat(50_000))),
        ),
        ("a large value", {
            let value = base64(&vec![7; 1_600_000]);
            Request::post("/v3/kv/put", &format!("{{\"key\":\"YQ==\",\"value\":\"{value}\"}}"))
        }),
        ("a larger value", {
            let value = base64(&vec![7; 3_000_000]);
            Request::post("/v3/kv/put", &format!("{{\"key\":\"YQ==\",\"value\":\"{value}\"}}"))
        }),
    ] {
        same(&servers, &request, what);
    }
}

/// The answer without what depends on time: the order of its lines, and which side of etcd's own connection, the
/// gateway or the server, ended the call first when its time was over. A real etcd gives either of the two messages.
fn timeless(answer: Answer) -> Answer {
    let body = answer.body.replace(
        "stream terminated by RST_STREAM with error code: CANCEL",
        "context deadline exceeded",
    );
    let mut lines: Vec<&str> = body.split_inclusive('\n').collect();
    lines.sort_unstable();
    Answer {
        body: lines.concat(),
        ..answer
    }
}

#[test]
fn streams_have_etcds_lines() {
    let servers = servers();
    for number in 0..4 {
        let put = format!(
            "{{\"key\":\"{}\",\"value\":\"PDw+\"}}",
            base64(format!("k{number}").as_bytes())
        );
        same(&servers, &Request::post("/v3/kv/put", &put), "a put");
    }
    same(
        &servers,
        &Request::post("/v3/lease/grant", r#"{"TTL":1000,"ID":7}"#),
        "a lease",
    );
    let (key, end) = (base64(b"k"), base64(b"l"));
    let create = format!(r#"{{"create_request":{{"key":"{key}","range_end":"{end}","start_revision":"1"}}}}"#);
    let created = format!(r#"{{"createRequest":{{"key":"{key}","prevKv":true,"watchId":5}}}}"#);
    let watch = |body: &str| Request::post("/v3/watch", body);
    for (what, request) in [
        ("a watch of the past", watch(&create)),
        ("two watches", watch(&format!("{create} {created}"))),
        ("progress", watch(&format!("{created}{{\"progress_request\":{{}}}}"))),
        (
            "a cancelled watch",
            watch(&format!("{created}\n{{\"cancel_request\":{{\"watch_id\":5}}}}")),
        ),
        ("a watch and no JSON", watch(&format!("{created} nonsense"))),
        (
            "a bad filter",
            watch(r#"{"create_request":{"filters":["NOPUT","X",7]}}"#),
        ),
        ("a token", watch(&create).with("Authorization", "nobody")),
        ("a timeout", watch(&created).with("Grpc-Timeout", "300m")),
        (
            "renewals",
            Request::post("/v3/lease/keepalive", r#"{"ID":7}{"ID":"8"} {"ID":7}"#),
        ),
        ("no renewal", Request::post("/v3/lease/keepalive", "")),
        ("a bad renewal", Request::post("/v3/lease/keepalive", r#"{"ID":"x"}"#)),
    ] {
        let begin = |server: &Server, lines| request.begin(server.address(), SILENCE, lines).expect("a stream");
        let etcd = begin(&servers[0], 1);
        for server in &servers[1..] {
            let ours = begin(server, etcd.body.lines().count());
            // etcd sends the events of the past later.
            assert_eq!(
                timeless(ours),
                timeless(etcd.clone()),
                "{what}: {} differs from etcd",
                server.name()
            );
        }
    }
    let backups = servers.each_ref().map(|server| {
        Request::post("/v3/maintenance/snapshot", "{}")
            .ask(server.address())
            .expect("a backup")
    });
    for backup in backups {
        let lines: Vec<&str> = backup.body.lines().collect();
        let is_piece = |line: &&str| line.starts_with("{\"result\":{") && line.contains("\"blob\":");
        assert!(lines.len() > 1 && lines.iter().all(is_piece), "{lines:?}");
    }
}

#[test]
fn users_have_etcds_answers() {
    let servers = servers();
    let post = |path: &str, body: &str| same(&servers, &Request::post(path, body), path);
    for name in ["root", "u"] {
        post("/v3/auth/user/add", &format!(r#"{{"name":"{name}","password":"p"}}"#));
        post("/v3/auth/role/add", &format!(r#"{{"name":"{name}"}}"#));
        post(
            "/v3/auth/user/grant",
            &format!(r#"{{"user":"{name}","role":"{name}"}}"#),
        );
    }
    let permission = format!(
        r#"{{"name":"u","perm":{{"permType":"READ","key":"{}"}}}}"#,
        base64(b"a")
    );
    post("/v3/auth/role/grant", &permission);
    assert_eq!(post("/v3/auth/enable", "{}").status, 200);
    let tokens = |name: &str| {
        let login = format!(r#"{{"name":"{name}","password":"p"}}"#);
        servers.each_ref().map(|server| {
            let answer = server.post("/v3/auth/authenticate", &login).expect("a token");
            let token = answer
                .split("\"token\":")
                .nth(1)
                .and_then(|rest| rest.split('"').nth(1));
            token.unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
        })
    };
    let (root, user) = (tokens("root"), tokens("u"));
    let keys = [base64(b"a"), base64(b"b")];
    for tokens in [None, Some(&root), Some(&user)] {
        for key in &keys {
            for (path, body) in [
                ("/v3/kv/range", format!("{{\"key\":\"{key}\"}}")),
                ("/v3/kv/put", format!("{{\"key\":\"{key}\"}}")),
                ("/v3/cluster/member/list", "{}".to_owned()),
                ("/v3/auth/user/list", "{}".to_owned()),
                ("/v3/auth/status", "{}".to_owned()),
                ("/v3/lease/leases", "{}".to_owned()),
            ] {
                let answers = [0, 1, 2].map(|at: usize| {
                    let mut request = Request::post(path, &body);
                    if let Some(tokens) = tokens {
                        request = request.with("Authorization", &tokens[at]);
                    }
                    request.ask(servers[at].address()).expect("an answer")
                });
                let who = tokens.map(|tokens| if *tokens == root { "root" } else { "u" });
                assert_eq!(answers[1], answers[0], "tokio: {who:?} at {path} {body}");
                assert_eq!(answers[2], answers[0], "smol: {who:?} at {path} {body}");
            }
        }
    }
    same(
        &servers,
        &Request::post("/v3/kv/range", "{}").with("Authorization", "bad"),
        "a bad token",
    );
}
