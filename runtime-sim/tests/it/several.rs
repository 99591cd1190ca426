//! Members of clusters of several on simulated disks: how they start, and that a received snapshot is installed
//! completely or not at all, wherever the process ends.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message as _;
use quoin_core::boot::{RemoteAnswer, Why};
use quoin_core::config::{ClusterState, Config};
use quoin_core::error::Fault;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::jobs::{LogJob, TableJob, TableRows};
use quoin_core::member::BatchId;
use quoin_core::membership::Member;
use quoin_core::node::Done;
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use quoin_core::proto::raftpb::{Entry, HardState};
use quoin_core::random::Prng;
use quoin_core::snapshot;
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig, View};
use quoin_core::version::SERVER_VERSION;
use quoin_core::wal::{Marker, Save};
use quoin_runtime::boot::{self, Ask, BootError, Booted};
use quoin_runtime::disk::Disk as _;
use quoin_runtime::lanes::Lane as _;
use quoin_runtime::lanes::table::{Rows, TableTask};
use quoin_runtime::lanes::wal::LaneContext;
use quoin_runtime::progress::Progress;
use quoin_runtime::received::Arriving;
use quoin_runtime_sim::process::Site;

/// Worlds tried for each sequence: they differ in what a loss of power leaves.
const SEEDS: std::ops::Range<u64> = 0..8;

const CLUSTER: &str = "default=http://localhost:2380,other=http://10.0.0.2:2380";

fn site(seed: u64, state: ClusterState) -> Site {
    let mut config = Config::with_defaults();
    config.data_dir = "/far/away/data".to_owned();
    config.initial_cluster = CLUSTER.to_owned();
    config.initial_cluster_state = state;
    Site::new(seed, config, 1_000)
}

/// The other member's answer: the members of the cluster.
fn answer(urls: &[String], _: Why) -> BTreeMap<String, RemoteAnswer> {
    assert_eq!(urls, ["http://10.0.0.2:2380"]);
    let member = |id, name: &str, url: &str| Member {
        id: MemberId(id),
        name: name.to_owned(),
        peer_urls: vec![url.to_owned()],
        ..Member::default()
    };
    let members = vec![
        member(2, "other", "http://10.0.0.2:2380"),
        member(1, "", "http://localhost:2380"),
    ];
    let answer = RemoteAnswer {
        cluster: Some((ClusterId(7), members)),
        server_version: Some(SERVER_VERSION.to_owned()),
        cluster_version: Some("3.6.0".to_owned()),
        downgrade_enabled: Some(false),
    };
    BTreeMap::from([("http://10.0.0.2:2380".to_owned(), answer)])
}

/// No other member answers.
fn silence(_: &[String], _: Why) -> BTreeMap<String, RemoteAnswer> {
    BTreeMap::new()
}

type Reports = Arc<Mutex<Vec<Done>>>;

fn keep(site: &Site, reports: &Reports) -> LaneContext {
    let reports = Arc::clone(reports);
    LaneContext {
        snap_dir: site.dirs().snap(),
        max_wals: 2,
        max_snapshots: 2,
        segment_bytes: site.segment_bytes,
        unsafe_no_fsync: false,
        clock: Arc::new(site.hand.clone()),
        report: Arc::new(move |done| reports.lock().unwrap().push(done)),
        observe: Arc::new(|_| {}),
    }
}

fn start(site: &Site, ask: &Ask<'_>) -> Result<Booted, BootError> {
    start_reporting(site, ask, &Reports::default())
}

fn start_reporting(site: &Site, ask: &Ask<'_>, reports: &Reports) -> Result<Booted, BootError> {
    let world = boot::World {
        disk: Arc::new(site.disk.clone()),
        open_table: &|path: &Path| site.table.open(&site.disk, path),
        resolve: &|_| Ok("127.0.0.1:2380".to_owned()),
        ask,
        notify: &|_| {},
        progress: Progress::default(),
    };
    boot::boot(&site.config, StoreConfig::default(), keep(site, reports), &world)
}

/// The state that a leader sends: both members, and `keys` keys.
fn state(keys: u64) -> View {
    let founding = start(&site(0, ClusterState::New), &silence).unwrap();
    let mut store = Store::new(StoreConfig::default());
    let mut applied = Applied::default();
    let context = || ApplyContext {
        quota_bytes: None,
        wanted: &|_| false,
    };
    for entry in &founding.recovered.entries {
        store.apply(entry, context(), &mut applied).unwrap();
    }
    for number in 0..keys {
        let put = PutRequest {
            key: format!("k{number}").into(),
            value: vec![b'v'; 100].into(),
            ..PutRequest::default()
        };
        let request = InternalRaftRequest {
            header: Some(RequestHeader::default()),
            put: Some(put),
            ..InternalRaftRequest::default()
        };
        let entry = Entry {
            term: 3,
            index: store.consistent_index() + 1,
            data: request.encode_to_vec().into(),
            ..Entry::default()
        };
        store.apply(&entry, context(), &mut applied).unwrap();
    }
    store.view()
}

/// Receives the file of a snapshot in pieces.
fn receive(site: &Site, index: u64, bytes: &Bytes) -> Result<Store, Fault> {
    let mut file = Arriving::begin(Arc::new(site.disk.clone()), &site.dirs().snap(), index)?;
    for piece in bytes.chunks(1_000) {
        file.write(piece)?;
    }
    file.finish(StoreConfig::default(), |file| file.sync_data())
}

/// Installs a received state as the host does; an error is the end of the process.
fn install(site: &Site, booted: Booted, view: &View, reports: &Reports) -> Result<(), Fault> {
    let keep = keep(site, reports);
    let Booted {
        mut log,
        table,
        recovered,
        ..
    } = booted;
    let mut rows = Rows::new(Arc::new(site.disk.clone()), table, recovered.applied, &keep);
    let bytes = Bytes::from(snapshot::encode(view));
    let store = receive(site, view.applied_index, &bytes)?;
    log.run(&mut vec![installation(&store, 2)])?;
    rows.run(&mut vec![TableTask::Job(TableJob {
        batch: BatchId(1),
        index: view.applied_index,
        rows: TableRows::All(Box::new(view.clone())),
    })])?;
    log.run(&mut vec![LogJob {
        batch: BatchId(10),
        save: Save {
            entries: vec![Entry {
                term: 4,
                index: view.applied_index + 1,
                ..Entry::default()
            }],
            ..Save::default()
        },
        sync: true,
    }])
}

/// The job that lets a log continue after a snapshot with this state.
fn installation(store: &Store, vote: u64) -> LogJob {
    let index = store.consistent_index();
    LogJob {
        batch: BatchId(9),
        save: Save {
            marker: Some(Marker {
                index,
                term: store.term(),
                conf_state: Some(store.conf_state().clone()),
            }),
            entries: Vec::new(),
            state: Some(HardState {
                term: 4,
                vote,
                commit: index,
            }),
        },
        sync: true,
    }
}

fn fall(site: &Site, power: bool) {
    if power {
        site.disk.lose_power();
        site.table.lose_power();
    } else {
        site.disk.end_process();
    }
    site.fuse.renew();
}

#[test]
fn two_found_a_cluster_and_restart_in_it() {
    let site = site(1, ClusterState::New);
    let booted = start(&site, &silence).unwrap();
    assert_eq!(booted.recovered.entries.len(), 2);
    assert_eq!(booted.recovered.hard_state.commit, 2);
    let names: Vec<_> = booted.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"default") && names.contains(&"other"));
    let (member, cluster) = (booted.member, booted.cluster);
    drop(booted);
    fall(&site, true);
    let again = start(&site, &silence).unwrap();
    assert_eq!((again.member, again.cluster), (member, cluster));
    assert_eq!(again.recovered.entries.len(), 2);
}

#[test]
fn a_member_joins_with_an_empty_log_and_a_list_of_its_peers() {
    let site = site(1, ClusterState::Existing);
    assert!(
        matches!(start(&site, &silence), Err(BootError::Refused(_))),
        "no member has it"
    );
    let booted = start(&site, &answer).unwrap();
    assert_eq!((booted.member, booted.cluster), (MemberId(1), ClusterId(7)));
    assert_eq!(booted.peers.len(), 2);
    assert!(booted.recovered.entries.is_empty() && booted.recovered.conf_state.voters.is_empty());
    drop(booted);
    fall(&site, true);
    let again = start(&site, &silence).unwrap();
    assert_eq!(
        (again.member, again.cluster),
        (MemberId(1), ClusterId(7)),
        "its log has it"
    );
}

#[test]
fn a_received_snapshot_is_taken_over_whole_or_not_at_all() {
    let view = state(20);
    for seed in SEEDS {
        let mut prng = Prng::new(seed).fork("several");
        for at in 0.. {
            let site = site(seed, ClusterState::Existing);
            let reports = Reports::default();
            let booted = start_reporting(&site, &answer, &reports).unwrap();
            site.fuse.set(at);
            let all = install(&site, booted, &view, &reports).is_ok() && !site.fuse.blown();
            let promised = !reports.lock().unwrap().is_empty();
            fall(&site, prng.below(2) == 0);
            // The next start may be interrupted too.
            site.fuse.set(prng.below(60));
            let nested = start(&site, &silence).is_ok();
            fall(&site, prng.below(2) == 0);
            let what = format!("seed {seed}, point {at}, nested {nested}");
            let last = start(&site, &silence).unwrap_or_else(|error| panic!("{what}: {error}"));
            let found = last.store.view();
            let is_new = found.applied_index == view.applied_index;
            assert!(
                is_new || found.applied_index == 0,
                "{what}: applied {}",
                found.applied_index
            );
            assert!(is_new || !promised, "{what}: the promise is kept");
            if is_new {
                assert!(found.all_rows().eq(view.all_rows()), "{what}");
                assert_eq!(last.recovered.snapshot_index, view.applied_index, "{what}");
                assert_eq!(last.recovered.hard_state.vote, 2, "{what}");
                assert_eq!(last.peers.len(), 2, "{what}");
            }
            let mut left = site.disk.list(&site.dirs().snap()).unwrap();
            left.retain(|name| name.contains(".snap.db"));
            assert!(left.is_empty(), "{what}: nothing refers to {left:?}");
            if all {
                assert!(at > 15, "{at} points");
                assert_eq!(last.recovered.entries.len(), 1, "{what}: the log went on");
                break;
            }
        }
    }
}

#[test]
fn leaving_all_others_behind_begins_with_what_was_received() {
    let view = state(5);
    let mut site = site(3, ClusterState::Existing);
    let booted = start(&site, &answer).unwrap();
    // The log continues after it, and it is not in the table.
    let bytes = Bytes::from(snapshot::encode(&view));
    let index = view.applied_index;
    let store = receive(&site, index, &bytes).unwrap();
    let mut log = booted.log;
    log.run(&mut vec![installation(&store, 0)]).unwrap();
    drop((log, booted.table, booted.lock));
    fall(&site, true);
    site.config.force_new_cluster = true;
    let forced = start(&site, &silence).unwrap();
    assert_eq!(forced.store.consistent_index(), index);
    assert!(!forced.recovered.entries.is_empty(), "entries that remove the others");
    drop(forced);
    fall(&site, true);
    site.config.force_new_cluster = false;
    assert_eq!(start(&site, &silence).unwrap().store.consistent_index(), index);
}
