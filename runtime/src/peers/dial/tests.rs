//! Requests to a server of this test, over a runtime that polls its sockets again and again.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use quoin_core::config::Config;

use super::*;
use crate::clock::Clock;
use crate::seam::{Acceptor, Listener, Serve, Sleep, Stream, Task, block_on};

/// A runtime without an executor, for [`block_on`].
struct Polled(Clock);

struct PolledSocket(Stream);

/// Makes the executor poll the task again soon.
fn again<T>(cx: &Context<'_>) -> Poll<T> {
    std::thread::park_timeout(Duration::from_millis(1));
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn outcome(cx: &Context<'_>, result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => again(cx),
        other => Poll::Ready(other),
    }
}

impl Socket for PolledSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        outcome(cx, self.0.read(buffer))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        outcome(cx, self.0.write(bytes))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown())
    }
}

impl Runtime for Polled {
    fn name(&self) -> &'static str {
        "polled"
    }

    fn clock(&self) -> Clock {
        self.0
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        let clock = self.0;
        Box::pin(poll_fn(move |cx| {
            if clock.now() >= moment {
                return Poll::Ready(());
            }
            again(cx)
        }))
    }

    fn spawn(&self, _task: Task) {
        unreachable!("a request is polled by its caller")
    }

    fn listen(&self, _acceptor: Acceptor) -> io::Result<Box<dyn Listener>> {
        unreachable!("nothing listens")
    }

    fn attach(&self, stream: Stream) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(PolledSocket(stream)))
    }

    fn place(&self, _connection: Stream, _serve: Serve) {
        unreachable!("nothing listens")
    }
}

fn head(method: &str, path: &str) -> PeerHead {
    PeerHead {
        method: method.to_owned(),
        path: path.to_owned(),
        fields: [("x-raft-to".to_owned(), "a".to_owned())].into(),
    }
}

fn asked(
    url: &str,
    head: &PeerHead,
    body: &'static str,
    (limit, patience): (usize, Duration),
) -> Result<(u16, PeerHead, Bytes), String> {
    let runtime: Arc<dyn Runtime> = Arc::new(Polled(Clock::new()));
    let dialer = Dialer::new(&runtime, &Config::with_defaults()).unwrap();
    block_on(ask(&dialer, url, head, body.into(), limit, patience))
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads a request up to `end`, and answers with these bytes.
fn answer_once(mut socket: impl io::Read + io::Write, end: &str, answer: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 1024];
    while !read.ends_with(end.as_bytes()) {
        let length = socket.read(&mut buffer).unwrap();
        assert!(length > 0, "the request ended early: {read:?}");
        read.extend_from_slice(&buffer[..length]);
    }
    socket.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(read).unwrap()
}

fn serve(end: &'static str, answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let served = std::thread::spawn(move || answer_once(listener.accept().unwrap().0, end, answer));
    (url, served)
}

#[test]
fn a_request_is_sent_to_a_name_and_its_answer_returned() {
    let (url, served) = serve(
        "\r\n\r\nbody",
        "HTTP/1.1 204 No Content\r\nX-Server-Version: 3.6.0\r\n\r\n",
    );
    let asked = asked(&url, &head("POST", "/raft"), "body", (0, PATIENCE));
    let (status, head, body) = asked.unwrap();
    assert_eq!((status, body.len()), (204, 0));
    assert_eq!(head.fields["x-server-version"], "3.6.0");
    let request = served.join().unwrap();
    let host = url.strip_prefix("http://").unwrap();
    let expected = format!("POST /raft HTTP/1.1\r\nhost: {host}\r\nx-raft-to: a\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(request, expected);
}

#[test]
fn a_request_is_sent_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let served = std::thread::spawn(move || answer_once(listener.accept().unwrap().0, "\r\n\r\n", answer));
    let url = format!("unix://{}", path.display());
    let asked = asked(&url, &head("GET", "/version"), "", (2, PATIENCE));
    assert_eq!(asked.unwrap().2, "{}");
    assert!(
        served
            .join()
            .unwrap()
            .starts_with("GET /version HTTP/1.1\r\nhost: localhost\r\n")
    );
}

#[test]
fn a_request_that_cannot_be_sent_is_an_error_that_names_the_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = |url: &str| asked(url, &head("GET", "/"), "", (1, PATIENCE)).unwrap_err();
    let why = refused(&format!("http://{closed}"));
    assert!(why.contains("refused"), "{why}");
    let why = refused("http://name.invalid:1");
    assert!(why.starts_with("lookup name.invalid: "), "{why}");
}

#[test]
fn an_answer_that_is_too_long_or_too_late_is_an_error() {
    let (url, served) = serve("\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    let why = asked(&url, &head("GET", "/"), "", (2, PATIENCE)).unwrap_err();
    assert_eq!(why, format!("the answer of {url} has more than 2 bytes"));
    served.join().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let patience = Duration::from_millis(50);
    let why = asked(&url, &head("GET", "/"), "", (2, patience)).unwrap_err();
    assert_eq!(why, format!("{url} has not answered within 50ms"));
}
