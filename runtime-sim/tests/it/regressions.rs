//! Bugs that crashes have found in starting and writing, each as the smallest sequence that shows it.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::config::Config;
use quoin_core::jobs::{LogJob, TableJob, TableRows};
use quoin_core::member::BatchId;
use quoin_core::membership::ConfChangeContext;
use quoin_core::proto::raftpb::{ConfChange, Entry, HardState};
use quoin_core::table::{Bucket, TableOp};
use quoin_core::wal::Save;
use quoin_runtime::lanes::table::TableTask;
use quoin_runtime_sim::fuse::{Failure, Says, Touch};
use quoin_runtime_sim::process::{Process, Site, Start};

/// Worlds tried for each sequence: they differ in what a loss of power leaves.
const SEEDS: std::ops::Range<u64> = 0..12;

fn site(seed: u64) -> Site {
    let mut config = Config::with_defaults();
    config.data_dir = "/far/away/data".to_owned();
    if seed.is_multiple_of(3) {
        config.wal_dir = Some("/else/where/wal".to_owned());
    }
    config.initial_cluster = Config::initial_cluster_of(&config.name, &config.advertise_peer_urls);
    Site::new(seed, config, 1_000)
}

/// Starts a member on a site without faults.
fn start(site: &Site) -> (Process, Start) {
    site.fuse.renew();
    Process::boot(site, 1, 1, &|_, _| BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn lose_power(site: &Site) {
    site.disk.lose_power();
    site.table.lose_power();
}

fn end_process(site: &Site) {
    site.disk.end_process();
}

/// Appends an entry to the log, in a segment of its own; false if that failed.
fn append(process: &mut Process, index: u64) -> bool {
    let entry = Entry {
        index,
        term: 1,
        data: Bytes::from(vec![7; 2_000]),
        ..Entry::default()
    };
    process.give_log(LogJob {
        batch: BatchId(index),
        save: Save {
            marker: None,
            entries: vec![entry],
            state: Some(HardState {
                term: 1,
                vote: 0,
                commit: index - 1,
            }),
        },
        sync: true,
    });
    process.log.run(1)
}

/// Runs `story` once for every point at which it can be interrupted.
fn at_every_point(seed: u64, mut story: impl FnMut(&Site)) -> usize {
    for at in 0.. {
        let site = site(seed);
        site.fuse.set(at);
        story(&site);
        if !site.fuse.blown() {
            return usize::try_from(at).expect("a count of points");
        }
        lose_power_or_end(&site, seed);
        let (_, first) = start(&site);
        let founders = first.recovered.entries.len();
        assert!(
            founders > 0,
            "seed {seed}, point {at}: a log without the entries that found the cluster"
        );
        // Whatever this start has read, the next one reads too.
        lose_power(&site);
        let (_, second) = start(&site);
        assert_eq!(first.recovered, second.recovered, "seed {seed}, point {at}");
    }
    unreachable!("a story has an end")
}

fn lose_power_or_end(site: &Site, seed: u64) {
    if seed.is_multiple_of(2) {
        end_process(site);
    } else {
        lose_power(site);
    }
}

#[test]
fn a_new_member_is_founded_or_not_there_at_all() {
    for seed in SEEDS {
        let points = at_every_point(seed, |site| drop(Process::boot(site, 1, 1, &|_, _| BTreeMap::new())));
        assert!(points > 20, "{points} points");
    }
}

#[test]
fn what_an_interrupted_process_left_in_the_log_is_durable_once_it_was_read() {
    for seed in SEEDS {
        let points = at_every_point(seed, |site| {
            if let Ok((mut process, _)) = Process::boot(site, 1, 1, &|_, _| BTreeMap::new()) {
                let _all = (2..5).all(|index| append(&mut process, index));
            }
        });
        assert!(points > 50, "{points} points");
    }
}

#[test]
fn what_a_killed_process_left_in_the_table_is_durable_once_it_was_read() {
    for seed in SEEDS {
        let site = site(seed);
        let (mut process, started) = start(&site);
        assert!(append(&mut process, 2));
        let founding = ConfChange::decode(started.recovered.entries[0].data.clone()).unwrap();
        let founder = ConfChangeContext::from_json(&founding.context).unwrap().member;
        let index = Bytes::copy_from_slice(&2_u64.to_be_bytes());
        process.give_rows(TableTask::Job(TableJob {
            batch: BatchId(1),
            index: 2,
            rows: TableRows::Changed(vec![
                TableOp::put(Bucket::Meta, "consistent_index", index),
                TableOp::put(Bucket::Members, founder.id.to_string(), founder.to_json()),
            ]),
        }));
        assert!(process.rows.run(1));
        end_process(&site);
        assert_eq!(start(&site).1.recovered.applied, 2);
        lose_power(&site);
        assert_eq!(start(&site).1.recovered.applied, 2, "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_left_is_durable_once_it_was_read() {
    for seed in SEEDS {
        let site = site(seed);
        let (mut process, _) = start(&site);
        site.fuse.fail(Failure {
            touch: Touch::Sync,
            spared: 0,
            times: Some(1),
            says: Says::Error(io::ErrorKind::Other),
        });
        assert!(!append(&mut process, 2), "the lane breaks");
        end_process(&site);
        let first = start(&site).1.recovered;
        assert_eq!(first.entries.last().map(|entry| entry.index), Some(2), "it can be read");
        lose_power(&site);
        assert_eq!(start(&site).1.recovered, first, "seed {seed}");
    }
}
