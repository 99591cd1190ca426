//! Signals are handled at any moment of a start, and signals that etcd ignores are ignored.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use quoin_core::limits::{MAX_REQUEST_BYTES, WAL_SEGMENT_BYTES};
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, PutRequest, RangeRequest, RangeResponse, RequestHeader};
use quoin_core::proto::raftpb::{Entry, HardState};
use quoin_core::wal::{Marker, Save, replay};
use quoin_runtime::clock::Clock;
use quoin_runtime::disk::RealDisk;
use quoin_runtime::lanes::wal::{LaneContext, Log, open, segments};
use quoin_runtime::seam::Runtime;

use super::member::{Folder, Member, SOON};
use crate::client::{Grpc, run};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// Entries that a slow start replays.
const ENTRIES: u64 = 100_000;
/// Entries of one batch of the log.
const BATCH: u64 = 1_000;

/// Asserts that the signal ends the process soon; returns how long that takes.
fn obeys(member: &mut Member, signal: i32) -> Duration {
    let sent = Instant::now();
    member.signal(signal);
    let (ended, status) = member.ended();
    assert_eq!(status.signal(), Some(signal), "{}", member.text());
    let took = ended - sent;
    assert!(took < SOON, "{took:?}");
    took
}

pub(crate) fn a_second_process_says_what_it_waits_for_and_obeys_signals(_: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let mut first = folder.start(None, &[]);
    first.ready();
    let lock = folder.data_dir().join("member").join("lock");
    for signal in [SIGTERM, SIGINT] {
        let mut second = folder.start(None, &[]);
        let (_, line) = second.line("waiting for another process to release the data directory");
        assert!(line.contains(&lock.display().to_string()), "{line}");
        let took = obeys(&mut second, signal);
        println!("a process that waits for the lock ends {took:?} after signal {signal}");
    }
    let mut third = folder.start(None, &[]);
    third.line("waiting for another process to release the data directory");
    third.line("db file is flocked by another process, or taking too long");
    let (_, line) = third.line("still starting");
    assert!(
        line.contains("doing=waiting for the data directory's lock") && line.contains("waited=10s"),
        "{line}"
    );
    println!(
        "a member that serves ends {:?} after SIGTERM",
        obeys(&mut first, SIGTERM)
    );
    third.ready();
}

pub(crate) fn a_slow_start_obeys_signals(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let flags = ["--snapshot-count=10000000"];
    let mut member = folder.start(None, &flags);
    member.ready();
    obeys(&mut member, SIGTERM);
    append_puts(&folder.data_dir().join("member").join("wal"));
    for signal in [SIGTERM, SIGINT] {
        for wait in [0, 20, 100, 300, 1_000] {
            let mut member = folder.start(None, &flags);
            member.line("starting an etcd server");
            std::thread::sleep(Duration::from_millis(wait));
            let took = obeys(&mut member, signal);
            let is_ready = member.text().contains("ready to serve");
            println!("signal {signal} {wait} ms into a start: ended after {took:?} (ready before: {is_ready})");
        }
    }
    let mut member = folder.start(None, &flags);
    let (begun, _) = member.line("starting an etcd server");
    let address = member.ready();
    println!("{ENTRIES} entries were replayed in {:?}", begun.elapsed());
    let client = Arc::clone(&runtime);
    let found: RangeResponse = run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, 1 << 20).await;
        let request = RangeRequest {
            key: "key".into(),
            range_end: "kez".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        grpc.ok("/etcdserverpb.KV/Range", &request).await
    });
    assert_eq!(found.count, i64::try_from(ENTRIES).unwrap());
}

/// Continues a member's log as the member does: with committed puts that its table does not have.
fn append_puts(dir: &Path) {
    let names = segments(&RealDisk, dir).unwrap();
    let replay = replay(open(&RealDisk, dir, &names).unwrap(), &Marker::default()).unwrap();
    let last = replay.entries.last().unwrap();
    let (first, term) = (last.index + 1, last.term);
    let state = replay.hard_state;
    let keep = LaneContext {
        snap_dir: dir.with_file_name("snap"),
        max_wals: 0,
        max_snapshots: 0,
        segment_bytes: WAL_SEGMENT_BYTES,
        unsafe_no_fsync: true,
        clock: Arc::new(Clock::new()),
        report: Arc::new(|_| {}),
        observe: Arc::new(|_| {}),
    };
    let mut log = Log::resume(Arc::new(RealDisk), dir, &replay, keep).unwrap();
    for batch in 0..ENTRIES / BATCH {
        let from = first + batch * BATCH;
        let entries: Vec<Entry> = (from..from + BATCH).map(|index| put(index, term)).collect();
        let state = HardState {
            commit: from + BATCH - 1,
            ..state
        };
        let save = Save {
            marker: None,
            entries,
            state: Some(state),
        };
        log.save([&save]).unwrap();
    }
}

fn put(index: u64, term: u64) -> Entry {
    let request = InternalRaftRequest {
        header: Some(RequestHeader {
            id: index,
            ..RequestHeader::default()
        }),
        put: Some(PutRequest {
            key: format!("key{index}").into(),
            value: Bytes::from_static(&[b'v'; 100]),
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    };
    let data = Bytes::from(request.encode_to_vec());
    assert!(data.len() < MAX_REQUEST_BYTES);
    Entry {
        index,
        term,
        data,
        ..Entry::default()
    }
}

pub(crate) fn signals_that_etcd_ignores_are_ignored(_: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let mut member = folder.start(None, &[]);
    member.ready();
    // USR1, USR2, PIPE, ALRM, CHLD, CONT, URG, XCPU, XFSZ, VTALRM, PROF, WINCH, IO, PWR, and some real-time signals.
    let ignored = [10, 12, 13, 14, 17, 18, 23, 24, 25, 26, 27, 28, 29, 30, 35, 40, 64];
    ignored.iter().for_each(|signal| member.signal(*signal));
    std::thread::sleep(Duration::from_millis(300));
    assert!(member.is_running(), "{}", member.text());
    obeys(&mut member, SIGINT);
}
