//! Names, files and sockets of TLS, without a network. The conformance tests have the servers.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quoin_core::config::{Config, TlsVersion, Url};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::files::{Reloaded, bare, read_cas, read_pair, read_revoked};
use super::made::make_certificates;
use super::shake::{Failure, shake};
use super::socket::TlsSocket;
use super::verify::CertFacts;
use super::{client, server, suites};
use crate::seam::{Socket, block_on};

/// One direction of a pipe: its bytes, and whether its writer has ended.
#[derive(Default)]
struct Half {
    bytes: VecDeque<u8>,
    is_over: bool,
}

/// A socket in memory, whose every call takes at most `room` bytes.
struct Pipe {
    from: Arc<Mutex<Half>>,
    to: Arc<Mutex<Half>>,
    room: usize,
}

fn pipe(room: usize) -> (Pipe, Pipe) {
    let (one, two) = (Arc::<Mutex<Half>>::default(), Arc::<Mutex<Half>>::default());
    let end = |from: &Arc<Mutex<Half>>, to: &Arc<Mutex<Half>>| Pipe {
        from: Arc::clone(from),
        to: Arc::clone(to),
        room,
    };
    (end(&one, &two), end(&two, &one))
}

/// Polls the task again soon.
fn again<T>(cx: &Context<'_>) -> Poll<T> {
    std::thread::park_timeout(Duration::from_millis(1));
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl Socket for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut half = self.from.lock().unwrap();
        let length = half.bytes.len().min(buffer.len()).min(self.room);
        if length == 0 && !half.is_over {
            return again(cx);
        }
        for (place, byte) in buffer.iter_mut().zip(half.bytes.drain(..length)) {
            *place = byte;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut half = self.to.lock().unwrap();
        let length = bytes.len().min(self.room.saturating_sub(half.bytes.len()));
        if length == 0 {
            return again(cx);
        }
        half.bytes.extend(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.lock().unwrap().is_over = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.to.lock().unwrap().is_over = true;
    }
}

/// The configuration of a member that has made its certificates in this folder.
fn made(folder: &std::path::Path) -> Config {
    let mut config = Config::with_defaults();
    config.data_dir = folder.join("data").to_string_lossy().into_owned();
    config.listen_client_urls = Url::parse_list("https://127.0.0.1:1,https://name.test:1").unwrap();
    config.listen_peer_urls = Url::parse_list("https://127.0.0.1:2").unwrap();
    (config.tls.clients.auto, config.tls.peers.auto) = (true, true);
    make_certificates(&mut config, Duration::from_secs(1_700_000_000)).unwrap();
    config
}

fn sides(config: &Config) -> (Box<Connection>, Box<Connection>) {
    let tls = &config.tls;
    let server = ServerConnection::new(server::server_config(tls, &tls.peers).unwrap()).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = ClientConnection::new(client::client_config(tls, &tls.peers).unwrap(), name).unwrap();
    (
        Box::new(Connection::Server(server)),
        Box::new(Connection::Client(client)),
    )
}

#[test]
fn made_certificates_are_valid_for_their_hosts_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = made(folder.path());
    let clients = config.tls.clients.clone();
    assert!(
        clients.cert_file.ends_with("data/fixtures/client/cert.pem"),
        "{}",
        clients.cert_file
    );
    let provider = suites::provider(&config.tls).unwrap();
    let pair = read_pair(&clients.cert_file, &clients.key_file, &provider).unwrap();
    let facts = CertFacts::of(&pair.cert[0]).unwrap();
    assert_eq!(facts.dns_names, ["name.test"]);
    assert!(facts.is_for("127.0.0.1") && facts.common_name.is_empty());
    let before = fs::read(&clients.cert_file).unwrap();
    assert_eq!(made(folder.path()).tls.clients, clients);
    assert_eq!(
        fs::read(&clients.cert_file).unwrap(),
        before,
        "a certificate is made once"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&clients.key_file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn names_fit_a_certificate_by_gos_rule() {
    let facts = CertFacts {
        dns_names: vec!["*.a.test".to_owned(), "B.test".to_owned()],
        addresses: vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        ..CertFacts::default()
    };
    for (host, fits) in [
        ("x.a.test", true),
        ("X.A.TEST.", true),
        ("a.test", false),
        ("x.y.a.test", false),
        (".a.test", false),
        ("b.test", true),
        ("", false),
        ("10.0.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("[::1]", true),
        ("10.0.0.2", false),
    ] {
        assert_eq!(facts.is_for(host), fits, "{host}");
    }
    assert_eq!((bare(&[0, 0, 7, 0]), bare(&[0])), (&[7, 0][..], &[][..]));
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_keeps_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f").to_string_lossy().into_owned();
    fs::write(&path, "1").unwrap();
    let (file, from) = (path.clone(), path.clone());
    let read = move || {
        let text = fs::read_to_string(&from).map_err(|_| "gone".to_owned())?;
        text.parse::<u32>().map_err(|_| "no number".to_owned())
    };
    let number = Reloaded::open([file, String::new()], read).unwrap();
    assert_eq!(number.newest(), Ok(1));
    fs::write(&path, "22").unwrap();
    assert_eq!(number.newest(), Ok(22));
    fs::write(&path, "x").unwrap();
    assert_eq!(number.newest(), Err((22, "no number".to_owned())));
    fs::remove_file(&path).unwrap();
    assert_eq!(number.newest(), Err((22, "gone".to_owned())));
    fs::write(&path, "3").unwrap();
    assert_eq!(number.newest(), Ok(3));
}

#[test]
fn files_that_cannot_be_used_are_refused_in_gos_words() {
    let folder = tempfile::tempdir().unwrap();
    let config = made(folder.path());
    let (clients, peers) = (&config.tls.clients, &config.tls.peers);
    let provider = suites::provider(&config.tls).unwrap();
    let refused = |cert: &str, key: &str| read_pair(cert, key, &provider).unwrap_err();
    assert_eq!(
        refused("/none/c.pem", &clients.key_file),
        "open /none/c.pem: no such file or directory"
    );
    assert_eq!(
        refused(&clients.cert_file, &peers.key_file),
        "tls: private key does not match public key"
    );
    assert_eq!(
        refused(&clients.key_file, &clients.key_file),
        "tls: failed to find any PEM data in certificate input"
    );
    assert_eq!(
        refused(&clients.cert_file, &clients.cert_file),
        "tls: failed to find any PEM data in key input"
    );
    assert!(
        read_cas(&clients.key_file)
            .unwrap_err()
            .ends_with("there is no CA in the file")
    );
    let why = read_revoked(&clients.cert_file).unwrap_err();
    assert!(why.contains("x509: malformed crl"), "{why}");
}

#[test]
fn a_pair_of_sockets_passes_on_all_bytes_in_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = made(folder.path());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        config.tls.newest = version;
        let (server, client) = sides(&config);
        let (mut near, mut far) = pipe(1_000);
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let expected = sent.clone();
        let reader = std::thread::spawn(move || {
            let connection = block_on(shake(&mut far, server, None)).unwrap();
            let mut socket = TlsSocket::new(Box::new(far), connection);
            let mut read = Vec::new();
            let mut buffer = [0; 5_000];
            loop {
                let length = block_on(std::future::poll_fn(|cx| socket.poll_read(cx, &mut buffer))).unwrap();
                if length == 0 {
                    return read;
                }
                read.extend_from_slice(&buffer[..length]);
            }
        });
        let connection = block_on(shake(&mut near, client, None)).unwrap();
        let mut socket = TlsSocket::new(Box::new(near), connection);
        let mut left = &sent[..];
        while !left.is_empty() {
            let written = block_on(std::future::poll_fn(|cx| socket.poll_write(cx, left))).unwrap();
            left = &left[written..];
        }
        block_on(std::future::poll_fn(|cx| socket.poll_shutdown(cx))).unwrap();
        assert!(reader.join().unwrap() == expected, "{version:?}");
    }
}

#[test]
fn a_handshake_with_garbage_or_silence_fails() {
    let folder = tempfile::tempdir().unwrap();
    let config = made(folder.path());
    let (server, _) = sides(&config);
    let (mut near, mut far) = pipe(1_000);
    let mut cx = Context::from_waker(Waker::noop());
    let _ = near.poll_write(&mut cx, b"GET / HTTP/1.1\r\n\r\n");
    let failed = block_on(shake(&mut far, server, None)).unwrap_err();
    let why = "tls: first record does not look like a TLS handshake".to_owned();
    assert_eq!(failed, Failure::Refused(why));
    let (server, _) = sides(&config);
    let (near, mut far) = pipe(1_000);
    drop(near);
    assert_eq!(block_on(shake(&mut far, server, None)).unwrap_err(), Failure::Closed);
}
