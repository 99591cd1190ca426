//! One workload that changes every metric that a client of a single member can change, with the same order and number
//! of requests for every server: no request is repeated, and waiting for slow work uses only metrics.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};

use super::exceptions::VARIES;
use super::exposition::{Exposition, Kind};
use super::requests::{
    COMPACT, COMPACTED, DELETE_RANGE, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_LEASES, LEASE_REVOKE, LEASE_TIME_TO_LIVE,
    PUT, RANGE, TXN, WATCH, ask, create, delete, disarm, end_watches, keys, maintenance, past_watches, put, range,
    refusals, refused, transactions, txn, watch, watches,
};
use crate::diff::wire::Wire;
use crate::server::{Launch, Server};
use crate::trouble::{During as _, Trouble};
use crate::wait;

/// The limit for slow work (an expiry, a compaction, a scrape that settles) on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);
/// The metrics are at rest once two scrapes at this distance are equal.
const SETTLED: Duration = Duration::from_millis(300);
/// Two of the large values exceed the quota. One of them with all other data does not, whatever its overhead on disk.
const QUOTA_BYTES: usize = 2_600_000;
const BIG_VALUE_BYTES: usize = 1_400_000;
/// More and larger events than a stream's queue and the buffers below it hold.
const SLOW_EVENTS: usize = 220;
const SLOW_EVENT_BYTES: usize = 8 * 1024;
const SLOW_WINDOW_BYTES: u32 = 64 * 1024;

/// The moments of comparison.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Moment {
    /// Before all requests.
    Start,
    /// While watches are open and all events were sent.
    Watching,
    /// While the member has an alarm.
    Alarmed,
    /// At the end.
    End,
    /// While a client does not read its watch.
    Slow,
    /// After that client was closed.
    Gone,
}

impl Moment {
    /// Whether the value at this moment is the same for every server: how many events wait for, or were sent to, a
    /// client that does not read depends on buffers.
    pub(super) fn shows(self, series: &str) -> bool {
        match self {
            Self::Slow => [
                "etcd_debugging_mvcc_slow_watcher_total",
                "etcd_debugging_mvcc_watch_stream_total",
                "etcd_debugging_mvcc_watcher_total",
            ]
            .contains(&series),
            Self::Gone => {
                Self::Slow.shows(series)
                    || series == "etcd_debugging_mvcc_pending_events_total"
                    || series.starts_with("etcd_mvcc_put_total")
            }
            Self::Start | Self::Watching | Self::Alarmed | Self::End => true,
        }
    }
}

/// The metrics of a server at each moment.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// By moment.
    pub moments: BTreeMap<Moment, Exposition>,
}

impl Played {
    pub(super) fn at(&self, moment: Moment) -> Option<&Exposition> {
        self.moments.get(&moment)
    }

    /// The last moment at which everything is comparable.
    pub(super) fn end(&self) -> &Exposition {
        &self.moments[&Moment::End]
    }

    /// The value of a series at a moment; for counters, its growth since the start.
    pub(super) fn moved(&self, moment: Moment, series: &str, kind: Kind) -> f64 {
        let at = |moment| self.at(moment).map_or(0.0, |found| found.value(series));
        let grows = kind != Kind::Gauge || GROWING_GAUGES.contains(&series);
        if grows && moment != Moment::Start {
            at(moment) - at(Moment::Start)
        } else if grows {
            0.0
        } else {
            at(moment)
        }
    }
}

/// Gauges that, despite their kind, only grow.
const GROWING_GAUGES: [&str; 3] = [
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
];

/// Starts a server, plays the whole workload to it and stops it.
///
/// # Errors
/// If the server does not start or answer, or slow work does not finish.
pub fn play(launch: Launch) -> Result<Played, Trouble> {
    let launch = launch
        .flag("--metrics=extensive")
        .flag("--snapshot-count=30")
        // Everything counts as slow, so that the counts do not depend on the machine's load.
        .flag("--experimental-warning-apply-duration=1ns")
        .flag(format!("--quota-backend-bytes={QUOTA_BYTES}"));
    let server = launch.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("starting a client")?;
    let mut stage = Stage {
        server: &server,
        played: Played::default(),
    };
    runtime.block_on(stage.all()).during(server.name())?;
    Ok(stage.played)
}

struct Stage<'a> {
    server: &'a Server,
    played: Played,
}

impl Stage<'_> {
    async fn all(&mut self) -> Result<(), Trouble> {
        self.look(Moment::Start)?;
        let wire = Wire::connect(self.server.address()).await?;
        let mut streams = watches(&wire).await.during("making watches")?;
        keys(&wire).await;
        transactions(&wire).await;
        self.leases(&wire).await.during("leases")?;
        self.compactions(&wire).await.during("compactions")?;
        past_watches(&wire, &mut streams).await.during("watches of the past")?;
        maintenance(&wire).await;
        refusals(&wire).await;
        self.probes()?;
        self.look(Moment::Watching)?;
        end_watches(streams).await.during("ending watches")?;
        self.alarms(&wire).await.during("filling up")?;
        self.look(Moment::Alarmed)?;
        self.probes()?;
        disarm(&wire).await;
        self.look(Moment::End)?;
        self.slow(&wire).await.during("a slow client")
    }

    /// Waits until the metrics are at rest, and records them.
    fn look(&mut self, moment: Moment) -> Result<(), Trouble> {
        let varies = |series: &String| {
            let starts = |pattern: &str| series.starts_with(pattern.trim_end_matches('*'));
            let is_own = starts("go_") || starts("quoin_");
            is_own || series.contains("_sum") || VARIES.iter().any(|(pattern, _)| starts(pattern))
        };
        let shown = |of: &Exposition| -> Vec<(String, f64)> {
            let all = of.samples.iter().filter(|(series, _)| !varies(series));
            all.map(|(series, value)| (series.clone(), *value)).collect()
        };
        let deadline = wait::Deadline::after(PATIENCE);
        let mut before = Exposition::of(self.server)?;
        loop {
            wait::pause(SETTLED);
            let now = Exposition::of(self.server)?;
            let (earlier, later) = (shown(&before), shown(&now));
            let moved = earlier.iter().zip(&later).find(|(before, now)| {
                // Go's histograms of commits and the like change without requests.
                now != before && !now.0.contains("_bucket") && !now.0.contains("_disk_")
            });
            let Some((was, is)) = moved else {
                self.played.moments.insert(moment, now);
                return Ok(());
            };
            if deadline.passed() {
                return Err(Trouble::new(format!(
                    "{} still moved from {} after {PATIENCE:?} at {moment:?}, now {} is {}",
                    was.0, was.1, is.0, is.1
                )));
            }
            before = now;
        }
    }

    /// Waits until a series has grown to this value.
    fn until(&self, series: &str, reached: f64) -> Result<(), Trouble> {
        let start = self.played.at(Moment::Start).map_or(0.0, |start| start.value(series));
        let found = wait::until(PATIENCE, STEP, || {
            let now = Exposition::of(self.server).ok()?;
            (now.value(series) - start >= reached).then_some(())
        });
        found.ok_or_else(|| Trouble::new(format!("{series} did not grow by {reached} within {PATIENCE:?}")))
    }

    /// Leases that are granted, renewed, revoked and left to expire.
    async fn leases(&self, wire: &Wire) -> Result<(), Trouble> {
        for (id, ttl) in [
            (71, 600),
            (72, 600),
            (73, 1),
            (74, 2),
            (71, 600),
            (75, 10_000_000_000),
            (76, 0),
        ] {
            ask(wire, LEASE_GRANT, &LeaseGrantRequest { id, ttl }).await;
        }
        for (key, lease) in [("leased/a", 72), ("leased/b", 72), ("leased/c", 73), ("leased/d", 99)] {
            let put = PutRequest { lease, ..put(key, "v") };
            ask(wire, PUT, &put).await;
        }
        let mut stream = wire
            .call(LEASE_KEEP_ALIVE, &LeaseKeepAliveRequest { id: 71 }, false)
            .await
            .map_err(refused)?;
        stream.next().await.map_err(refused)?;
        for id in [71, 72, 98] {
            stream.send(&LeaseKeepAliveRequest { id }).map_err(refused)?;
            stream.next().await.map_err(refused)?;
        }
        stream.end();
        stream.next().await.map_err(refused)?;
        for (id, keys) in [(71, false), (72, true), (97, true)] {
            ask(wire, LEASE_TIME_TO_LIVE, &LeaseTimeToLiveRequest { id, keys }).await;
        }
        ask(wire, LEASE_LEASES, &LeaseLeasesRequest {}).await;
        for id in [72, 72, 96] {
            ask(wire, LEASE_REVOKE, &LeaseRevokeRequest { id }).await;
        }
        self.until("etcd_debugging_server_lease_expired_total", 3.0)?;
        // By now there are enough entries for a snapshot.
        self.until("etcd_debugging_snap_save_total_duration_seconds_count", 1.0)
    }

    /// Compactions, each awaited: etcd runs one after the other.
    async fn compactions(&self, wire: &Wire) -> Result<(), Trouble> {
        let compact = |revision, physical| CompactionRequest { revision, physical };
        ask(wire, COMPACT, &compact(5, false)).await;
        self.until(COMPACTED, 1.0)?;
        ask(wire, COMPACT, &compact(12, true)).await;
        ask(wire, COMPACT, &compact(18, true)).await;
        self.until(COMPACTED, 3.0)?;
        ask(wire, COMPACT, &compact(7, false)).await;
        ask(wire, COMPACT, &compact(1_000_000, true)).await;
        let compacted = RangeRequest {
            revision: 4,
            ..range("keys/a", "")
        };
        ask(wire, RANGE, &compacted).await;
        ask(wire, TXN, &txn([], [Op::RequestRange(compacted)], [])).await;
        Ok(())
    }

    /// The requests of a supervisor over HTTP.
    fn probes(&self) -> Result<(), Trouble> {
        for path in [
            "/health",
            "/health?serializable=true",
            "/health?exclude=NOSPACE",
            "/livez",
            "/livez?verbose",
            "/livez/serializable_read",
            "/livez/nothing",
            "/readyz",
            "/readyz?exclude=data_corruption",
            "/readyz/linearizable_read",
            "/readyz/non_learner",
            "/version",
        ] {
            self.server.http(path).during(path)?;
        }
        self.posted("/health")
    }

    /// Sends a POST request to a path that does not serve POST.
    fn posted(&self, path: &str) -> Result<(), Trouble> {
        let mut stream = TcpStream::connect(self.server.address()).during("connecting")?;
        stream.set_read_timeout(Some(PATIENCE)).during("connecting")?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .during(path)?;
        stream.read_to_end(&mut Vec::new()).during(path).map(drop)
    }

    /// Fills the member until it raises its alarm, and makes requests that are refused then. etcd notices the size of a
    /// write once it is committed to its file.
    async fn alarms(&self, wire: &Wire) -> Result<(), Trouble> {
        let big = "v".repeat(BIG_VALUE_BYTES);
        ask(wire, PUT, &put("big/1", &big)).await;
        self.until("etcd_mvcc_db_total_size_in_use_in_bytes", BIG_VALUE_BYTES as f64 * 0.9)?;
        ask(wire, PUT, &put("big/2", &big)).await;
        ask(wire, PUT, &put("keys/a", "refused")).await;
        ask(wire, LEASE_GRANT, &LeaseGrantRequest { id: 80, ttl: 600 }).await;
        ask(wire, TXN, &txn([], [Op::RequestPut(put("keys/a", "refused"))], [])).await;
        ask(wire, DELETE_RANGE, &delete("keys/none", "", false)).await;
        Ok(())
    }

    /// A client that does not read its watch, and then closes it.
    async fn slow(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let silent = Wire::connect_narrow(self.server.address(), SLOW_WINDOW_BYTES).await?;
        let mut stream = silent
            .call(WATCH, &create(watch("slow/", "slow0")), false)
            .await
            .map_err(refused)?;
        stream.next().await.map_err(refused)?;
        let value = "v".repeat(SLOW_EVENT_BYTES);
        for number in 0..SLOW_EVENTS {
            ask(wire, PUT, &put(&format!("slow/{}", number % 10), &value)).await;
        }
        self.look(Moment::Slow)?;
        drop(stream);
        drop(silent);
        self.look(Moment::Gone)
    }
}
