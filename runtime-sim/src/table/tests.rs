//! The content of a table after a loss of power, errors of the disk, and damage.

use super::*;
use crate::fuse::{Failure, Says};

/// A table and a process that has it open.
fn table(seed: u64, model: TableModel) -> (SimTable, Box<dyn Table>) {
    let fuse = Fuse::default();
    let disk = SimDisk::new(seed, fuse.clone());
    let table = SimTable::new(seed, fuse);
    table.set_model(model);
    let opened = table.open(&disk, Path::new("/t")).unwrap();
    (table, opened)
}

fn batch(number: u8) -> Vec<TableOp> {
    let row = |row| TableOp::put(Bucket::Key, Bytes::from(vec![row]), Bytes::from(vec![number]));
    (0..3).map(row).collect()
}

fn values(opened: &dyn Table) -> Vec<u8> {
    opened.scan(Bucket::Key).map(|row| row.unwrap().1[0]).collect()
}

#[test]
fn a_loss_of_power_keeps_what_was_synced_and_whole_batches_after_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (table, mut opened) = table(seed, TableModel::default());
        opened.write(&batch(1)).unwrap();
        opened.sync().unwrap();
        opened.write(&batch(2)).unwrap();
        opened.write(&batch(3)).unwrap();
        assert_eq!(values(&*opened), [3; 3]);
        table.lose_power();
        outcomes.insert(values(&*opened));
    }
    assert_eq!(outcomes, [vec![1; 3], vec![2; 3], vec![3; 3]].into());
}

#[test]
fn a_table_that_lies_forgets_or_tears() {
    let left = |model, syncs| -> BTreeSet<usize> {
        let lose = |seed| {
            let (table, mut opened) = table(seed, model);
            opened.write(&batch(1)).unwrap();
            if syncs {
                opened.sync().unwrap();
            }
            table.lose_power();
            values(&*opened).len()
        };
        (0..50).map(lose).collect()
    };
    let (honest, forgets, tears) = (
        TableModel::default(),
        TableModel {
            forgets: true,
            ..TableModel::default()
        },
        TableModel {
            tears_batches: true,
            ..TableModel::default()
        },
    );
    assert_eq!(left(honest, true), BTreeSet::from([3]));
    assert_eq!(left(honest, false), BTreeSet::from([0, 3]));
    assert_eq!(left(forgets, true), BTreeSet::from([0, 3]));
    assert_eq!(left(tears, false), BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn the_table_is_where_its_directory_is() {
    let fuse = Fuse::default();
    let disk = SimDisk::new(1, fuse.clone());
    let table = SimTable::new(1, fuse);
    let path = Path::new("/t");
    assert!(table.open(&disk, path).is_ok() && !exists(&disk, path).unwrap());
    table.open(&disk, path).unwrap().write(&batch(1)).unwrap();
    assert!(exists(&disk, path).unwrap());
    assert_eq!(values(&*table.open(&disk, path).unwrap()).len(), 3);
    disk.remove_dir(path).unwrap();
    assert_eq!(values(&*table.open(&disk, path).unwrap()).len(), 0);
}

/// A table with counters, and a process that has it open.
fn counting(seed: u64) -> (SimTable, Box<dyn Table>, Struck) {
    let (table, opened) = table(seed, TableModel::default());
    let struck = Struck::default();
    table.set_struck(&struck);
    (table, opened, struck)
}

fn failure(touch: Touch, says: Says) -> Failure {
    Failure {
        touch,
        spared: 0,
        times: Some(1),
        says,
    }
}

#[test]
fn errors_of_the_table_count_and_change_nothing() {
    let full = Says::Error(io::ErrorKind::StorageFull);
    let broken = Says::Error(io::ErrorKind::Other);
    let cases = [
        (Touch::TableWrite, full, FaultKind::NoSpace),
        (Touch::TableWrite, broken, FaultKind::WriteError),
        (Touch::TableRead, broken, FaultKind::ReadError),
        (Touch::TableSync, full, FaultKind::SyncError),
    ];
    for (touch, says, kind) in cases {
        let (table, mut opened, struck) = counting(1);
        opened.write(&batch(1)).unwrap();
        table.fuse.fail(failure(touch, says));
        let failed = match touch {
            Touch::TableWrite => opened.write(&batch(2)).is_err(),
            Touch::TableSync => opened.sync().is_err(),
            _ => opened.scan(Bucket::Key).next().unwrap().is_err(),
        };
        assert!(failed && struck.count(kind) == 1, "{touch:?}");
        assert_eq!(values(&*opened), [1; 3]);
        opened.sync().unwrap();
        table.lose_power();
        assert_eq!(
            (values(&*opened), struck.count(FaultKind::LostSectors)),
            (vec![1; 3], 0)
        );
    }
}

#[test]
fn behind_a_sync_that_failed_in_silence_nothing_is_durable_until_the_table_is_rewritten() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (table, mut opened, struck) = counting(seed);
        let cleans = seed % 2 == 0;
        table.set_model(TableModel {
            cleans_pages: cleans,
            ..TableModel::default()
        });
        opened.write(&batch(1)).unwrap();
        opened.sync().unwrap();
        assert!(table.is_durable());
        opened.write(&batch(2)).unwrap();
        opened.write(&batch(3)).unwrap();
        let (says, kind) = if cleans {
            (Says::Error(io::ErrorKind::Other), FaultKind::SyncError)
        } else {
            (Says::Nothing, FaultKind::SilentSyncError)
        };
        table.fuse.fail(failure(Touch::TableSync, says));
        assert_eq!((opened.sync().is_err(), struck.count(kind)), (cleans, 1));
        let reached = table.is_durable();
        opened.write(&batch(4)).unwrap();
        opened.sync().unwrap();
        assert_eq!(table.is_durable(), reached, "seed {seed}");
        assert_eq!(values(&*opened), [4; 3]);
        if seed % 3 == 0 {
            opened.defragment().unwrap();
            assert!(table.is_durable());
        }
        let is_durable = table.is_durable();
        table.lose_power();
        let left = values(&*opened);
        assert_eq!(left == [4; 3], is_durable, "seed {seed}");
        assert_eq!(struck.count(FaultKind::LostSectors), u64::from(!is_durable));
        outcomes.insert(left);
        assert!(table.is_durable());
    }
    assert_eq!(outcomes, [vec![1; 3], vec![2; 3], vec![4; 3]].into());
}

#[test]
fn a_table_whose_sync_reported_a_failure_is_durable_once_it_is_opened_again() {
    let mut strayed = 0;
    for seed in 0..50 {
        let fuse = Fuse::default();
        let disk = SimDisk::new(seed, fuse.clone());
        let table = SimTable::new(seed, fuse);
        table.set_model(TableModel {
            cleans_pages: true,
            ..TableModel::default()
        });
        let mut opened = table.open(&disk, Path::new("/t")).unwrap();
        opened.write(&batch(1)).unwrap();
        table
            .fuse
            .fail(failure(Touch::TableSync, Says::Error(io::ErrorKind::Other)));
        assert!(opened.sync().is_err());
        strayed += u32::from(!table.is_durable());
        let mut opened = table.open(&disk, Path::new("/t")).unwrap();
        assert!(table.is_durable());
        opened.write(&batch(2)).unwrap();
        opened.sync().unwrap();
        table.lose_power();
        assert_eq!(values(&*opened), [2; 3]);
    }
    assert!(strayed > 10);
}

#[test]
fn rows_rot_where_they_are_durable() {
    for seed in 0..50 {
        for rot in RowRot::ALL {
            let (table, mut opened, struck) = counting(seed);
            assert_eq!(table.rot(rot, None), None);
            opened.write(&batch(1)).unwrap();
            assert_eq!(table.rot(rot, None), None, "not durable yet");
            opened.sync().unwrap();
            assert_eq!(table.rot(rot, Some(Bucket::Meta)), None);
            assert_eq!(struck.count(rot.kind()), 0);
            let before = table.content();
            let hit = table.rot(rot, Some(Bucket::Key)).unwrap();
            assert_eq!(struck.count(rot.kind()), 1);
            table.lose_power();
            let after = table.content();
            let row = (hit.bucket, hit.key.clone());
            match rot {
                RowRot::FlippedKey => assert!(!after.contains_key(&row) || after.len() < before.len(), "{hit}"),
                RowRot::FlippedValue => {
                    assert_eq!((before[&row][0] ^ after[&row][0]).count_ones(), 1, "{hit}");
                }
                RowRot::Lost => assert!(!after.contains_key(&row) && after.len() == 2, "{hit}"),
            }
        }
    }
}

#[test]
fn damage_of_every_kind_changes_one_bucket_and_counts() {
    let kinds = FaultKind::ALL.iter().filter(|kind| kind.family() == "table");
    for (seed, kind) in (0..20).flat_map(|seed| kinds.clone().map(move |kind| (seed, *kind))) {
        let fuse = Fuse::default();
        let disk = SimDisk::new(seed, fuse.clone());
        let (table, struck) = (SimTable::new(seed, fuse), Struck::default());
        table.set_struck(&struck);
        assert_eq!(table.damage(kind), None, "there is nothing in it");
        for number in 1..=2 {
            let mut opened = table.open(&disk, Path::new("/t")).unwrap();
            opened.write(&batch(number)).unwrap();
            opened.write(&[TableOp::put(Bucket::Meta, "m", "v")]).unwrap();
            opened.sync().unwrap();
        }
        let before = table.content();
        let said = table.damage(kind).unwrap();
        let after = table.content();
        let of = |rows: &Content, bucket| rows.iter().filter(|((of, _), _)| *of == bucket).count();
        assert!(after != before && struck.count(kind) == 1, "{kind:?}: {said}");
        match kind {
            FaultKind::LostBucket => assert!(of(&after, Bucket::Key) == 0 || of(&after, Bucket::Meta) == 0),
            FaultKind::OldBucket => assert!(after.values().filter(|value| value[..] == [1]).count() == 3),
            _ => assert!(before.len() - after.len() <= 1),
        }
    }
}

#[test]
fn the_size_of_the_table_is_that_of_its_rows() {
    let (table, mut opened, _) = counting(1);
    let put = |key: &'static str, value: &'static str| TableOp::put(Bucket::Key, key, value);
    opened.write(&[put("a", "1234"), put("bb", "")]).unwrap();
    opened.sync().unwrap();
    opened
        .write(&[put("a", "1"), TableOp::delete(Bucket::Key, "bb")])
        .unwrap();
    assert_eq!(opened.size_bytes().unwrap(), 2);
    let mut sizes = BTreeSet::new();
    for _ in 0..20 {
        opened.write(&[put("ccc", "1")]).unwrap();
        table.lose_power();
        sizes.insert(opened.size_bytes().unwrap());
        let sum: usize = table
            .content()
            .iter()
            .map(|((_, key), value)| key.len() + value.len())
            .sum();
        assert_eq!(opened.size_bytes().unwrap(), sum as u64);
    }
    assert!(sizes.len() > 1, "{sizes:?}");
}

#[test]
fn a_slow_table_takes_longer() {
    let (table, mut opened, struck) = counting(1);
    let mut cost = || {
        opened.write(&batch(1)).unwrap();
        opened.sync().unwrap();
        table.take_cost(Instant::ZERO)
    };
    assert!(cost() < Duration::from_millis(3));
    table.set_slow(1_000, Duration::ZERO);
    assert!(cost() > Duration::from_millis(200));
    table.set_stall(Instant::ZERO + Duration::from_secs(60));
    assert!(cost() > table.delay().stalled_until.saturating_since(Instant::ZERO));
    let counts = [FaultKind::SlowDisk, FaultKind::StalledDisk].map(|kind| struck.count(kind));
    assert_eq!(counts, [2, 1]);
}
