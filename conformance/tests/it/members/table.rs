//! A cluster of three, the members that join it, and what they and etcdctl print about it.

use std::{fmt::Write as _, fs, path::PathBuf, process::ExitStatus, time::Duration};

use quoin_conformance::{
    Kind, Launch, Server, Trouble, command, members,
    normalise::{self, Names},
    script,
    server::{HEALTH_LIMIT, free_address},
    wait,
};

use super::plain::{self, plain};

/// Long enough that a busy machine does not change the leader.
const TIMES: [&str; 2] = ["--heartbeat-interval=150", "--election-timeout=1500"];
const COMMAND_LIMIT: Duration = Duration::from_secs(40);
/// The members refuse changes until they have been connected for five seconds.
const SETTLED_LIMIT: Duration = Duration::from_secs(40);
/// Until members have learnt of a change, and a process has ended.
const LIMIT: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_millis(100);
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";

/// The cluster and its record.
pub(crate) struct Table {
    /// Who they are: `one`, which leads at first, `two` and `three`; then those that joined.
    members: Vec<(String, Server)>,
    kinds: [Kind; 3],
    etcdctl: PathBuf,
    names: Names,
    printed: String,
}

impl Table {
    /// Starts three members and makes the first the leader.
    pub(crate) fn start(kinds: [Kind; 3], etcdctl: PathBuf) -> Result<Self, Trouble> {
        let launches: Result<Vec<Launch>, Trouble> = kinds.into_iter().map(launch).collect();
        let servers = members::start_together(launches?)?;
        let names = ["one", "two", "three"].map(str::to_owned);
        let mut table = Self {
            members: names.into_iter().zip(servers).collect(),
            kinds,
            etcdctl,
            names: Names::default(),
            printed: String::new(),
        };
        table.names.members_there(3);
        for at in 0..3 {
            let (name, server) = &table.members[at];
            let (name, client, peer) = (name.clone(), server.address(), server.peer_address());
            let (status, _) = table.ask(&name, "endpoint status -w json")?;
            let found =
                |key| normalise::json_number(&status, key).ok_or_else(|| Trouble::new(format!("no {key}: {status}")));
            if at == 0 {
                table.names.number("cluster", found("cluster_id")?);
            }
            table.names.number(&name, found("member_id")?);
            let version = normalise::json_text(&status, "version").unwrap_or_default();
            table.names.text("<version>", version);
            table.address(&name, &client.to_string(), &peer.to_string());
        }
        table.make_leader("one")?;
        Ok(table)
    }

    fn address(&mut self, name: &str, client: &str, peer: &str) {
        self.names.text(&format!("<{name}-client>"), client);
        self.names.text(&format!("<{name}-peer>"), peer);
    }

    /// What was printed, with names for ids, addresses and other values of this run.
    pub(crate) fn printed(&self) -> &str {
        &self.printed
    }

    /// A remark in the record.
    pub(crate) fn say(&mut self, what: &str) {
        let gap = if self.printed.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.printed, "{gap}# {what}");
    }

    /// Runs etcdctl at a member and records what it prints.
    pub(crate) fn ctl(&mut self, at: &str, arguments: &str) -> Result<(), Trouble> {
        let (stdout, shown) = self.ask(at, arguments)?;
        self.names.learn(&stdout);
        self.record(at, arguments, &shown);
        Ok(())
    }

    /// As [`Self::ctl`], repeated while the members have not been connected long enough for a change.
    pub(crate) fn settled(&mut self, at: &str, arguments: &str) -> Result<(), Trouble> {
        self.until(at, arguments, SETTLED_LIMIT, |shown| !shown.contains(UNHEALTHY))
    }

    /// As [`Self::ctl`], repeated until it prints this.
    pub(crate) fn shows(&mut self, at: &str, arguments: &str, what: &str) -> Result<(), Trouble> {
        self.until(at, arguments, LIMIT, |shown| shown.contains(what))
    }

    fn until(
        &mut self,
        at: &str,
        arguments: &str,
        limit: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<(), Trouble> {
        let deadline = wait::Deadline::after(limit);
        let (stdout, shown) = loop {
            let (stdout, shown) = self.ask(at, arguments)?;
            if is_it(&self.names.hide(&shown)) || deadline.passed() {
                break (stdout, shown);
            }
            wait::pause(STEP);
        };
        self.names.learn(&stdout);
        self.record(at, arguments, &shown);
        Ok(())
    }

    fn record(&mut self, at: &str, arguments: &str, shown: &str) {
        let gap = if self.printed.is_empty() { "" } else { "\n" };
        let shown = plain(&self.names.hide(shown));
        let _ = write!(self.printed, "{gap}[{at}]$ etcdctl {arguments}\n{shown}");
    }

    /// Standard output, and everything with the exit code.
    fn ask(&self, at: &str, arguments: &str) -> Result<(String, String), Trouble> {
        let mut etcdctl = command::untouched(&self.etcdctl);
        let address = self.server(at)?.address().to_string();
        etcdctl.args(["--endpoints", &address]);
        etcdctl.args(script::words(&self.names.fill(arguments)));
        let finished = command::run(&mut etcdctl, b"", COMMAND_LIMIT)?;
        let mut shown = finished.stdout.clone();
        // Its log of retries has times and addresses, and adds nothing to the error.
        let errors = finished.stderr.lines().filter(|line| !line.starts_with("{\"level\""));
        for line in errors {
            let _ = writeln!(shown, "! {line}");
        }
        match finished.code {
            Some(0) => {}
            Some(code) => _ = writeln!(shown, "[exit {code}]"),
            None => shown.push_str("[killed]\n"),
        }
        Ok((finished.stdout, shown))
    }

    /// Makes a member the leader, however often another is elected meanwhile.
    pub(crate) fn make_leader(&self, name: &str) -> Result<(), Trouble> {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|(_, server)| server.address().to_string())
            .collect();
        let moved = wait::until(LIMIT, STEP, || {
            let (status, _) = self.ask(name, "endpoint status -w json").ok()?;
            let known = |key| normalise::json_number(&status, key);
            if known("leader").is_some() && known("leader") == known("member_id") {
                return Some(());
            }
            let asked = format!("--endpoints={} move-leader <{name}>", all.join(","));
            self.ask(name, &asked).ok();
            None
        });
        moved.ok_or_else(|| Trouble::new(format!("{name} does not become the leader")))
    }

    /// A member's server.
    pub(crate) fn server(&self, name: &str) -> Result<&Server, Trouble> {
        let found = self.members.iter().find(|(member, _)| member == name);
        found
            .map(|(_, server)| server)
            .ok_or_else(|| Trouble::new(format!("{name} does not exist")))
    }

    fn server_mut(&mut self, name: &str) -> Result<&mut Server, Trouble> {
        let found = self.members.iter_mut().find(|(member, _)| member == name);
        found
            .map(|(_, server)| server)
            .ok_or_else(|| Trouble::new(format!("{name} does not exist")))
    }

    /// Kills a member.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), Trouble> {
        self.say(&format!("{name} is killed"));
        self.server_mut(name)?.kill()
    }

    /// Removes a stopped member's data.
    pub(crate) fn wipe(&mut self, name: &str) -> Result<(), Trouble> {
        self.say(&format!("the data of {name} are removed"));
        let dir = self.server(name)?.data_dir();
        fs::remove_dir_all(&dir).map_err(|error| Trouble::new(format!("{}: {error}", dir.display())))
    }

    /// Starts a stopped member again with these flags, and waits until it is healthy.
    pub(crate) fn restart(&mut self, name: &str, flags: &[&str]) -> Result<(), Trouble> {
        self.again(name, flags)?;
        self.healthy(name)
    }

    /// Starts a stopped member again with these flags.
    pub(crate) fn again(&mut self, name: &str, flags: &[&str]) -> Result<(), Trouble> {
        self.say(format!("{name} is started again {}", flags.join(" ")).trim_end());
        let flags: Vec<String> = flags.iter().map(|flag| self.names.fill(flag)).collect();
        let server = self.server_mut(name)?;
        flags.into_iter().for_each(|flag| server.add_flag(flag));
        server.spawn()
    }

    /// Waits until a member is healthy.
    pub(crate) fn healthy(&mut self, name: &str) -> Result<(), Trouble> {
        self.server_mut(name)?.wait_healthy(HEALTH_LIMIT, STEP)?;
        let _ = writeln!(self.printed, "{name} is healthy");
        Ok(())
    }

    /// An address for the peers of a member that is to join, which the record shows as `<name-peer>`.
    pub(crate) fn expect(&mut self, name: &str) -> Result<(), Trouble> {
        let peer = free_address()?;
        self.names.text(&format!("<{name}-peer>"), peer.to_string());
        Ok(())
    }

    /// Starts another server with these flags. It is of the kind of the member at `like`.
    pub(crate) fn join(&mut self, name: &str, like: usize, flags: &[&str]) -> Result<(), Trouble> {
        self.say(format!("{name} is started {}", flags.join(" ")).trim_end());
        let peer = self.names.fill(&format!("<{name}-peer>"));
        let flags = flags.iter().map(|flag| self.names.fill(flag));
        let own = [
            format!("--name={name}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
        ];
        let launch = own
            .into_iter()
            .chain(flags)
            .fold(launch(self.kinds[like])?, Launch::flag);
        let server = launch.spawn()?;
        self.names
            .text(&format!("<{name}-client>"), server.address().to_string());
        self.members.retain(|(member, _)| member != name);
        self.members.push((name.to_owned(), server));
        Ok(())
    }

    /// Names the ids of a cluster of its own.
    pub(crate) fn learn(&mut self, name: &str) -> Result<(), Trouble> {
        let (status, _) = self.ask(name, "endpoint status -w json")?;
        for (key, what) in [
            ("cluster_id", format!("{name}-cluster")),
            ("member_id", name.to_owned()),
        ] {
            let id = normalise::json_number(&status, key);
            let id = id.ok_or_else(|| Trouble::new(format!("no {key}: {status}")))?;
            self.names.number(&what, id);
        }
        Ok(())
    }

    /// Waits until a member's process has ended, and records how, and why by its log.
    pub(crate) fn ends(&mut self, name: &str) -> Result<(), Trouble> {
        let (status, why) = self.end(name)?;
        let _ = writeln!(self.printed, "{name} ends, {status}: {why}");
        Ok(())
    }

    /// As [`Self::ends`] for a removed member that was started again. Its status is left out: a real etcd's is 0 or 1, by
    /// what it notices first, the stop or that its listeners are closed.
    pub(crate) fn ends_again(&mut self, name: &str) -> Result<(), Trouble> {
        let (_, why) = self.end(name)?;
        let _ = writeln!(self.printed, "{name} ends: {why}");
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(ExitStatus, String), Trouble> {
        let server = self.server_mut(name)?;
        let status = wait::until(LIMIT, STEP, || server.exited());
        let log = server.log();
        let status = status.ok_or_else(|| {
            let from = log.len().saturating_sub(3000);
            Trouble::new(format!("{name} does not end:\n{}", log.get(from..).unwrap_or(&log)))
        })?;
        let why = plain::reason(&self.names.hide(&log));
        Ok((status, why))
    }

    /// Waits until a member's log has this message.
    pub(crate) fn logs(&mut self, name: &str, message: &str) -> Result<(), Trouble> {
        let server = self.server(name)?;
        let found = wait::until(LIMIT, STEP, || server.log().contains(message).then_some(()));
        let said = if found.is_some() { "logs" } else { "never logs" };
        let _ = writeln!(self.printed, "{name} {said}: {message}");
        Ok(())
    }
}

fn launch(kind: Kind) -> Result<Launch, Trouble> {
    let launch = Launch::of(kind)?.flag("--unsafe-no-fsync");
    Ok(TIMES.into_iter().fold(launch, Launch::flag))
}
