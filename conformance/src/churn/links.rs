//! Links between the members of a cluster: all traffic of peers passes through this process, which can hold or cut it
//! in each direction.
//!
//! A member advertises the address of its link and listens on another one. A member dials the same address for every
//! message, so the link finds out which member dials: it looks up the process that owns the other end of the
//! connection. Held bytes wait in the sockets' buffers and arrive later, like those of a lossy network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::trouble::{During as _, Trouble};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How often a held direction, and the end of all, are looked for.
const STEP: Duration = Duration::from_millis(10);
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections that one member's link has at a time. More wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 500;

/// What happens to bytes from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They arrive.
    Open,
    /// They wait.
    Held,
    /// They are lost, and the connection with them.
    Cut,
}

impl Way {
    const ALL: [Self; 3] = [Self::Open, Self::Held, Self::Cut];
}

/// The links of one cluster. They end when this is dropped.
pub(crate) struct Links {
    state: Arc<LinkState>,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

struct LinkState {
    /// The process of each member; 0 while there is none.
    pids: Vec<AtomicU32>,
    /// A [`Way`] for each sender and receiver.
    ways: Vec<AtomicU8>,
    stop: AtomicBool,
}

/// The ends of a connection through a link.
struct Ends {
    /// The member that dialed, once that was looked up.
    dialer: OnceLock<Option<usize>>,
    /// The address from which it dialed, and the address of the link.
    addresses: (SocketAddr, SocketAddr),
    /// The member of the link.
    member: usize,
}

impl Links {
    /// Links to members that listen at these addresses.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) fn to(members: Vec<SocketAddr>) -> Result<Self, Trouble> {
        let count = members.len();
        let state = Arc::new(LinkState {
            pids: (0..count).map(|_| AtomicU32::new(0)).collect(),
            ways: (0..count * count).map(|_| AtomicU8::new(0)).collect(),
            stop: AtomicBool::new(false),
        });
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for member in members {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("listening for peers")?;
            listener.set_nonblocking(true).during("listening for peers")?;
            addresses.push(listener.local_addr().during("listening for peers")?);
            listeners.push((listener, member));
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().during("a runtime for the links")?;
        let shared = state.clone();
        let thread = thread::spawn(move || runtime.block_on(run(shared, listeners)));
        Ok(Self {
            state,
            addresses,
            thread: Some(thread),
        })
    }

    /// The address that a member advertises.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.addresses[member]
    }

    /// Names the process of a member.
    pub(crate) fn set_process(&self, member: usize, pid: u32) {
        self.state.pids[member].store(pid, Ordering::Relaxed);
    }

    /// Sets what happens to bytes from one member to another.
    pub(crate) fn set(&self, from: usize, to: usize, way: Way) {
        let place = from * self.addresses.len() + to;
        self.state.ways[place].store(way as u8, Ordering::Relaxed);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl LinkState {
    fn way(&self, from: usize, to: usize) -> Way {
        let place = from * self.pids.len() + to;
        Way::ALL[usize::from(self.ways[place].load(Ordering::Relaxed))]
    }

    /// What happens to the bytes of a connection. Those of a process that has ended are lost.
    fn way_of(&self, ends: &Ends, to_member: bool) -> Way {
        let count = self.pids.len();
        let is_open = |other| self.way(other, ends.member) == Way::Open && self.way(ends.member, other) == Way::Open;
        // The lookup takes milliseconds, and members dial often while others are down.
        if (0..count).all(is_open) {
            return Way::Open;
        }
        let (other, own) = ends.addresses;
        match *ends.dialer.get_or_init(|| self.dialer(other, own)) {
            Some(dialer) if to_member => self.way(dialer, ends.member),
            Some(dialer) => self.way(ends.member, dialer),
            None => Way::Cut,
        }
    }

    /// The member that owns the other end of a connection to `own`.
    fn dialer(&self, other: SocketAddr, own: SocketAddr) -> Option<usize> {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let (other, own) = (hexadecimal(other)?, hexadecimal(own)?);
        let inode = table.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_it = words.next()? == other && words.next()? == own;
            is_it.then(|| words.nth(6)).flatten()
        })?;
        let socket = format!("socket:[{inode}]");
        self.pids.iter().position(|pid| {
            let folder = format!("/proc/{}/fd", pid.load(Ordering::Relaxed));
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|target| target.as_os_str() == socket.as_str())
        })
    }
}

/// An address as the kernel's table of connections shows it.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_le_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

async fn run(state: Arc<LinkState>, listeners: Vec<(TcpListener, SocketAddr)>) {
    let mut links = JoinSet::new();
    for (member, (listener, target)) in listeners.into_iter().enumerate() {
        links.spawn(accept(state.clone(), member, listener, target));
    }
    while !state.stop.load(Ordering::Relaxed) {
        sleep(STEP).await;
    }
}

async fn accept(state: Arc<LinkState>, member: usize, listener: TcpListener, target: SocketAddr) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let Ok(own) = listener.local_addr() else { return };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((dialed, other)) = listener.accept().await else {
            sleep(STEP).await;
            continue;
        };
        let ends = Arc::new(Ends {
            dialer: OnceLock::new(),
            addresses: (other, own),
            member,
        });
        connections.spawn(connect(state.clone(), ends, dialed, target));
    }
}

/// Joins a connection of one member with a new one to another; both end when either does.
async fn connect(state: Arc<LinkState>, ends: Arc<Ends>, dialed: TcpStream, target: SocketAddr) {
    let Ok(Ok(dialing)) = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await else {
        return;
    };
    let (dialed, dialing) = (Arc::new(dialed), Arc::new(dialing));
    for stream in [&dialed, &dialing] {
        let _ = stream.set_nodelay(true);
    }
    let mut directions = JoinSet::new();
    directions.spawn(pump(
        state.clone(),
        (ends.clone(), true),
        dialed.clone(),
        dialing.clone(),
    ));
    directions.spawn(pump(state, (ends, false), dialing, dialed));
    directions.join_next().await;
}

/// Passes bytes on in one direction, as long as its way is open: to the member of the link, or to the one that dialed.
async fn pump(
    state: Arc<LinkState>,
    (ends, to_member): (Arc<Ends>, bool),
    source: Arc<TcpStream>,
    target: Arc<TcpStream>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while source.readable().await.is_ok() {
        let length = match source.try_read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        loop {
            match state.way_of(&ends, to_member) {
                Way::Open => break,
                Way::Held => sleep(STEP).await,
                Way::Cut => return,
            }
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            if target.writable().await.is_err() {
                return;
            }
            match target.try_write(rest) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(written) => rest = &rest[written..],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(100);

    /// A connection of member 0, which is this process, to member 1: both ends, and the links between.
    fn joined() -> (Links, std::net::TcpStream, std::net::TcpStream) {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (zero, one) = (listen(), listen());
        let members = [&zero, &one].map(|listener| listener.local_addr().expect("an address"));
        let links = Links::to(members.to_vec()).expect("links");
        links.set_process(0, std::process::id());
        let dialed = std::net::TcpStream::connect(links.address(1)).expect("a connection");
        let (accepted, _) = one.accept().expect("it is passed on");
        for stream in [&dialed, &accepted] {
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        }
        (links, dialed, accepted)
    }

    fn receives(stream: &mut std::net::TcpStream, limit: Duration) -> Option<u8> {
        stream.set_read_timeout(Some(limit)).expect("a limit");
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    #[test]
    fn a_held_direction_delivers_later_and_the_other_one_now() {
        let (links, mut zero, mut one) = joined();
        links.set(0, 1, Way::Held);
        zero.write_all(b"a").expect("it is buffered");
        one.write_all(b"b").expect("it is sent");
        assert_eq!(receives(&mut zero, LIMIT), Some(b'b'));
        assert_eq!(receives(&mut one, SHORT), None);
        links.set(0, 1, Way::Open);
        assert_eq!(receives(&mut one, LIMIT), Some(b'a'));
    }

    #[test]
    fn a_cut_direction_ends_the_connection() {
        let (links, mut zero, mut one) = joined();
        links.set(1, 0, Way::Cut);
        one.write_all(b"a").expect("it is sent");
        let mut rest = Vec::new();
        // The end may be a reset.
        let _ = zero.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }

    #[test]
    fn bytes_of_no_member_are_lost_while_a_way_is_closed() {
        let (links, mut stranger, _one) = joined();
        links.set_process(0, 0);
        links.set(0, 1, Way::Held);
        stranger.write_all(b"a").expect("it is buffered");
        assert!(!matches!(stranger.read(&mut [0]), Ok(1..)));
        assert_eq!(receives(&mut stranger, SHORT), None);
    }
}
