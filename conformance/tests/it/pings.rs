//! A client that pings more often than `--grpc-keepalive-min-time` is dismissed with the words at which gRPC's clients
//! ping less often; one whose calls are answered is not.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, wait};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// As a flag of SETTINGS and PING; of DATA and HEADERS, the end of the stream.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the server does once it has read the pings.
#[derive(Debug, PartialEq)]
enum End {
    /// All pings are answered.
    Served,
    /// The reason for which the connection ended, after this many answers to pings.
    Dismissed(usize, String),
}

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    calls: u8,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut opened = Self { stream, calls: 0 };
        opened.send(PREFACE);
        opened.frame(SETTINGS, 0, 0, &[]);
        opened
    }

    /// Sends bytes. A server that has closed the connection is noticed by the next read.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("a short frame");
        self.send(&[&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat());
    }

    /// Begins a call with one request.
    fn call(&mut self, path: &str, request: &[u8]) {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // A literal field that is not indexed, without Huffman coding.
            for (prefix, text) in [(&[0][..], name), (&[], value)] {
                block.extend_from_slice(prefix);
                block.push(text.len() as u8);
                block.extend_from_slice(text.as_bytes());
            }
        }
        let stream = 2 * self.calls + 1;
        self.calls += 1;
        self.frame(HEADERS, END_HEADERS, stream, &block);
        let message = [&[0, 0, 0, 0, request.len() as u8], request].concat();
        self.frame(DATA, 0, stream, &message);
    }

    /// The next frame; `None` at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "no frame within {LIMIT:?}");
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let (kind, flags) = (head[3], head[4]);
        Some(Frame { kind, flags, payload })
    }

    /// Reads until `is_last` accepts a frame.
    fn until(&mut self, is_last: impl Fn(&Frame) -> bool) {
        while !is_last(&self.next().expect("the connection is open")) {}
    }

    /// Pings `count` times, and does something before each; the server's answer to them.
    fn ping(&mut self, count: usize, mut before: impl FnMut(&mut Self)) -> End {
        for answered in 0..count {
            before(self);
            self.frame(PING, 0, 0, &[answered as u8; 8]);
            loop {
                match self.next() {
                    Some(frame) if frame.kind == PING && frame.flags == ACK => break,
                    Some(frame) if frame.kind == GOAWAY => {
                        let reason = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
                        let code = frame.payload[7];
                        assert!(self.next().is_none(), "the connection is closed");
                        return End::Dismissed(answered, format!("{code} {reason}"));
                    }
                    Some(_) => {}
                    None => panic!("closed without a word after {answered} answers"),
                }
            }
        }
        End::Served
    }
}

fn start(kind: Kind, minimum: &str) -> Server {
    Launch::of(kind)
        .and_then(|launch| launch.flag(format!("--grpc-keepalive-min-time={minimum}")).start())
        .expect("a server")
}

/// A watch of the key `k`: a stream that stays open.
fn watch(connection: &mut Connection) {
    connection.call("/etcdserverpb.Watch/Watch", &[0x0a, 0x03, 0x0a, 0x01, b'k']);
    connection.until(|frame| frame.kind == DATA);
    // The watch's answer forgives one ping.
    assert_eq!(connection.ping(1, |_| ()), End::Served);
}

fn clients_that_ping_too_often_are_dismissed(kind: Kind) {
    let dismissed = |answered| End::Dismissed(answered, "11 too_many_pings".to_owned());
    let server = start(kind, "5m");
    let open = || Connection::open(server.address());
    let idle = open().ping(9, |_| ());
    assert!([dismissed(3), dismissed(4)].contains(&idle), "without a call: {idle:?}");
    let mut watching = open();
    watch(&mut watching);
    let watched = watching.ping(9, |_| ());
    assert!(
        [dismissed(2), dismissed(3)].contains(&watched),
        "beside a watch: {watched:?}"
    );
    let reads = |connection: &mut Connection| {
        connection.call("/etcdserverpb.KV/Range", &[0x0a, 0x01, b'k']);
        connection.until(|frame| frame.kind == HEADERS && frame.flags & ACK != 0);
    };
    assert_eq!(open().ping(20, reads), End::Served, "beside answered calls");

    let server = start(kind, "50ms");
    let mut slow = Connection::open(server.address());
    watch(&mut slow);
    let pauses = |_: &mut Connection| wait::pause(Duration::from_millis(60));
    assert_eq!(slow.ping(8, pauses), End::Served, "as often as is allowed");
    let server = start(kind, "0s");
    let mut unlimited = Connection::open(server.address());
    watch(&mut unlimited);
    let end = unlimited.ping(9, |_| ());
    assert!(
        [dismissed(2), dismissed(3)].contains(&end),
        "0 is not unlimited: {end:?}"
    );
}

#[test]
fn quoin_tokio_dismisses_clients_that_ping_too_often() {
    clients_that_ping_too_often_are_dismissed(Kind::QuoinTokio);
}

#[test]
fn quoin_smol_dismisses_clients_that_ping_too_often() {
    clients_that_ping_too_often_are_dismissed(Kind::QuoinSmol);
}

#[test]
fn etcd_dismisses_clients_that_ping_too_often() {
    clients_that_ping_too_often_are_dismissed(Kind::Etcd);
}
