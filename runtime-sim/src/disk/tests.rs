//! The state after a loss of power, the end of a process, and an error.

use std::collections::BTreeSet;

use quoin_runtime::disk::read_all;

use super::*;
use crate::fuse::{Failure, Says};

fn disk_with_file(seed: u64) -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::new(seed, Fuse::default());
    disk.create_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk) -> Option<Vec<u8>> {
    read_all(disk, Path::new("/d/f")).ok()
}

fn sevens(disk: &SimDisk) -> Option<usize> {
    content(disk).map(|bytes| bytes.iter().filter(|byte| **byte == 7).count())
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_loss_of_power() {
    for seed in 0..200 {
        let (disk, mut file) = disk_with_file(seed);
        file.write_at(0, b"kept").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(4, &[1; 4000]).unwrap();
        disk.lose_power();
        assert_eq!(content(&disk).unwrap()[..4], *b"kept", "seed {seed}");
    }
}

#[test]
fn unsynced_bytes_and_names_are_lost_in_some_cases_and_kept_in_others() {
    let run = |seed| {
        let (disk, mut file) = disk_with_file(seed);
        file.write_at(0, &[7; 2048]).unwrap();
        disk.lose_power();
        sevens(&disk)
    };
    let outcomes: BTreeSet<_> = (0..300).map(run).collect();
    let whole_sectors = [None, Some(0), Some(512), Some(1024), Some(1536), Some(2048)];
    assert_eq!(
        outcomes,
        BTreeSet::from(whole_sectors),
        "the name is lost, or some sectors, or none"
    );
}

#[test]
fn sectors_are_halved_where_the_disk_is_such() {
    let run = |seed| {
        let (disk, mut file) = disk_with_file(seed);
        disk.set_model(DiskModel {
            halves_sectors: true,
            ..DiskModel::default()
        });
        file.write_at(0, &[7; 512]).unwrap();
        disk.lose_power();
        sevens(&disk)
    };
    let outcomes: BTreeSet<_> = (0..300).map(run).collect();
    assert!(outcomes.len() > 10, "{outcomes:?}");
}

#[test]
fn the_end_of_a_process_loses_nothing_and_makes_nothing_durable() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, mut file) = disk_with_file(seed);
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(0, &[7; 512]).unwrap();
            disk.end_process();
            file.len().unwrap_err();
            assert_eq!(sevens(&disk), Some(512));
            disk.lose_power();
            sevens(&disk)
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([Some(0), Some(512)]));
}

#[test]
fn nothing_happens_after_the_fuse_has_blown() {
    let (disk, mut file) = disk_with_file(1);
    disk.fuse.set(1);
    file.write_at(0, b"a").unwrap();
    file.write_at(1, b"b").unwrap_err();
    file.sync_data().unwrap_err();
    disk.lose_power();
    disk.fuse.renew();
    file.len().unwrap_err();
}

#[test]
fn a_rename_is_all_or_nothing() {
    for seed in 0..100 {
        let (disk, mut file) = disk_with_file(seed);
        file.write_at(0, b"x").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        disk.lose_power();
        assert_eq!(disk.list(Path::new("/d")).unwrap().len(), 1, "seed {seed}");
    }
}

#[test]
fn a_cut_is_kept_as_a_whole_or_not_at_all() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, mut file) = disk_with_file(seed);
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(0, &[7; 2000]).unwrap();
            file.sync_data().unwrap();
            file.truncate(700).unwrap();
            file.preallocate(2000).unwrap();
            disk.lose_power();
            sevens(&disk)
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([Some(700), Some(2000)]));
}

#[test]
fn a_second_sync_after_a_failed_one_succeeds_and_may_lose_the_bytes() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, mut file) = disk_with_file(seed);
            disk.sync_dir(Path::new("/d")).unwrap();
            file.preallocate(512).unwrap();
            file.sync_data().unwrap();
            file.write_at(0, &[7; 512]).unwrap();
            disk.fuse.fail(Failure {
                touch: Touch::Sync,
                spared: 0,
                times: Some(1),
                says: Says::Error(io::ErrorKind::Other),
            });
            file.sync_data().unwrap_err();
            file.sync_data().unwrap();
            assert_eq!(sevens(&disk), Some(512), "it can still be read");
            disk.lose_power();
            sevens(&disk)
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([Some(0), Some(512)]));
}

#[test]
fn a_struck_write_may_have_written_a_part() {
    let lengths: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, mut file) = disk_with_file(seed);
            let kind = io::ErrorKind::StorageFull;
            disk.fuse.fail(Failure {
                touch: Touch::Write,
                spared: 0,
                times: None,
                says: Says::Error(kind),
            });
            assert_eq!(file.write_at(500, &[7; 600]).unwrap_err().kind(), kind);
            sevens(&disk).unwrap()
        })
        .collect();
    assert_eq!(lengths, BTreeSet::from([0, 12, 524]));
}

#[test]
fn a_fork_goes_its_own_way() {
    let (disk, mut file) = disk_with_file(1);
    file.write_at(0, &[7; 3]).unwrap();
    let fork = disk.fork(Fuse::default());
    file.write_at(3, &[7; 3]).unwrap();
    assert_eq!((sevens(&disk), sevens(&fork)), (Some(6), Some(3)));
}
