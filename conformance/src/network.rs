//! A network for the members of a cluster, made of network namespaces, in which the traffic between members can be lost.
//!
//! Each member has a namespace with two interfaces: one for clients, one for peers. The namespace *hub* connects them:
//!
//! ```text
//! member 1: c ---- c1 clients (bridge, the address of the hub)
//!           p ---- p1 wire1 (bridge) u1 ---- d1 peers (bridge)
//! ```
//!
//! A queue without room on `u1` loses what member 1 sends to its peers, and one on `p1` loses what they send to it. Both
//! are places where the hub forwards: a member that could see the loss in its own queue would repeat packets sooner
//! than one behind a broken cable. It needs root, `ip` and `tc` (iproute2), and a kernel with bridges and veth.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command;
use crate::trouble::{During as _, Trouble};

/// A command of iproute2 takes milliseconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// The last byte of the hub's address; members count from 1.
const HUB: u8 = 254;

/// The namespaces that exist, for [`remove_all`].
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Namespaces of a hub and of members, which are removed with it.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    members: u8,
}

/// Which of a member's packets to and from its peers are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Those that it sends.
    Outgoing,
    /// Those that its peers send to it.
    Incoming,
}

impl Network {
    /// A network for this many members.
    ///
    /// # Errors
    /// If this machine does not allow it, with what is needed.
    pub fn new(members: u8) -> Result<Self, Trouble> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("quoin-{}-{number}", std::process::id());
        let network = Self { prefix, members };
        let needs = "a network for members needs root, `ip` and `tc` of iproute2, and a kernel with bridges and veth";
        network.make().during(needs)?;
        Ok(network)
    }

    fn make(&self) -> Result<(), Trouble> {
        for name in self.names() {
            // Registered first: an interruption in between must not leave it behind.
            live().insert(name.clone());
            iproute("ip", &["netns", "add", &name], "")?;
        }
        let mut hub = format!(
            "link set lo up\n\
             link add clients type bridge\nlink set clients up\naddress add 10.0.0.{HUB}/24 dev clients\n\
             link add peers type bridge\nlink set peers up\n"
        );
        for at in 1..=self.members {
            let member = self.name(at);
            hub += &format!(
                "link add c{at} type veth peer name c netns {member}\nlink set c{at} master clients up\n\
                 link add wire{at} type bridge\nlink set wire{at} up\n\
                 link add p{at} type veth peer name p netns {member}\nlink set p{at} master wire{at} up\n\
                 link add u{at} type veth peer name d{at}\nlink set u{at} master wire{at} up\n\
                 link set d{at} master peers up\n"
            );
        }
        iproute("ip", &["-n", &self.hub(), "-batch", "-"], &hub)?;
        for at in 1..=self.members {
            let member = format!(
                "link set lo up\naddress add 10.0.0.{at}/24 dev c\nlink set c up\n\
                 address add 10.0.1.{at}/24 dev p\nlink set p up\n"
            );
            iproute("ip", &["-n", &self.name(at), "-batch", "-"], &member)?;
        }
        Ok(())
    }

    fn hub(&self) -> String {
        self.name(HUB)
    }

    fn name(&self, at: u8) -> String {
        format!("{}-{at}", self.prefix)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.members).chain([HUB]).map(|at| self.name(at))
    }

    /// Moves the calling thread into the hub, from which clients reach all members, and with it the threads and processes
    /// that it starts from now on.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn enter(&self) -> Result<(), Trouble> {
        let path = format!("/run/netns/{}", self.hub());
        let file = File::open(&path).during(format_args!("opening {path}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).during("entering a network namespace")
    }

    /// The words before a program on the command line that start it in the namespace of the member at this place, from
    /// 0.
    #[must_use]
    pub fn wrapper(&self, member: usize) -> Vec<OsString> {
        let name = self.name(member as u8 + 1);
        ["ip", "netns", "exec", &name].map(OsString::from).into()
    }

    /// The address for clients of the member at this place.
    #[must_use]
    pub fn client(member: usize) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 0, member as u8 + 1), CLIENT_PORT).into()
    }

    /// The address for peers of the member at this place.
    #[must_use]
    pub fn peer(member: usize) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 1, member as u8 + 1), PEER_PORT).into()
    }

    /// Loses packets of the member at this place until [`Self::mend`].
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn lose(&self, member: usize, loss: Loss) -> Result<(), Trouble> {
        let device = device(member, loss);
        let words = ["-n", &self.hub(), "qdisc", "add", "dev", &device, "root", "pfifo"];
        iproute("tc", &[&words[..], &["limit", "0"]].concat(), "")
    }

    /// Ends a loss.
    ///
    /// # Errors
    /// If there is none.
    pub fn mend(&self, member: usize, loss: Loss) -> Result<(), Trouble> {
        let device = device(member, loss);
        iproute("tc", &["-n", &self.hub(), "qdisc", "del", "dev", &device, "root"], "")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names() {
            if live().remove(&name) {
                remove(&name);
            }
        }
    }
}

/// The hub's interface whose queue these packets pass.
fn device(member: usize, loss: Loss) -> String {
    let end = match loss {
        Loss::Outgoing => 'u',
        Loss::Incoming => 'p',
    };
    format!("{end}{}", member + 1)
}

/// Removes all networks. Call it only when this process is about to exit, after the last command has been started.
pub(crate) fn remove_all() {
    for name in live().iter() {
        remove(name);
    }
}

/// Removes a namespace, its interfaces, and with them the other ends of those. It may not exist yet.
fn remove(name: &str) {
    let mut ip = Command::new("ip");
    ip.args(["netns", "del", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = ip.status();
}

fn live() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn iproute(program: &str, words: &[&str], input: &str) -> Result<(), Trouble> {
    let mut command = Command::new(program);
    let done = command::run(command.args(words), input.as_bytes(), COMMAND_LIMIT)?;
    done.success(&format!("{program} {}", words.join(" "))).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;

    const ARRIVAL_LIMIT: Duration = Duration::from_millis(500);

    /// A socket in the namespace of a member: a thread makes it there.
    fn socket(network: &Network, member: usize) -> UdpSocket {
        let path = format!("/run/netns/{}", network.name(member as u8 + 1));
        let made = thread::spawn(move || {
            let file = File::open(path).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            UdpSocket::bind(Network::peer(member)).unwrap()
        });
        let socket = made.join().unwrap();
        socket.set_read_timeout(Some(ARRIVAL_LIMIT)).unwrap();
        socket
    }

    #[test]
    fn a_loss_has_one_direction_and_ends() {
        let network = match Network::new(2) {
            Ok(network) => network,
            Err(trouble) => {
                assert!(trouble.to_string().contains("needs root"), "{trouble}");
                return;
            }
        };
        let sockets = [socket(&network, 0), socket(&network, 1)];
        let arrives = |from: usize, to: usize| {
            sockets[from].send_to(b"here", Network::peer(to)).unwrap();
            sockets[to].recv(&mut [0; 8]).is_ok()
        };
        assert!(arrives(0, 1) && arrives(1, 0));
        for (loss, from_it, to_it) in [(Loss::Outgoing, false, true), (Loss::Incoming, true, false)] {
            network.lose(0, loss).unwrap();
            assert_eq!((arrives(0, 1), arrives(1, 0)), (from_it, to_it), "{loss:?}");
            network.mend(0, loss).unwrap();
            assert!(arrives(0, 1) && arrives(1, 0), "{loss:?} has ended");
        }
        let path = format!("/run/netns/{}", network.hub());
        drop(network);
        assert!(!std::path::Path::new(&path).exists());
    }
}
