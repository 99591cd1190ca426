//! The behaviour of a simulated cluster, with the simplest clients.

mod tiny;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use quoin_core::proto::etcdserverpb::WatchResponse;
use quoin_core::time::Instant;

use self::tiny::Tiny;
use super::campaign::{Campaign, judge_of, judged};
use super::nemesis::{Fault, Planned, Who};
use super::plan::{Plan, Shape};
use super::ports::{Act, Clients, Endpoints, Observer, Returned};
use super::shrink::cut_down;
use super::{Failure, Options, Run, Summary};
use crate::check::{Coverage, Point};
use crate::faults::FaultKind;
use crate::observe::{Observation, OpId, StreamId, Verdict};

/// Counts observations by kind.
#[derive(Default)]
struct Count(BTreeMap<&'static str, u64>);

impl Observer for Count {
    fn see(&mut self, _: Instant, seen: &Observation<'_>) -> Verdict {
        let name = match seen {
            Observation::Tampered { .. } => "tampered",
            Observation::Remade { .. } => "remade",
            Observation::Refounded { .. } => "refounded",
            Observation::Started { .. } => "started",
            Observation::Faulted { .. } => "faulted",
            Observation::Ended { .. } => "ended",
            Observation::Handed { .. } => "handed",
            Observation::Durable { .. } => "durable",
            Observation::Installed { .. } => "installed",
            Observation::Received { .. } => "received",
            Observation::Replaced { .. } => "replaced",
            Observation::Sent { .. } => "sent",
            Observation::Swept { .. } => "swept",
            Observation::Published { .. } => "published",
            Observation::Identified { .. } => "identified",
            Observation::Invoked { .. } => "invoked",
            Observation::Replied { .. } => "replied",
            Observation::Returned { .. } => "returned",
            Observation::StreamOpened { .. } => "stream opened",
            Observation::WatchRequested { .. } => "watch requested",
            Observation::Watched { .. } => "watched",
            Observation::StreamClosed { .. } => "stream closed",
            Observation::Healed { .. } => "healed",
            Observation::Finished => "finished",
        };
        *self.0.entry(name).or_default() += 1;
        Ok(())
    }
}

/// Clients that can still be asked when the run is over.
struct Shared(Rc<RefCell<Tiny>>);

impl Clients for Shared {
    fn wakes_at(&self) -> Option<Instant> {
        self.0.borrow().wakes_at()
    }

    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>) {
        self.0.borrow_mut().wake(now, world, acts);
    }

    fn returned(&mut self, now: Instant, op: OpId, result: Returned, acts: &mut Vec<Act>) {
        self.0.borrow_mut().returned(now, op, result, acts);
    }

    fn watched(&mut self, now: Instant, stream: StreamId, response: WatchResponse, acts: &mut Vec<Act>) {
        self.0.borrow_mut().watched(now, stream, response, acts);
    }

    fn closed(&mut self, now: Instant, stream: StreamId, acts: &mut Vec<Act>) {
        self.0.borrow_mut().closed(now, stream, acts);
    }

    fn quiet(&mut self) {
        self.0.borrow_mut().quiet();
    }
}

fn run(seed: u64, options: Options) -> (Result<Summary, Box<Failure>>, Count, Tiny) {
    let tiny = Rc::new(RefCell::new(Tiny::new(seed)));
    let mut count = Count::default();
    let clients = Rc::clone(&tiny);
    let result = Run::new(seed, options, |_, _| Box::new(Shared(clients))).run(&mut count);
    let tiny = tiny.borrow().clone();
    (result, count, tiny)
}

fn sound(members: usize) -> Options {
    Options {
        members: Some(members),
        faults: Some(Vec::new()),
        ..Options::default()
    }
}

#[test]
fn a_cluster_without_faults_makes_progress() {
    for (seed, members) in [(1, 1), (2, 2), (3, 3), (4, 5)] {
        let (result, count, tiny) = run(seed, sound(members));
        let summary = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert!(
            tiny.answered * 10 > tiny.asked * 9,
            "seed {seed}: {} of {} answered",
            tiny.answered,
            tiny.asked
        );
        assert_eq!(count.0["started"], members as u64, "seed {seed}: {:?}", count.0);
        assert!(
            count.0["watched"] > 100 && count.0["durable"] > 100,
            "seed {seed}: {:?}",
            count.0
        );
        assert!(summary.events > 1_000, "seed {seed}");
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in 10..14 {
        let hash = |seed| run(seed, Options::default()).0.map(|summary| summary.trace_hash);
        let (first, second) = (hash(seed).unwrap(), hash(seed).unwrap());
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first, hash(seed + 100).unwrap(), "seed {seed}");
    }
}

#[test]
fn faults_of_every_family_strike_and_are_survived() {
    let mut campaign = Campaign::default();
    for seed in 1_000..1_030 {
        let summary = judged(seed, Options::default(), &campaign.coverage);
        campaign.add(&summary.unwrap_or_else(|failure| panic!("{failure}")));
    }
    for family in ["network", "disk", "process", "clock", "operation"] {
        let kinds = FaultKind::ALL.iter().filter(|kind| kind.family() == family);
        let struck: u64 = kinds.map(|kind| campaign.struck.count(*kind)).sum();
        assert!(struck > 20, "{family}: {struck}");
    }
}

#[test]
fn some_runs_are_long_and_fewer_are_short() {
    let of = |shape| (0..4_000).filter(move |seed| Shape::draw(*seed) == shape);
    let (long, short) = (of(Shape::Long).count(), of(Shape::Short).count());
    assert!(
        (150..250).contains(&long) && (20..60).contains(&short),
        "{long} {short}"
    );
    for seed in of(Shape::Long) {
        let plan = Plan::draw(seed, None);
        let last = plan.faults.last().map_or(Instant::ZERO, |planned| planned.until);
        assert!(last <= Instant::ZERO + plan.heals_after, "seed {seed}");
        assert!(
            plan.rules().checkpoints.is_some(),
            "seed {seed}: who writes leases down must be known"
        );
    }
}

#[test]
fn short_histories_are_judged_without_their_log() {
    let coverage = Coverage::default();
    for seed in (0..400).filter(|seed| Shape::draw(*seed) == Shape::Short) {
        judged(seed, Options::default(), &coverage).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let judged = coverage.count(Point::HistoryJudged);
    assert!(judged > coverage.count(Point::HistoryVoid), "{coverage:?}");
}

/// The simple clients; the watcher reads nothing for twenty seconds at first.
struct Dozing(Tiny);

impl Clients for Dozing {
    fn wakes_at(&self) -> Option<Instant> {
        self.0.wakes_at()
    }

    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>) {
        self.0.wake(now, world, acts);
        let opened = acts.iter().find_map(|act| match act {
            Act::Open { stream, .. } => Some(*stream),
            _ => None,
        });
        acts.extend(opened.map(|stream| Act::Pause {
            stream,
            until: now + Duration::from_secs(20),
            sips: usize::MAX,
        }));
    }

    fn returned(&mut self, now: Instant, op: OpId, result: Returned, acts: &mut Vec<Act>) {
        self.0.returned(now, op, result, acts);
    }

    fn watched(&mut self, now: Instant, stream: StreamId, response: WatchResponse, acts: &mut Vec<Act>) {
        self.0.watched(now, stream, response, acts);
    }

    fn closed(&mut self, now: Instant, stream: StreamId, acts: &mut Vec<Act>) {
        self.0.closed(now, stream, acts);
    }

    fn quiet(&mut self) {
        self.0.quiet();
    }
}

#[test]
fn a_client_that_reads_late_misses_nothing() {
    let coverage = Coverage::default();
    for seed in 1..4 {
        let run = Run::new(seed, sound(3), |seed, _| Box::new(Dozing(Tiny::new(seed))));
        let mut judge = judge_of(run.plan(), &coverage);
        run.run(&mut judge)
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
    for point in [Point::WatchStreamFull, Point::WatchCaughtUp] {
        assert!(coverage.count(point) >= 3, "{}", point.words());
    }
}

/// A list of faults with which a run fails is cut down to the faults that the failure needs.
#[test]
fn a_failure_is_cut_down_to_the_faults_it_needs() {
    let fault = |at: u64| Planned {
        at: Instant::ZERO + Duration::from_secs(at),
        until: Instant::ZERO + Duration::from_secs(at + 1),
        fault: Fault::Drop { permille: 10 },
    };
    let keeps = |wanted: &'static [u64]| {
        let faults = (0..20).map(fault).collect();
        let left = cut_down(faults, 1_000, |faults| {
            wanted.iter().all(|at| faults.contains(&fault(*at))).then_some(())
        });
        left.0.len()
    };
    assert_eq!(keeps(&[]), 0);
    assert_eq!(keeps(&[7]), 1);
    assert_eq!(keeps(&[0, 7, 19]), 3);
}

/// A member that dies, starts, installs a snapshot at once and dies again must start from that snapshot, although no
/// message since has raised its commit index.
#[test]
fn an_isolated_member_can_start_again_and_again() {
    let who = Who::Machine(1);
    let time = |ms| Instant::ZERO + Duration::from_millis(ms);
    // A seed with short log files, of which one is kept, and a snapshot every few entries.
    let seed = 186;
    for begin in (6_000..6_400).step_by(20) {
        let crash = |ms| Planned {
            at: time(ms),
            until: time(ms + 10),
            fault: Fault::Crash {
                who,
                points: 0,
                at: None,
                power: false,
                away_ms: 100,
            },
        };
        let alone = Planned {
            at: time(begin),
            until: time(20_000),
            fault: Fault::One(FaultKind::Isolate, who),
        };
        let options = Options {
            members: Some(3),
            faults: Some(vec![
                alone,
                crash(begin + 20),
                crash(begin + 1_000),
                crash(begin + 2_000),
            ]),
            ..Options::default()
        };
        let (result, count, _) = run(seed, options);
        result.unwrap_or_else(|failure| panic!("seed {seed}, {begin}: {failure}"));
        assert_eq!(count.0.get("faulted"), None, "seed {seed}, {begin}");
        assert_eq!(count.0["started"], 6, "seed {seed}, {begin}: {:?}", count.0);
    }
}
