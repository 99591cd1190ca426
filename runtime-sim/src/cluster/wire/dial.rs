//! How connections are made, and why some are not.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::peer::{Body, ExchangeId, PeerHead};
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::version::SERVER_VERSION;
use quoin_runtime::received;

use super::super::World;
use super::super::queue::What;
use super::pipe::{Item, Pipe};
use super::{ANSWERER, CALLER, Exchange, Side, Way};
use crate::faults::FaultKind;
use crate::observe::{Verdict, ensure};

/// The path of the question for a version.
const PATH_VERSION: &str = "/version";
/// How long a connection may take to be made, beside an election timeout.
const DIAL_PATIENCE: Duration = Duration::from_secs(1);
/// The largest chunk of a snapshot: a segment of TCP.
const SEGMENT_BYTES: usize = 1_400;
/// The largest chunk of a snapshot on a link that is not slow.
const LARGE_CHUNK_BYTES: usize = 16 * 1_024;

/// How long a connection of a process with this configuration may take to be made.
pub(super) fn patience(config: &quoin_core::config::Config) -> Duration {
    DIAL_PATIENCE + Duration::from_millis(config.election_ms)
}

/// The result of an attempt to connect.
enum Dialled {
    /// There is a connection.
    Connected,
    /// The other machine refuses it.
    Refused,
    /// No answer comes.
    Silence,
    /// A member of another cluster has the address, and takes the caller for a removed one.
    Stranger,
}

/// The header with the id of the cluster, and that of another one.
const OTHER_CLUSTER: (&str, &str) = ("x-etcd-cluster-id", "ca11ab1e");

impl World<'_> {
    /// A process sends a request to a peer.
    pub(super) fn dial(
        &mut self,
        (machine, life): (usize, u64),
        id: ExchangeId,
        url: &str,
        mut head: PeerHead,
        body: Body,
    ) -> Verdict {
        let way = Way::of(&head.path);
        let meant = self.machine_at(url);
        let to = meant.map(|meant| self.misroute(machine, meant));
        let mut dialled = to.map_or(Dialled::Refused, |to| self.connect(machine, to));
        let to = to.unwrap_or(machine);
        let is_foreign = self.mixes_clusters(machine, to, way, &mut head, &mut dialled);
        let patience = patience(&self.machines[machine].site.config);
        let their_life = self.machines[to].life.as_ref().map_or(0, |life| life.number);
        let wire = &mut self.wire;
        wire.numbers += 1;
        let number = wire.numbers;
        let side = |machine, life, id, is_open| Side {
            machine,
            life,
            id,
            is_open,
            is_mute: false,
            saving: None,
        };
        let is_connected = matches!(dialled, Dialled::Connected);
        let exchange = Exchange {
            way,
            sides: [
                side(machine, life, id, true),
                side(to, their_life, ExchangeId::Incoming(number), is_connected),
            ],
            pipes: [Pipe::default(), Pipe::default()],
            is_misrouted: meant != Some(to) || is_foreign,
            is_broken: !is_connected && !matches!(dialled, Dialled::Stranger),
            is_answered: false,
            file_bytes: 0,
        };
        wire.exchanges.insert(number, exchange);
        wire.opened.insert((machine, life, id), number);
        let round_trip = wire.latency() * 2;
        let fails_after = match dialled {
            Dialled::Connected => {
                self.put_after(number, CALLER, round_trip, Item::Request(head));
                return self.send_body(number, way, body);
            }
            Dialled::Refused => round_trip,
            Dialled::Silence => patience,
            Dialled::Stranger => return self.stranger_answers(number, way),
        };
        let side = CALLER;
        self.queue.push(self.now + fails_after, What::Broken { number, side });
        Ok(())
    }

    /// The machine at an address, whatever the port is: a machine whose address changes is reached at both for a while.
    fn machine_at(&self, url: &str) -> Option<usize> {
        let host = url.strip_prefix("http://10.0.0.")?;
        let number: usize = host.split(':').next()?.parse().ok()?;
        let machine = number.checked_sub(1)?;
        (machine < self.machines.len()).then_some(machine)
    }

    /// Where a connection to a machine leads.
    fn misroute(&mut self, from: usize, meant: usize) -> usize {
        let condition = self.net.condition(from, meant);
        let is_struck = matches!(condition.damage, Some((FaultKind::MisaddressedFrame, _)));
        let machines = self.machines.len() as u64;
        if !is_struck || self.wire.prng.below(2) == 0 {
            return meant;
        }
        let other = self.wire.prng.below(machines) as usize;
        if other != meant {
            self.struck.note(FaultKind::MisaddressedFrame);
        }
        other
    }

    /// While connections are misrouted, some members of another cluster have the address of the caller or that of the
    /// machine that is dialled. Returns whether the caller is such a member.
    fn mixes_clusters(&mut self, from: usize, to: usize, way: Way, head: &mut PeerHead, dialled: &mut Dialled) -> bool {
        let is_struck = matches!(
            self.net.condition(from, to).damage,
            Some((FaultKind::MisaddressedFrame, _))
        );
        if !is_struck || way == Way::Version || !matches!(dialled, Dialled::Connected) {
            return false;
        }
        match self.wire.prng.below(6) {
            0 => *dialled = Dialled::Stranger,
            1 => {
                head.fields
                    .insert(OTHER_CLUSTER.0.to_owned(), OTHER_CLUSTER.1.to_owned());
                return true;
            }
            _ => {}
        }
        false
    }

    /// A member of another cluster answers as if the caller had been removed from the caller's cluster.
    fn stranger_answers(&mut self, number: u64, way: Way) -> Verdict {
        let (status, body) = match way {
            Way::Appends | Way::Messages | Way::Version => (410, "removed member\n"),
            Way::Post | Way::Snapshot => (403, r#"{"message":"cannot process message from removed member"}"#),
        };
        let mut head = PeerHead::default();
        head.fields
            .insert(OTHER_CLUSTER.0.to_owned(), OTHER_CLUSTER.1.to_owned());
        self.put(number, ANSWERER, Item::Response(status, head));
        self.put(number, ANSWERER, Item::Bytes(body.into(), true));
        self.put(number, ANSWERER, Item::End);
        Ok(())
    }

    fn connect(&mut self, from: usize, to: usize) -> Dialled {
        let at = &self.machines[to];
        let (is_up, has_power) = (at.is_up(), !at.is_dark);
        let cut = self.net.condition(from, to).cut.or(self.net.condition(to, from).cut);
        let wire = &mut self.wire;
        // A router on the way may say that there is no way.
        let is_told = wire.prng.below(4) == 0;
        if let Some(kind) = cut.filter(|_| from != to) {
            self.struck.note(kind);
            return if is_told { Dialled::Refused } else { Dialled::Silence };
        }
        match (is_up, has_power || is_told) {
            (true, _) => Dialled::Connected,
            (false, true) => Dialled::Refused,
            (false, false) => Dialled::Silence,
        }
    }

    /// C61: a member that does not know whether a proposal arrived does not post it again.
    fn look_at_post(&mut self, number: u64, body: &Bytes) -> Verdict {
        let is_proposal = Message::decode(body.clone()).is_ok_and(|one| one.get_msg_type() == MessageType::MsgPropose);
        let (from, to) = self.machines_of(number);
        let is_first = match &mut self.machines[from].life {
            Some(life) if is_proposal => life.proposals_posted.insert(body.clone()),
            _ => true,
        };
        ensure(is_first, "C61", || {
            format!("machine {from} posts a proposal to machine {to} again")
        })
    }

    /// Sends the body of a request.
    fn send_body(&mut self, number: u64, way: Way, body: Body) -> Verdict {
        match body {
            // A request without a body is complete with its head.
            Body::None => return Ok(()),
            Body::Bytes(bytes) => {
                self.look_at_post(number, &bytes)?;
                self.write_damaged(number, CALLER, way, bytes)?;
            }
            Body::Snapshot(message, job) => {
                let image = received::bytes_of(&job.view);
                let (from, to) = self.machines_of(number);
                let Some(image) = self.net.sift_snapshot(from, to, image) else {
                    self.break_off(number);
                    return Ok(());
                };
                if let Some(exchange) = self.wire.exchanges.get_mut(&number) {
                    exchange.file_bytes = image.len() as u64;
                }
                self.write_damaged(number, CALLER, way, message)?;
                let is_slow = self.net.condition(from, to).bytes_per_second > 0;
                let most = if is_slow { SEGMENT_BYTES } else { LARGE_CHUNK_BYTES };
                self.write_file(number, image, most);
            }
        }
        self.put(number, CALLER, Item::End);
        Ok(())
    }

    /// The machine answers the question for its version.
    pub(super) fn answer_version(&mut self, number: u64, machine: usize) {
        let view = self.machines[machine].view();
        let cluster = view.and_then(|view| view.cluster.version());
        let cluster = cluster.map_or_else(|| "not_decided".to_owned(), |version| version.to_string());
        let body = format!(r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{cluster}"}}"#);
        self.put(number, ANSWERER, Item::Response(200, PeerHead::default()));
        self.put(number, ANSWERER, Item::Bytes(body.into(), true));
        self.put(number, ANSWERER, Item::End);
        self.is_over(number, ANSWERER);
    }

    /// Whether a request is the question for a version, which the host answers.
    pub(super) fn is_version(head: &PeerHead) -> bool {
        head.path == PATH_VERSION
    }
}
