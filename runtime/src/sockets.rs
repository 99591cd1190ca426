//! The seam's sockets: one type each for addresses, connected sockets and listeners, for TCP and Unix sockets alike.
//!
//! All of them are non-blocking. A runtime crate polls their descriptors and need not distinguish the kinds.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use quoin_core::limits::{TCP_KEEPALIVE_IDLE_SECONDS, TCP_KEEPALIVE_INTERVAL_SECONDS, TCP_KEEPALIVE_PROBES};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// The address of a listener, or of a connection's other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The IP address and port, if this is a TCP address.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The URL for a client on this machine, with or without TLS: of the loopback address, if the server listens on every
    /// address.
    #[must_use]
    pub fn endpoint(&self, is_tls: bool) -> String {
        let tls = if is_tls { "s" } else { "" };
        match self {
            Self::Tcp(address) => {
                let mut address = *address;
                match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                    IpAddr::V4(_) | IpAddr::V6(_) => {}
                }
                format!("http{tls}://{address}")
            }
            Self::Unix(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                format!("unix{tls}://{}", path.display())
            }
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Reads into `buffer`; 0 means the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, or the kernel's error.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    /// Writes from `bytes`; returns how many were taken.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel takes none now, or the kernel's error.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Ends the writing side.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// The address of the other end; `None` on a Unix socket.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Begins a connection. Once a write no longer blocks, the connection is made or has failed.
    pub(crate) fn begin(address: &Address) -> io::Result<Self> {
        let (stream, begun) = match address {
            Address::Tcp(address) => {
                let family = if address.is_ipv4() {
                    AddressFamily::INET
                } else {
                    AddressFamily::INET6
                };
                let stream = Self::Tcp(socket(family, SocketType::STREAM, None)?.into());
                stream.set_nonblocking()?;
                let begun = connect(&stream, address);
                (stream, begun)
            }
            Address::Unix(path) => {
                let stream = Self::Unix(socket(AddressFamily::UNIX, SocketType::STREAM, None)?.into());
                stream.set_nonblocking()?;
                let begun = connect(&stream, &SocketAddrUnix::new(path.as_path())?);
                (stream, begun)
            }
        };
        stream.tune()?;
        match begun {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(stream),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the options of a connection. Nagle's delay is off, because answers are gathered into one write already.
    /// Keepalive probes find TCP peers that have vanished; on Unix sockets HTTP/2's pings do.
    pub(crate) fn tune(&self) -> io::Result<()> {
        if let Self::Tcp(stream) = self {
            set_tcp_nodelay(stream, true)?;
            set_socket_keepalive(stream, true)?;
            set_tcp_keepidle(stream, Duration::from_secs(TCP_KEEPALIVE_IDLE_SECONDS))?;
            set_tcp_keepintvl(stream, Duration::from_secs(TCP_KEEPALIVE_INTERVAL_SECONDS))?;
            set_tcp_keepcnt(stream, TCP_KEEPALIVE_PROBES)?;
        }
        Ok(())
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A bound socket that listens: clients can connect and wait.
#[derive(Debug)]
pub enum Acceptor {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl Acceptor {
    /// The next connection.
    ///
    /// # Errors
    /// `WouldBlock` if none waits, or the kernel's error.
    pub fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
        };
        stream.set_nonblocking()?;
        Ok(stream)
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_nodelay};

    use super::*;

    #[test]
    fn accepted_connections_have_keepalive_and_no_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let connection = Acceptor::Tcp(listener).accept().unwrap();
        connection.tune().unwrap();
        assert!(socket_keepalive(&connection).unwrap() && tcp_nodelay(&connection).unwrap());
        let times = (tcp_keepidle(&connection).unwrap(), tcp_keepintvl(&connection).unwrap());
        assert_eq!(times, (Duration::from_secs(30), Duration::from_secs(15)));
        assert_eq!(tcp_keepcnt(&connection).unwrap(), 9);
    }
}
