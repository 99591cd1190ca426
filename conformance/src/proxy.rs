//! A TCP proxy before a member's port for peers. It records what passes, and can refuse requests or hold back the bytes
//! of snapshots.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    server::free_address,
    trouble::{During as _, Trouble},
    wait,
};

/// How often a thread that waits for bytes looks whether the proxy ends.
const LOOK: Duration = Duration::from_millis(50);
const ACCEPT_STEP: Duration = Duration::from_millis(2);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes recorded of each direction of a connection.
const RECORD_BYTES: usize = 64 << 20;
/// The beginning of a request with a snapshot.
const SNAPSHOT: &[u8] = b"POST /raft/snapshot ";

/// What passed through one connection.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Bytes for the member.
    pub requests: Vec<u8>,
    /// Bytes from the member.
    pub responses: Vec<u8>,
}

/// The snapshot whose request was the last to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of snapshots that have begun, this one included.
    pub begun: usize,
    /// Bytes of it that were passed on, with the head of its request.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Rules {
    refused: Option<&'static str>,
    held_at: Option<u64>,
    bytes_per_second: Option<u64>,
}

#[derive(Debug)]
struct Link {
    client: TcpStream,
    member: TcpStream,
    passed: Mutex<Passed>,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct ProxyState {
    target: SocketAddr,
    rules: Mutex<Rules>,
    /// Signalled when the rules change or a connection ends.
    changed: Condvar,
    progress: Mutex<Progress>,
    links: Mutex<Vec<Arc<Link>>>,
    is_ending: AtomicBool,
}

/// A running proxy. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<ProxyState>,
}

impl Proxy {
    /// Starts a proxy on a free port. The target need not listen yet.
    ///
    /// # Errors
    /// If no port is free.
    pub fn before(target: SocketAddr) -> Result<Self, Trouble> {
        let address = free_address()?;
        let listener = TcpListener::bind(address).during("listening as a proxy")?;
        listener.set_nonblocking(true).during("listening as a proxy")?;
        let shared = Arc::new(ProxyState {
            target,
            rules: Mutex::default(),
            changed: Condvar::new(),
            progress: Mutex::default(),
            links: Mutex::default(),
            is_ending: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts connections whose first request contains these words, now and from now on; `None` lets all pass.
    pub fn refuse(&self, words: Option<&'static str>) {
        lock(&self.shared.rules).refused = words;
        if let Some(words) = words {
            let links = lock(&self.shared.links);
            links
                .iter()
                .filter(|link| link.began_with(words))
                .for_each(|link| link.end());
        }
    }

    /// Passes on this many bytes of each snapshot, and holds back the others until the number is changed.
    pub fn hold_snapshots_at(&self, bytes: Option<u64>) {
        lock(&self.shared.rules).held_at = bytes;
        self.shared.changed.notify_all();
    }

    /// Passes on this many bytes of snapshots a second at most.
    pub fn pace_snapshots(&self, bytes_per_second: Option<u64>) {
        lock(&self.shared.rules).bytes_per_second = bytes_per_second;
    }

    /// How far the last snapshot is.
    #[must_use]
    pub fn snapshot(&self) -> Progress {
        *lock(&self.shared.progress)
    }

    /// What passed through each connection so far.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        let links = lock(&self.shared.links);
        links.iter().map(|link| lock(&link.passed).clone()).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        lock(&self.shared.links).iter().for_each(|link| link.end());
        self.shared.changed.notify_all();
    }
}

impl ProxyState {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.is_ending.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                wait::pause(ACCEPT_STEP);
                continue;
            };
            // A member that does not listen is like a proxy that cuts the connection.
            let _cut = self.connect(client);
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        let member = TcpStream::connect_timeout(&self.target, CONNECT_LIMIT)?;
        for socket in [&client, &member] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(LOOK))?;
        }
        let link = Arc::new(Link {
            client,
            member,
            passed: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        lock(&self.links).push(Arc::clone(&link));
        let (shared, up, down) = (Arc::clone(self), Arc::clone(&link), link);
        thread::spawn(move || {
            let _ended = shared.pass_requests(&up);
            up.end();
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let _ended = down.pass_responses();
            down.end();
            shared.changed.notify_all();
        });
        Ok(())
    }

    fn pass_requests(&self, link: &Link) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        // The bytes of a snapshot passed so far, while this connection sends one.
        let mut snapshot = None;
        while let Some(length) = link.read(&link.client, &mut piece)? {
            let piece = &piece[..length];
            link.record(|passed| &mut passed.requests, piece);
            if piece.starts_with(SNAPSHOT) {
                snapshot = Some(0);
                let mut progress = lock(&self.progress);
                *progress = Progress {
                    begun: progress.begun + 1,
                    bytes: 0,
                };
            } else if piece.starts_with(b"POST /") || piece.starts_with(b"GET /") {
                snapshot = None;
            }
            let refused = lock(&self.rules).refused;
            if refused.is_some_and(|words| link.began_with(words)) {
                return Ok(());
            }
            match &mut snapshot {
                Some(sent) => self.pass_snapshot(link, piece, sent)?,
                None => (&link.member).write_all(piece)?,
            }
        }
        Ok(())
    }

    fn pass_snapshot(&self, link: &Link, mut piece: &[u8], sent: &mut u64) -> io::Result<()> {
        while !piece.is_empty() {
            let Some(room) = self.room(link, *sent) else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            let (now, later) = piece.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(piece.len()));
            (&link.member).write_all(now)?;
            piece = later;
            *sent += now.len() as u64;
            lock(&self.progress).bytes = *sent;
            let pace = lock(&self.rules).bytes_per_second;
            if let Some(bytes_per_second) = pace {
                wait::pause(Duration::from_secs_f64(now.len() as f64 / bytes_per_second as f64));
            }
        }
        Ok(())
    }

    /// Waits until more of a snapshot may pass, and returns how many bytes; `None` if the connection has ended.
    fn room(&self, link: &Link, sent: u64) -> Option<u64> {
        let mut rules = lock(&self.rules);
        loop {
            if link.is_over.load(Ordering::Relaxed) {
                return None;
            }
            let room = rules.held_at.map_or(u64::MAX, |most| most.saturating_sub(sent));
            if room > 0 {
                return Some(room);
            }
            let waited = self.changed.wait_timeout(rules, LOOK);
            rules = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Link {
    fn pass_responses(&self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while let Some(length) = self.read(&self.member, &mut piece)? {
            self.record(|passed| &mut passed.responses, &piece[..length]);
            (&self.client).write_all(&piece[..length])?;
        }
        Ok(())
    }

    /// The next bytes of a socket; `None` once the connection has ended.
    fn read(&self, mut socket: &TcpStream, piece: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match socket.read(piece) {
                Ok(0) => return Ok(None),
                Ok(length) => return Ok(Some(length)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn record(&self, side: impl Fn(&mut Passed) -> &mut Vec<u8>, piece: &[u8]) {
        let mut passed = lock(&self.passed);
        let side = side(&mut passed);
        let room = RECORD_BYTES.saturating_sub(side.len());
        side.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn began_with(&self, words: &str) -> bool {
        let passed = lock(&self.passed);
        let line = passed.requests.split(|byte| *byte == b'\r').next().unwrap_or_default();
        line.windows(words.len()).any(|part| part == words.as_bytes())
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        for socket in [&self.client, &self.member] {
            // A socket that is not connected any more is closed, too.
            let _closed = socket.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A connection through the proxy, with the end that the member has.
    fn connected(proxy: &Proxy, member: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.address()).unwrap();
        let (member, _) = member.accept().unwrap();
        for socket in [&client, &member] {
            socket.set_read_timeout(Some(LIMIT)).unwrap();
        }
        (client, member)
    }

    #[test]
    fn bytes_pass_and_are_recorded_and_a_snapshot_stops_where_it_is_held() {
        let listener = TcpListener::bind(free_address().unwrap()).unwrap();
        let proxy = Proxy::before(listener.local_addr().unwrap()).unwrap();
        proxy.hold_snapshots_at(Some(30));
        let (mut client, mut member) = connected(&proxy, &listener);
        let request = b"POST /raft/snapshot HTTP/1.1\r\n\r\n0123456789";
        client.write_all(request).unwrap();
        let mut begun = [0; 30];
        member.read_exact(&mut begun).unwrap();
        assert_eq!(begun, request[..30]);
        // The proxy counts bytes once it has written them.
        let counted = || (proxy.snapshot() == Progress { begun: 1, bytes: 30 }).then_some(());
        assert!(wait::until(LIMIT, LOOK, counted).is_some(), "{:?}", proxy.snapshot());
        member.set_read_timeout(Some(LOOK)).unwrap();
        assert!(member.read(&mut begun).is_err(), "the rest is held back");
        member.set_read_timeout(Some(LIMIT)).unwrap();
        proxy.hold_snapshots_at(None);
        let mut rest = vec![0; request.len() - 30];
        member.read_exact(&mut rest).unwrap();
        assert_eq!(rest, request[30..]);
        member.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        client.read_exact(&mut begun[..27]).unwrap();
        let passed = &proxy.passed()[0];
        assert_eq!(passed.requests, request);
        assert_eq!(passed.responses, b"HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn a_refused_request_is_cut() {
        let listener = TcpListener::bind(free_address().unwrap()).unwrap();
        let proxy = Proxy::before(listener.local_addr().unwrap()).unwrap();
        let (mut old, mut member) = connected(&proxy, &listener);
        old.write_all(b"GET /raft/stream/message/1 HTTP/1.1\r\n\r\n").unwrap();
        member.read_exact(&mut [0; 10]).unwrap();
        proxy.refuse(Some("/raft/stream"));
        let (mut new, _member) = connected(&proxy, &listener);
        new.write_all(b"GET /raft/stream/message/1 HTTP/1.1\r\n\r\n").unwrap();
        let ended = |socket: &mut TcpStream| socket.read(&mut [0]).map_or(true, |length| length == 0);
        assert!(ended(&mut old) && ended(&mut new));
    }
}
