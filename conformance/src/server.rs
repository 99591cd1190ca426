//! Starts and stops a server program on loopback, in a separate folder.
//!
//! Every program is treated alike: it gets etcd's flags, and `/health` shows when it serves. A dropped server is killed
//! and its folder removed, unless the test is failing: then the folder stays, with the log in it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use crate::{
    binaries::{Kind, Profile},
    children::{self, Registered},
    command, members, paths,
    setup::Security,
    trouble::{During, Trouble},
    tunnel::Tunnel,
    usage::{self, Usage},
    wait,
};

/// Starting, electing and publishing take about a second; a machine that builds at the same time needs more.
pub const HEALTH_LIMIT: Duration = Duration::from_secs(60);
const HEALTH_STEP: Duration = Duration::from_millis(10);
const ASK_LIMIT: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The placeholder for the data directory in a wrapper command: its name is known only when the server is started.
pub(crate) const DATA_DIR: &str = "{data-dir}";
/// The first of the ports that are tried; all are below the range that the system uses for outgoing connections.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
/// Another process may take a free port before the server binds it; then the server is started again on other ports.
const START_TRIES: u32 = 5;
const LOG_TAIL: usize = 4000;
/// Timing of clusters: slow enough that a busy machine rarely elects again, and fast enough that leases of one second
/// exist.
const MEMBERS_TIMES: [&str; 2] = ["--heartbeat-interval=60", "--election-timeout=600"];

/// A server about to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    flags: Vec<String>,
    /// A command before the program on the command line; it must become the program, as `strace -D` does.
    wrapper: Vec<OsString>,
    /// Its address for clients, if it was chosen.
    client: Option<SocketAddr>,
    /// Its address for peers, if the addresses of all members were chosen together.
    peer: Option<SocketAddr>,
    /// How many members of its kind are started together, itself included.
    members: usize,
    /// Whether its flags are all that it gets.
    is_alone: bool,
    environment: Vec<(String, String)>,
    security: Option<&'static Security>,
}

/// A server process and its folder.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    home: PathBuf,
    client: SocketAddr,
    /// Where it listens for clients: behind the tunnel, if there is one.
    listening: SocketAddr,
    tunnel: Option<Tunnel>,
    peer: SocketAddr,
    child: Option<Child>,
    /// Registered as long as the child runs.
    registered: Option<Registered>,
    /// The other members of its cluster, which run as long as it exists.
    companions: Vec<Self>,
}

impl Launch {
    /// One of the compared servers, in this crate's profile: tests use the dev profile, the report uses release.
    ///
    /// # Errors
    /// If its program cannot be downloaded or built.
    pub fn of(kind: Kind) -> Result<Self, Trouble> {
        let profile = if cfg!(debug_assertions) {
            Profile::Dev
        } else {
            Profile::Release
        };
        Ok(Self::program(kind.name(), kind.program(profile)?))
    }

    /// Any server program that takes etcd's flags.
    pub fn program(name: impl Into<String>, program: PathBuf) -> Self {
        Self {
            name: name.into(),
            program,
            flags: Vec::new(),
            wrapper: Vec::new(),
            client: None,
            peer: None,
            members: 1,
            is_alone: false,
            environment: Vec::new(),
            security: None,
        }
    }

    /// Secures it: its clients connect through a tunnel, as the user root.
    #[must_use]
    pub(crate) fn secured(mut self, security: &'static Security) -> Self {
        self.security = Some(security);
        self.flags.extend(security.flags());
        self
    }

    fn scheme(&self) -> &'static str {
        if self.security.is_some() { "https" } else { "http" }
    }

    /// Starts the program through another one that becomes it in the same process, as `strace -D ...` does.
    #[must_use]
    pub fn under(mut self, wrapper: Vec<OsString>) -> Self {
        self.wrapper = wrapper;
        self
    }

    /// Gives it no flags but those of this launch, and its folder as working directory: its data directory is `data`.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Serves clients at this address, instead of at a free one of loopback.
    #[must_use]
    pub fn client(mut self, address: SocketAddr) -> Self {
        self.client = Some(address);
        self
    }

    /// Its program.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.program
    }

    /// Adds a flag such as `--quota-backend-bytes=1000000`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Makes [`Launch::start`] start a cluster of this many servers. It returns the first, which has the others as
    /// companions.
    #[must_use]
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Makes it a member of a cluster: `members` has the name and the peer address of each, and `name` is one of them.
    #[must_use]
    pub fn member(mut self, name: &str, members: &[(&str, SocketAddr)]) -> Self {
        let scheme = self.scheme();
        let all = members.iter().map(|(name, peer)| format!("{name}={scheme}://{peer}"));
        let all: Vec<String> = all.collect();
        let own = members.iter().find(|(member, _)| *member == name);
        self.peer = own.map(|(_, peer)| *peer);
        self.flag(format!("--name={name}"))
            .flag(format!("--initial-cluster={}", all.join(",")))
    }

    /// Makes it listen for peers at this address, while its peers connect to the one of [`Launch::member`].
    #[must_use]
    pub fn peers_at(self, address: SocketAddr) -> Self {
        self.flag(format!("--listen-peer-urls=http://{address}"))
    }

    /// Starts it on an empty data directory and waits until it is healthy.
    ///
    /// # Errors
    /// If it does not become healthy; the message has the end of its log.
    pub fn start(self) -> Result<Server, Trouble> {
        let mut tries = 1;
        loop {
            let (mut server, companions) = self.spawn_all()?;
            server.companions = companions;
            let mut companions = server.companions.iter_mut();
            let healthy = companions.try_for_each(|server| server.wait_healthy(HEALTH_LIMIT, HEALTH_STEP));
            match healthy.and_then(|()| server.wait_healthy(HEALTH_LIMIT, HEALTH_STEP)) {
                Ok(()) => {
                    if server.tunnel.is_some() {
                        Security::turn_on(&server)?;
                    }
                    return Ok(server);
                }
                Err(trouble) if tries == START_TRIES || !trouble.to_string().contains("address already in use") => {
                    return Err(trouble);
                }
                Err(_) => tries += 1,
            }
        }
    }

    /// Starts it, and its companions, without waiting.
    fn spawn_all(&self) -> Result<(Server, Vec<Server>), Trouble> {
        if self.members == 1 {
            return Ok((self.clone().spawn()?, Vec::new()));
        }
        let launch = MEMBERS_TIMES.into_iter().fold(self.clone(), Self::flag);
        let members = members::founders(self.scheme(), self.members)?;
        let spawned = members
            .iter()
            .map(|(name, _)| launch.clone().member(name, &members).spawn());
        let mut spawned = spawned.collect::<Result<Vec<Server>, Trouble>>()?.into_iter();
        let first = spawned
            .next()
            .ok_or_else(|| Trouble::new("a cluster without members"))?;
        Ok((first, spawned.collect()))
    }

    /// Starts it on an empty data directory without waiting.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(self) -> Result<Server, Trouble> {
        let home = paths::fresh(&self.name)?;
        let listening = self.client.map_or_else(free_address, Ok)?;
        let tunnel = self
            .security
            .map(|security| Tunnel::before(listening, &security.root))
            .transpose()?;
        let peer = self.peer.map_or_else(free_address, Ok)?;
        let mut server = Server {
            launch: self,
            home,
            client: tunnel.as_ref().map_or(listening, Tunnel::address),
            listening,
            tunnel,
            peer,
            child: None,
            registered: None,
            companions: Vec::new(),
        };
        server.spawn()?;
        Ok(server)
    }
}

impl Server {
    /// Starts the stopped process again on the same folder and ports, and waits until it is healthy.
    ///
    /// # Errors
    /// If it does not become healthy.
    pub fn restart(&mut self) -> Result<(), Trouble> {
        self.spawn()?;
        self.wait_healthy(HEALTH_LIMIT, HEALTH_STEP)
    }

    /// Adds a flag for the next start. If a flag is given twice, its last value counts.
    pub fn add_flag(&mut self, flag: impl Into<String>) {
        self.launch.flags.push(flag.into());
    }

    /// Removes the data directory of the stopped server.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn wipe(&self) -> Result<(), Trouble> {
        fs::remove_dir_all(self.data_dir()).during(format_args!("removing {}", self.data_dir().display()))
    }

    /// Starts the program itself next time, without its wrapper.
    pub fn unwrap_program(&mut self) {
        self.launch.wrapper.clear();
    }

    /// Starts the stopped process again without waiting.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(&mut self) -> Result<(), Trouble> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .during(format_args!("opening {}", self.log_path().display()))?;
        let errors = log.try_clone().during("sharing the log")?;
        let data_dir = self.data_dir().to_string_lossy().into_owned();
        let wrapper = self
            .launch
            .wrapper
            .iter()
            .map(|word| word.to_string_lossy().replace(DATA_DIR, &data_dir));
        let mut line = wrapper;
        let mut command = match line.next() {
            Some(wrapper) => command::untouched(wrapper),
            None => command::untouched(&self.launch.program),
        };
        if !self.launch.wrapper.is_empty() {
            command.args(line).arg(&self.launch.program);
        }
        if self.launch.is_alone {
            command.current_dir(&self.home);
        } else {
            self.place(&mut command);
        }
        let environment = self.launch.environment.iter().cloned();
        command
            .args(&self.launch.flags)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let (child, registered) = children::spawn(&mut command, Some(&self.home))
            .during(format_args!("starting {}", self.launch.program.display()))?;
        (self.child, self.registered) = (Some(child), Some(registered));
        Ok(())
    }

    /// The flags for its directory and its addresses.
    fn place(&self, command: &mut Command) {
        let scheme = self.launch.scheme();
        let client = format!("http://{}", self.client);
        let [listening, peer] = [self.listening, self.peer].map(|address| format!("{scheme}://{address}"));
        command
            .args(["--name", "judged", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen-client-urls", &listening, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("judged={peer}")]);
    }

    /// Waits until `/health` succeeds.
    ///
    /// # Errors
    /// If it ends instead, or the limit passes; the message has the end of its log.
    pub fn wait_healthy(&mut self, limit: Duration, step: Duration) -> Result<(), Trouble> {
        let healthy = wait::until(limit, step, || match self.exited() {
            Some(status) => Some(Err(format!("ended ({status}) before it was healthy"))),
            None => self.is_healthy().then_some(Ok(())),
        });
        let result = healthy.unwrap_or_else(|| Err(format!("was not healthy within {limit:?}")));
        result.map_err(|what| self.complaint(&what))
    }

    /// Whether `/health` succeeds at this moment.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.http("/health")
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.contains("\"health\":\"true\""))
    }

    /// The whole HTTP/1.1 answer to a GET.
    ///
    /// # Errors
    /// If the connection fails or no answer comes.
    pub fn http(&self, path: &str) -> io::Result<String> {
        self.ask(&format!("GET {path}"), "")
    }

    /// The whole HTTP/1.1 answer to a POST.
    ///
    /// # Errors
    /// If the connection fails or no answer comes.
    pub fn post(&self, path: &str, body: &str) -> io::Result<String> {
        self.ask(&format!("POST {path}"), body)
    }

    fn ask(&self, request: &str, body: &str) -> io::Result<String> {
        ask_at(self.client, request, body)
    }

    /// Kills it by SIGKILL.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        let mut child = self
            .child
            .take()
            .ok_or_else(|| Trouble::new("there is no process to kill"))?;
        child.kill().during("killing the server")?;
        let reaped = child.wait().during("reaping the server");
        self.registered = None;
        reaped.map(drop)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// If it does not end in time; it is killed then.
    pub fn terminate(&mut self) -> Result<ExitStatus, Trouble> {
        command::signal(self.pid()?, "TERM")?;
        match wait::until(STOP_LIMIT, HEALTH_STEP, || self.exited()) {
            Some(status) => {
                (self.child, self.registered) = (None, None);
                Ok(status)
            }
            None => {
                self.kill()?;
                Err(self.complaint(&format!("did not end within {STOP_LIMIT:?} of SIGTERM")))
            }
        }
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Its resource usage so far.
    ///
    /// # Errors
    /// If it is not running.
    pub fn usage(&self) -> Result<Usage, Trouble> {
        usage::of(self.pid()?)
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pid(&self) -> Result<u32, Trouble> {
        self.child
            .as_ref()
            .map(Child::id)
            .ok_or_else(|| Trouble::new(format!("{} is not running", self.launch.name)))
    }

    /// The name of its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its address for clients: host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Its address for peers: host and port.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// The other members of its cluster.
    #[must_use]
    pub fn companions(&self) -> &[Self] {
        &self.companions
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Its folder, which is removed with it; a test may keep files there.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its whole log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("server.log")
    }

    fn complaint(&self, what: &str) -> Trouble {
        let log = self.log();
        let mut from = log.len().saturating_sub(LOG_TAIL);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        Trouble::new(format!(
            "{} {what}; the end of {}:\n{}",
            self.launch.name,
            self.log_path().display(),
            &log[from..]
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
        if !thread::panicking() {
            remove(&self.home);
        }
    }
}

/// A folder that cannot be removed does no harm.
fn remove(home: &Path) {
    let _ = fs::remove_dir_all(home);
}

/// An address that is free now; each call of this process tries another.
///
/// # Errors
/// If there is none.
pub fn free_address() -> Result<SocketAddr, Trouble> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time have adjacent ids; they start at distant ports.
    let start = (std::process::id().wrapping_mul(1_009) % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = FIRST_PORT + (start + step) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Trouble::new("no port is free on loopback"))
}

/// The whole HTTP/1.1 answer to a request for `request`, a method and a path.
///
/// # Errors
/// If the connection fails or no answer comes.
pub fn ask_at(address: SocketAddr, request: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_LIMIT)?;
    stream.set_read_timeout(Some(ASK_LIMIT))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_killed_and_started_again() {
        let mut server = Launch::of(Kind::Etcd).unwrap().start().unwrap();
        assert!(server.http("/version").unwrap().contains("etcdserver"));
        assert!(server.usage().unwrap().resident_kib > 1000);
        let first = server.pid().unwrap();
        server.kill().unwrap();
        assert!(server.http("/health").is_err());
        server.restart().unwrap();
        assert_ne!(server.pid().unwrap(), first);
        server.terminate().unwrap();
        assert!(server.exited().is_none() && server.pid().is_err());
    }

    #[test]
    fn a_server_that_does_not_start_shows_its_log() {
        let trouble = Launch::of(Kind::Etcd)
            .unwrap()
            .flag("--no-such-flag")
            .start()
            .unwrap_err()
            .to_string();
        assert!(
            trouble.contains("before it was healthy") && trouble.contains("no-such-flag"),
            "{trouble}"
        );
    }
}
