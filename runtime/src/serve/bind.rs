//! Binds a URL's TCP port or Unix socket. From then on clients can connect, and wait until they are accepted.
//!
//! A Unix socket's file outlives its process. A socket without a listening process is removed and bound again; a socket
//! that is in use, and any other file, is left alone and refused.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use quoin_core::config::Url;
use quoin_core::limits::{LISTEN_BACKLOG_CONNECTIONS, UNIX_PATH_BYTES};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::Endpoint;
use crate::sockets::{Acceptor, Address, Stream};

/// A listener whose connections are not accepted yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) endpoint: Endpoint,
    pub(crate) url: Url,
    pub(crate) address: Address,
    pub(crate) acceptor: Acceptor,
    /// The file of a Unix socket.
    pub(crate) file: Option<SocketFile>,
}

/// The file of a bound Unix socket. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Binds a URL. With `shares_port`, other processes may bind the same TCP port, if they allow it too.
pub(crate) fn bind(endpoint: Endpoint, url: &Url, shares_port: bool) -> Result<Bound, String> {
    let refuse = |why: String| format!("listen {url}: {why}");
    let bound = match url.socket_path() {
        Some(path) => bind_unix(Path::new(&path)).map_err(refuse)?,
        None => bind_tcp(url, shares_port).map_err(|error| refuse(error.to_string()))?,
    };
    let (acceptor, address, file) = bound;
    let prepared = acceptor.set_nonblocking();
    // The standard library sets a short backlog; a second call lengthens it.
    let prepared = prepared.and_then(|()| Ok(net::listen(&acceptor, LISTEN_BACKLOG_CONNECTIONS)?));
    prepared.map_err(|error| refuse(error.to_string()))?;
    Ok(Bound {
        endpoint,
        url: url.clone(),
        address,
        acceptor,
        file,
    })
}

type Opened = (Acceptor, Address, Option<SocketFile>);

fn bind_tcp(url: &Url, shares_port: bool) -> io::Result<Opened> {
    let (host, port) = (url.host().unwrap_or_default(), url.port().unwrap_or_default());
    // An empty host means every address, as in Go.
    let host = if host.is_empty() { "::" } else { host };
    // A host such as `localhost` may have addresses of both families. As in etcd, IPv4 is preferred.
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let listener = if shares_port {
        bind_first_shared(&addresses)?
    } else {
        TcpListener::bind(&addresses[..])?
    };
    let address = listener.local_addr()?;
    Ok((Acceptor::Tcp(listener), Address::Tcp(address), None))
}

/// A shared listener at the first of the addresses that can be bound.
fn bind_first_shared(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match bind_shared(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A listener with `SO_REUSEPORT`, which the standard library has no way to set before it binds.
fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, LISTEN_BACKLOG_CONNECTIONS)?;
    Ok(TcpListener::from(socket))
}

fn bind_unix(path: &Path) -> Result<Opened, String> {
    let length = path.as_os_str().len();
    if length > UNIX_PATH_BYTES {
        return Err(format!(
            "the path has {length} bytes; a Unix socket's path has at most {UNIX_PATH_BYTES}"
        ));
    }
    remove_stale(path)?;
    let text = |error: io::Error| error.to_string();
    let listener = UnixListener::bind(path).map_err(text)?;
    let file = SocketFile::new(path).map_err(text)?;
    Ok((Acceptor::Unix(listener), Address::Unix(path.to_owned()), Some(file)))
}

/// Removes the socket of a process that has ended; the error says why the file must stay.
fn remove_stale(path: &Path) -> Result<(), String> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !found.file_type().is_socket() {
        return Err("the file is not a socket, and is not removed".to_owned());
    }
    match Stream::begin(&Address::Unix(path.to_owned())) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|error| format!("cannot remove the socket of a process that has ended: {error}")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
        // A full backlog also shows that a process listens.
        Ok(_) | Err(_) => Err("address already in use: a process listens on this socket".to_owned()),
    }
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        Ok(Self {
            path: std::path::absolute(path)?,
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: std::fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if self.path.symlink_metadata().is_ok_and(is_ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn bind_text(text: &str) -> Result<Bound, String> {
        bind(Endpoint::Client, &Url::parse(text).unwrap(), false)
    }

    #[test]
    fn a_burst_of_connections_waits_to_be_accepted() {
        let bound = bind_text("http://127.0.0.1:0").unwrap();
        let address = bound.address.tcp().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let connections: Vec<TcpStream> = (0..200).map(|at| connect(at).unwrap()).collect();
        assert_eq!(connections.len(), 200);
    }

    #[test]
    fn a_port_is_shared_by_those_that_allow_it() {
        let first = bind(Endpoint::Client, &Url::parse("http://127.0.0.1:0").unwrap(), true).unwrap();
        let port = first.address.tcp().unwrap().port();
        let url = Url::parse(&format!("http://localhost:{port}")).unwrap();
        let second = bind(Endpoint::Client, &url, true).unwrap();
        assert_eq!(second.address.tcp().unwrap().port(), port);
        assert!(bind(Endpoint::Client, &url, false).is_err());
    }

    #[test]
    fn a_burst_of_connections_waits_at_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _bound = bind_text(&format!("unix://{}", path.display())).unwrap();
        let connections: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(connections.len(), 200);
    }

    #[test]
    fn a_socket_is_removed_with_its_listener_and_when_its_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        let url = format!("unix://{}", path.display()).replace(' ', "%20");
        drop(bind_text(&url).unwrap());
        assert!(!path.exists(), "the file is removed with the listener");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener of another kind leaves its file");
        let bound = bind_text(&url).unwrap();
        // The file of this listener is replaced by hand; then this listener must not remove it.
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists(), "the other socket stays");
    }

    #[test]
    fn files_that_are_no_free_socket_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| {
            let url = format!("unix://{}", folder.path().join(name).display());
            let why = bind_text(&url).unwrap_err();
            why.strip_prefix(&format!("listen {url}: ")).unwrap().to_owned()
        };
        std::fs::write(folder.path().join("file"), "kept").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        for name in ["file", "folder"] {
            assert_eq!(refused(name), "the file is not a socket, and is not removed");
        }
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"kept");
        let living = UnixListener::bind(folder.path().join("living")).unwrap();
        assert_eq!(
            refused("living"),
            "address already in use: a process listens on this socket"
        );
        living.set_nonblocking(true).unwrap();
        let (_connection, _) = living.accept().expect("the check has connected");
        assert!(refused("none/s").starts_with("No such file or directory"));
        let long = "x".repeat(UNIX_PATH_BYTES);
        let length = folder.path().join(&long).as_os_str().len();
        assert_eq!(
            refused(&long),
            format!("the path has {length} bytes; a Unix socket's path has at most {UNIX_PATH_BYTES}")
        );
    }
}
