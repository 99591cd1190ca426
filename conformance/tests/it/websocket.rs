//! WebSockets of the JSON gateway, beside those of a real etcd: what is sent, in the same order, and how they end.

use std::time::Duration;

use quoin_conformance::gateway::websocket::{BINARY, CLOSE, FIRST, LAST, PING, Received, TEXT, WebSocket, frame};
use quoin_conformance::gateway::{Request, base64};
use quoin_conformance::{Kind, Server};

use super::gateway::{same, servers};

/// A server that has sent all of its frames is silent for longer.
const SILENCE: Duration = Duration::from_millis(100);
/// The code of a normal end.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// How a story ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// The WebSocket stays open.
    Open,
    /// The client or its error has closed it.
    Closed,
    /// The answer is over. etcd cuts the connection then; Quoin tells it before, as RFC 6455 demands.
    Answered,
}

/// Frames, with the number of frames that answer each.
type Talk = Vec<(Vec<u8>, usize)>;

fn text(json: &str, answers: usize) -> (Vec<u8>, usize) {
    (frame(TEXT, json.as_bytes()), answers)
}

/// What a server does in a talk.
fn heard(server: &Server, request: &Request, talk: &Talk, ends: Ends) -> Vec<Received> {
    let (accepted, mut socket) = WebSocket::open(server.address(), request).expect("a WebSocket");
    let protocol = accepted.headers.get("sec-websocket-protocol").cloned();
    let mut heard = vec![Received::Text(protocol.unwrap_or_default())];
    for (bytes, answers) in talk {
        socket.send(bytes).expect("an open connection");
        for _ in 0..*answers {
            heard.push(socket.receive(None).expect("a frame"));
        }
    }
    if ends == Ends::Answered && server.name() != Kind::Etcd.name() {
        assert_eq!(socket.receive(None).expect("a frame"), Received::Close(NORMAL.to_vec()));
    }
    let silence = (ends == Ends::Open).then_some(SILENCE);
    let end = socket.receive(silence).expect("silence or the end");
    let expected = if ends == Ends::Open {
        Received::Silence
    } else {
        Received::End
    };
    assert_eq!(end, expected, "{}", server.name());
    heard
}

/// All servers do the same in a talk.
fn alike(servers: &[Server; 3], what: &str, request: &Request, talk: &Talk, ends: Ends) {
    let [etcd, others @ ..] = servers;
    let expected = heard(etcd, request, talk, ends);
    for server in others {
        let ours = heard(server, request, talk, ends);
        assert_eq!(ours, expected, "{what}: {} differs from etcd", server.name());
    }
}

fn watch(id: u32) -> String {
    let key = base64(b"k");
    format!(r#"{{"create_request":{{"key":"{key}","watch_id":{id},"start_revision":1}}}}"#)
}

#[test]
fn messages_are_the_body_of_a_call_and_its_lines_are_messages() {
    let servers = servers();
    let put = format!(r#"{{"key":"{}","value":"{}"}}"#, base64(b"k"), base64(&[b'v'; 100_000]));
    same(&servers, &Request::post("/v3/kv/put", &put), "a put");
    same(
        &servers,
        &Request::post("/v3/lease/grant", r#"{"TTL":1000,"ID":7}"#),
        "a lease",
    );
    let key = base64(b"k");
    let cancel = r#"{"cancel_request":{"watch_id":5}}"#;
    let mut first = watch(5).into_bytes();
    let second = first.split_off(10);
    for (what, path, talk, ends) in [
        (
            "a watch",
            "/v3/watch",
            // Each is created, and has the event, of which the message is longer than a frame of Quoin.
            vec![
                text(&watch(5), 2),
                text(&watch(6), 2),
                text(cancel, 1),
                text("nonsense", 0),
            ],
            Ends::Open,
        ),
        (
            "a binary message",
            "/v3/watch",
            vec![(frame(BINARY, watch(5).as_bytes()), 2)],
            Ends::Open,
        ),
        (
            "pieces of a message, and a ping between them",
            "/v3/watch",
            vec![
                (frame(FIRST, &first), 0),
                (frame(PING, b"hey"), 1),
                (frame(LAST, &second), 2),
            ],
            Ends::Open,
        ),
        (
            "a value in two messages",
            "/v3/watch",
            vec![(frame(TEXT, &first), 0), (frame(TEXT, &second), 0)],
            Ends::Open,
        ),
        ("no text", "/v3/watch", vec![(frame(TEXT, b"\xff\xfe"), 0)], Ends::Open),
        (
            "renewals",
            "/v3/lease/keepalive",
            vec![text(r#"{"ID":7}"#, 1), text(r#"{"ID":"7"}{"ID":8}"#, 2)],
            Ends::Open,
        ),
        (
            "a unary call",
            "/v3/kv/range",
            vec![text(&format!(r#"{{"key":"{key}"}}"#), 1)],
            Ends::Answered,
        ),
        ("a bad unary call", "/v3/kv/range", vec![text("x", 1)], Ends::Answered),
        ("an unknown path", "/v3/nothing", vec![(Vec::new(), 1)], Ends::Answered),
    ] {
        alike(&servers, what, &WebSocket::request(path, &[]), &talk, ends);
    }
}

#[test]
fn a_client_closes_and_wrong_frames_are_refused() {
    let servers = servers();
    let close = |content: &[u8]| frame(CLOSE, content);
    let mut unmasked = frame(TEXT, b"{}");
    unmasked[1] &= 0x7f;
    for (what, bytes) in [
        ("close", close(&[3, 0xe8, b'b', b'y', b'e'])),
        ("close without a code", close(b"")),
        ("close with a code that is none", close(&[3, 0xed])),
        ("close with a reason that is no text", close(&[3, 0xe8, 0xff])),
        ("no mask", unmasked),
        ("a reserved bit", frame(0xc1, b"{}")),
        ("reserved bits and an unknown kind", frame(0xf3, b"{}")),
        ("a piece of no message", frame(LAST, b"{}")),
        (
            "a message within a message",
            [frame(FIRST, b"{"), frame(TEXT, b"}")].concat(),
        ),
        ("a long ping", frame(PING, &[0; 126])),
        ("a piece of a ping", frame(0x09, b"")),
    ] {
        let talk = vec![(bytes, 1)];
        alike(
            &servers,
            what,
            &WebSocket::request("/v3/watch", &[]),
            &talk,
            Ends::Closed,
        );
    }
    for (what, header, value) in [
        ("an old version", "Sec-WebSocket-Version", "8"),
        ("no version", "Sec-WebSocket-Version", ""),
        ("no key", "Sec-WebSocket-Key", ""),
        ("a short key", "Sec-WebSocket-Key", "YWJj"),
        ("another protocol", "Upgrade", "h2c"),
    ] {
        same(&servers, &WebSocket::request("/v3/watch", &[(header, value)]), what);
    }
    let mut post = WebSocket::request("/v3/watch", &[]);
    post.method = "POST";
    same(&servers, &post, "POST");
    same(&servers, &WebSocket::request("/v3//watch", &[]), "a path that moved");
    same(
        &servers,
        &WebSocket::request("/health", &[]),
        "a path outside the gateway",
    );
}

#[test]
fn a_token_comes_with_the_protocol_or_a_cookie() {
    let servers = servers();
    let post = |path: &str, body: &str| same(&servers, &Request::post(path, body), path);
    post("/v3/auth/user/add", r#"{"name":"root","password":"p"}"#);
    post("/v3/auth/role/add", r#"{"name":"root"}"#);
    post("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#);
    post("/v3/auth/enable", "{}");
    let range = format!(r#"{{"key":"{}"}}"#, base64(b"k"));
    let [etcd, tokio, smol] = servers.each_ref().map(|server| {
        let answer = server.post("/v3/auth/authenticate", r#"{"name":"root","password":"p"}"#);
        let answer = answer.expect("a token");
        let token = answer
            .split("\"token\":")
            .nth(1)
            .and_then(|rest| rest.split('"').nth(1));
        let token = token.expect("a token").to_owned();
        [
            vec![],
            vec![("Authorization", token.clone())],
            vec![("Sec-WebSocket-Protocol", format!("Bearer, {token}"))],
            vec![("Sec-WebSocket-Protocol", format!("Bearer,{token}"))],
            vec![("Sec-WebSocket-Protocol", "Bearer, nobody".to_owned())],
            vec![("Sec-WebSocket-Protocol", "chat".to_owned())],
            vec![("Cookie", format!("a=b; token={token}"))],
        ]
        .map(|headers| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &value[..])).collect();
            let request = WebSocket::request("/v3/kv/range", &headers);
            heard(server, &request, &vec![text(&range, 1)], Ends::Answered)
        })
    });
    let is_served = |heard: &Vec<Received>| matches!(&heard[1], Received::Text(answer) if answer.contains("header"));
    for (number, refused) in etcd.into_iter().enumerate() {
        let served = [&refused, &tokio[number], &smol[number]].map(is_served);
        // etcd 3.5.30 takes the word for a part of the token, and so serves no WebSocket to a user.
        if [2, 3, 6].contains(&number) {
            assert_eq!(served, [false, true, true], "token {number}");
        } else {
            assert_eq!((&tokio[number], &smol[number]), (&refused, &refused), "token {number}");
        }
    }
}

/// A client that asks for more than it reads is not read from for ever, and another one is served meanwhile.
#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    for server in &servers()[1..] {
        let request = WebSocket::request("/v3/lease/keepalive", &[]);
        let (_, mut socket) = WebSocket::open(server.address(), &request).expect("a WebSocket");
        socket.limit_writes(Duration::from_millis(500));
        let many = frame(TEXT, &br#"{"ID":7}"#.repeat(1000));
        let sent = (0..10_000).take_while(|_| socket.send(&many).is_ok()).count();
        assert!(sent < 10_000, "{} takes all of it", server.name());
        let answer = server.post("/v3/kv/range", r#"{"key":"YQ=="}"#);
        assert!(answer.expect("an answer").contains("header"));
    }
}
