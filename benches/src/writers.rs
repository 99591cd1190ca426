//! Clients that write without a pause while members fail, each to all members in turn, as etcd's Go client does.
//!
//! A client begins puts at a steady rate whether or not earlier ones are answered. So the time without an answered put
//! is that of the cluster, not that of a client which waits for a member that does not answer.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use quoin_conformance::Trouble;
use quoin_conformance::trouble::During as _;
use quoin_conformance::wait;
use quoin_core::proto::etcdserverpb::RangeResponse;

use crate::{load, requests};

const CLIENTS: u64 = 8;
/// A client begins a put this often: all clients together make 400 a second.
const BEAT: Duration = Duration::from_millis(20);
/// A put without an answer is given up after this time, and bounds how many are in flight.
const PUT_LIMIT: Duration = Duration::from_secs(2);
/// The pause before a connection that failed is opened again: that of grpc-go after the first failure.
const RECONNECT: Duration = Duration::from_secs(1);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const BYTES: usize = 256;
/// Keys of one answer when they are read back.
const PAGE: i64 = 5_000;

/// Clients at work on a thread of their own.
pub struct Writers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Written, Trouble>>,
}

/// The puts of all clients.
#[derive(Debug, Default)]
pub struct Written {
    /// The number of each acknowledged key, and when the acknowledgement came, in the order of arrival.
    pub acknowledged: Vec<(Instant, u64)>,
    /// Puts that were refused or not answered; they may have been written.
    pub failed: u64,
}

/// A member's address and one client's connection to it, if there is one.
struct Endpoint {
    address: SocketAddr,
    connection: RefCell<Option<Rc<load::Clients>>>,
}

/// What the clients share.
#[derive(Default)]
struct Desk {
    next_key: Cell<u64>,
    written: RefCell<Written>,
}

impl Writers {
    /// Starts the clients of members at these addresses.
    #[must_use]
    pub fn start(addresses: Vec<SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || load::run(write(addresses, stopped)));
        Self { stop, thread }
    }

    /// Lets the puts in flight end, and returns what was written.
    ///
    /// # Errors
    /// If the clients failed.
    pub fn stop(self) -> Result<Written, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Trouble::new("the clients panicked"))?
    }
}

impl Written {
    /// The longest time between two acknowledgements from `from` to `until`.
    #[must_use]
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Duration {
        let within = self.acknowledged.iter().map(|(at, _)| *at);
        let within = within.filter(|at| (from..until).contains(at));
        let (mut last, mut longest) = (from, Duration::ZERO);
        for at in within.chain([until]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }
}

async fn write(addresses: Vec<SocketAddr>, stop: Arc<AtomicBool>) -> Result<Written, Trouble> {
    let desk = Rc::new(Desk::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let start = BEAT.mul_f64(number as f64 / CLIENTS as f64);
            let (addresses, stop, desk) = (addresses.clone(), stop.clone(), desk.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(start).await;
                client(addresses, &stop, &desk).await;
            })
        })
        .collect();
    for client in clients {
        client.await.during("a client that writes")?;
    }
    tokio::time::sleep(PUT_LIMIT).await;
    Ok(desk.written.take())
}

async fn client(addresses: Vec<SocketAddr>, stop: &AtomicBool, desk: &Rc<Desk>) {
    let endpoints: Vec<_> = addresses.into_iter().map(Endpoint::new).map(Rc::new).collect();
    let keepers = endpoints.iter().cloned();
    let keepers: Vec<_> = keepers
        .map(|endpoint| tokio::task::spawn_local(keep_connected(endpoint)))
        .collect();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        // As in grpc-go's round robin, members without a connection are passed over.
        let ready = (turn..turn + endpoints.len()).map(|at| &endpoints[at % endpoints.len()]);
        let connected = |endpoint: &&Rc<Endpoint>| endpoint.connection.borrow().is_some();
        if let Some(endpoint) = ready.into_iter().find(connected) {
            tokio::task::spawn_local(put(endpoint.clone(), desk.clone()));
        }
        turn += 1;
        tokio::time::sleep(BEAT).await;
    }
    for keeper in keepers {
        keeper.abort();
    }
}

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: RefCell::new(None),
        }
    }
}

/// Opens the connection whenever there is none. The task is aborted at the end.
async fn keep_connected(endpoint: Rc<Endpoint>) {
    let mut beat = tokio::time::interval(RECONNECT);
    loop {
        beat.tick().await;
        if endpoint.connection.borrow().is_none() {
            let connecting = load::Clients::connect(endpoint.address, 1);
            if let Ok(Ok(connection)) = tokio::time::timeout(CONNECT_LIMIT, connecting).await {
                endpoint.connection.replace(Some(Rc::new(connection)));
            }
        }
    }
}

/// Puts the next key. A connection that failed is given up.
async fn put(endpoint: Rc<Endpoint>, desk: Rc<Desk>) {
    let Some(connection) = endpoint.connection.borrow().clone() else {
        return;
    };
    let number = desk.next_key.replace(desk.next_key.get() + 1);
    let message = requests::put(key(number), &requests::value(BYTES));
    let called = connection.call(0, requests::PUT, &[], message);
    let answer = tokio::time::timeout(PUT_LIMIT, called).await;
    let mut written = desk.written.borrow_mut();
    match answer {
        Ok(Ok((_, 0))) => written.acknowledged.push((wait::now(), number)),
        Ok(Ok(_)) | Err(_) => written.failed += 1,
        Ok(Err(_)) => {
            written.failed += 1;
            let mut current = endpoint.connection.borrow_mut();
            if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, &connection)) {
                *current = None;
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("failover/{number:08}")
}

/// Reads all keys from each of these members.
///
/// # Errors
/// If an acknowledged key is missing, or has another value.
pub fn check_all_kept(addresses: &[SocketAddr], written: &Written) -> Result<(), Trouble> {
    for address in addresses {
        let found = load::run(read_back(*address))?;
        let is_missing = |number: &&u64| found.binary_search(number).is_err();
        let numbers = written.acknowledged.iter().map(|(_, number)| number);
        let missing: Vec<u64> = numbers.filter(is_missing).copied().collect();
        if let Some(first) = missing.first() {
            let (lost, first) = (missing.len(), key(*first));
            let words = format!("{lost} acknowledged writes are lost at {address}; the first is {first}");
            return Err(Trouble::new(words));
        }
    }
    Ok(())
}

/// The numbers of all keys with the right value at a member, in ascending order.
async fn read_back(address: SocketAddr) -> Result<Vec<u64>, Trouble> {
    let clients = load::Clients::connect(address, 1).await?;
    let value = requests::value(BYTES);
    let mut numbers = Vec::new();
    loop {
        let from = numbers.last().map_or(0, |last| last + 1);
        let message = requests::page(key(from), "failover0", PAGE);
        let answer = clients.fetch(requests::RANGE, message).await?;
        let answer = RangeResponse::decode(answer).during("reading keys back")?;
        for kv in &answer.kvs {
            let number = number(&kv.key).filter(|_| kv.value == value);
            let words = || format!("an unknown key or value at {address}: {:?}", kv.key);
            numbers.push(number.ok_or_else(|| Trouble::new(words()))?);
        }
        if !answer.more {
            return Ok(numbers);
        }
    }
}

fn number(key: &Bytes) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix("failover/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_from_the_fault_or_an_acknowledgement_to_the_next_one() {
        let start = wait::now();
        let at = |millis| start + Duration::from_millis(millis);
        let written = |times: &[u64]| Written {
            acknowledged: times.iter().map(|time| (at(*time), 0)).collect(),
            failed: 0,
        };
        for (times, longest) in [
            (&[90, 110, 150, 190][..], 40),
            (&[50, 170, 180], 70),
            (&[10, 110, 120, 300], 80),
            (&[], 100),
        ] {
            let gap = written(times).longest_gap(at(100), at(200));
            assert_eq!(gap, Duration::from_millis(longest), "{times:?}");
        }
    }

    #[test]
    fn keys_and_their_numbers_match() {
        assert_eq!(number(&key(42).into()), Some(42));
        assert_eq!(number(&Bytes::from_static(b"other/1")), None);
    }
}
