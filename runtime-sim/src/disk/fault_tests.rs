//! Every kind of fault of the disk: its effect, and that it is counted exactly when it strikes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::jobs::LogJob;
use quoin_core::member::BatchId;
use quoin_core::node::Done;
use quoin_core::proto::raftpb::{ConfState, Entry, HardState};
use quoin_core::table::{Bucket, TableOp};
use quoin_core::wal::{Identity, Marker, Save, replay, survey};
use quoin_runtime::disk::{read_all, write_atomically};
use quoin_runtime::lanes::Lane as _;
use quoin_runtime::lanes::wal::{LaneContext, Log, open, segments};

use super::*;
use crate::fuse::Says;
use crate::table::SimTable;
use crate::time::Hand;

const DIR: &str = "/d";
const FILE: &str = "/d/f";

/// A disk with a synced file of four sectors, each full of its number, under a synced name.
fn settled(seed: u64) -> (SimDisk, Box<dyn DiskFile>, Struck) {
    let disk = SimDisk::new(seed, Fuse::default());
    let struck = Struck::default();
    disk.set_struck(&struck);
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let mut file = disk.create(Path::new(FILE)).unwrap();
    for sector in 0..4 {
        file.write_at(sector * 512, &[sector as u8 + 1; 512]).unwrap();
    }
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    (disk, file, struck)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    read_all(disk, Path::new(FILE)).unwrap()
}

fn durable(disk: &SimDisk) -> bool {
    disk.is_durable(Path::new(DIR))
}

fn after_outage(loss: Loss, tears: bool, disk: &SimDisk) {
    disk.set_model(DiskModel {
        loss: Some(loss),
        halves_sectors: tears,
        ..DiskModel::default()
    });
    disk.lose_power();
}

/// The kinds counted.
fn counted(struck: &Struck) -> BTreeSet<FaultKind> {
    let all = FaultKind::ALL.iter().copied();
    all.filter(|kind| struck.count(*kind) > 0).collect()
}

fn failure(touch: Touch, says: Says) -> Failure {
    Failure {
        touch,
        spared: 0,
        times: Some(1),
        says,
    }
}

/// The first byte of each sector.
fn firsts(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().step_by(512).copied().collect()
}

#[test]
fn a_loss_of_power_leaves_what_its_kind_says() {
    let outcomes = |loss| -> BTreeSet<Vec<u8>> {
        let lose = |seed| {
            let (disk, mut file, struck) = settled(seed);
            for sector in [2, 0, 3] {
                file.write_at(sector * 512, &[9; 512]).unwrap();
            }
            after_outage(loss, false, &disk);
            let left = firsts(&content(&disk));
            let expected = if left == [9, 2, 9, 9] {
                vec![]
            } else {
                vec![FaultKind::LostSectors]
            };
            assert_eq!(counted(&struck), expected.into_iter().collect(), "{left:?}");
            left
        };
        (0..100).map(lose).collect()
    };
    assert_eq!(outcomes(Loss::Everything), [vec![1, 2, 3, 4]].into());
    assert_eq!(outcomes(Loss::Nothing), [vec![9, 2, 9, 9]].into());
    let prefixes = [vec![1, 2, 3, 4], vec![1, 2, 9, 4], vec![9, 2, 9, 4], vec![9, 2, 9, 9]];
    assert_eq!(outcomes(Loss::Ordered), prefixes.into());
    assert_eq!(outcomes(Loss::Random).len(), 8);
}

#[test]
fn the_sectors_of_a_large_block_share_their_fate_or_are_torn_at_one_byte() {
    for tears in [false, true] {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let (disk, mut file, _) = settled(seed);
            file.preallocate(8_192).unwrap();
            file.sync_data().unwrap();
            // The second block first, and the first one from its end.
            for at in [4_096, 2_048, 0] {
                file.write_at(at, &[9; 2_048]).unwrap();
            }
            disk.set_model(DiskModel {
                blocks: Blocks::Large,
                loss: Some(Loss::Random),
                halves_sectors: tears,
                ..DiskModel::default()
            });
            disk.lose_power();
            let left = content(&disk);
            let kept = [&left[..4_096], &left[4_096..6_144]].map(|block| {
                let kept = block.iter().take_while(|byte| **byte == 9).count();
                assert!(
                    !block[kept..].contains(&9),
                    "seed {seed}: a block is new up to some byte"
                );
                kept
            });
            outcomes.insert(kept);
        }
        let whole = [[0, 0], [0, 2_048], [4_096, 0], [4_096, 2_048]];
        assert_eq!(outcomes == whole.into(), !tears, "{outcomes:?}");
    }
}

#[test]
fn an_ordered_disk_keeps_names_and_bytes_of_several_files_up_to_one_moment() {
    let outcomes: BTreeSet<_> = (0..200)
        .map(|seed| {
            let (disk, mut file, _) = settled(seed);
            file.write_at(0, &[9]).unwrap();
            disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
            disk.create(Path::new("/d/h")).unwrap().write_at(0, &[8]).unwrap();
            after_outage(Loss::Ordered, false, &disk);
            let first = |name: &str| {
                read_all(&disk, &Path::new(DIR).join(name))
                    .ok()
                    .map(|bytes| bytes.first().copied())
            };
            (first("f"), first("g"), first("h"))
        })
        .collect();
    let expected = [
        (Some(Some(1)), None, None),
        (Some(Some(9)), None, None),
        (None, Some(Some(9)), None),
        (None, Some(Some(9)), Some(None)),
        (None, Some(Some(9)), Some(Some(8))),
    ];
    assert_eq!(outcomes, expected.into());
}

#[test]
fn a_torn_sector_is_new_up_to_some_byte() {
    for loss in [Loss::Random, Loss::Ordered] {
        let mut torn = BTreeSet::new();
        for seed in 0..300 {
            let (disk, mut file, struck) = settled(seed);
            file.write_at(512, &[9; 512]).unwrap();
            after_outage(loss, true, &disk);
            let sector = content(&disk)[512..1024].to_vec();
            let new = sector.iter().take_while(|byte| **byte == 9).count();
            assert!(sector[new..].iter().all(|byte| *byte == 2), "seed {seed}");
            let expected = u64::from((1..512).contains(&new));
            assert_eq!(struck.count(FaultKind::TornSector), expected, "seed {seed}: {new}");
            torn.insert(new);
        }
        assert!(torn.len() > 20, "{loss:?} {torn:?}");
    }
}

#[test]
fn a_new_length_may_survive_without_its_content() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, mut file, struck) = settled(seed);
            file.write_at(2048, &[9; 100]).unwrap();
            after_outage(Loss::Random, false, &disk);
            let left = content(&disk);
            let zeros = left.len() == 2148 && left[2048..] == [0; 100];
            assert_eq!(struck.count(FaultKind::ZeroTail) > 0, zeros, "seed {seed}");
            (left.len(), zeros)
        })
        .collect();
    assert_eq!(outcomes, [(2048, false), (2148, true), (2148, false)].into());
}

#[test]
fn names_are_lost_until_their_directory_is_synced() {
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, _, struck) = settled(seed);
            disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
            assert!(!durable(&disk));
            disk.lose_power();
            assert!(durable(&disk));
            let names = disk.peek(Path::new(DIR));
            assert_eq!(struck.count(FaultKind::LostNames), u64::from(names == ["f"]));
            names
        })
        .collect();
    assert_eq!(outcomes, [vec!["f".to_owned()], vec!["g".to_owned()]].into());
    let (disk, _, struck) = settled(1);
    disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.lose_power();
    assert_eq!(
        (disk.peek(Path::new(DIR)), counted(&struck)),
        (vec!["g".to_owned()], [].into())
    );
}

#[test]
fn an_error_strikes_its_calls_and_counts_as_its_kind() {
    type Act = fn(&SimDisk, &mut dyn DiskFile) -> io::Result<()>;
    let acts: [(Touch, Act, bool); 9] = [
        (Touch::Create, |disk, _| disk.create(Path::new("/d/g")).map(drop), true),
        (Touch::Preallocate, |_, file| file.preallocate(9_000), true),
        (Touch::Read, |_, file| file.read_at(0, &mut [0]).map(drop), false),
        (Touch::Remove, |disk, _| disk.remove(Path::new(FILE)), true),
        (
            Touch::Rename,
            |disk, _| disk.rename(Path::new(FILE), Path::new("/d/g")),
            true,
        ),
        (Touch::Sync, |_, file| file.sync_data(), false),
        (Touch::SyncDir, |disk, _| disk.sync_dir(Path::new(DIR)), false),
        (Touch::Truncate, |_, file| file.truncate(1), true),
        (Touch::Write, |_, file| file.write_at(0, &[1]), true),
    ];
    for (touch, act, fills) in acts {
        for error in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            let (disk, mut file, struck) = settled(1);
            let before = content(&disk);
            disk.fail(failure(touch, Says::Error(error)));
            assert_eq!(act(&disk, &mut *file).unwrap_err().kind(), error, "{touch:?}");
            assert_eq!(content(&disk), before, "{touch:?} did nothing");
            let kind = match touch {
                Touch::Read => FaultKind::ReadError,
                Touch::Sync | Touch::SyncDir => FaultKind::SyncError,
                _ if fills && error == io::ErrorKind::StorageFull => FaultKind::NoSpace,
                _ => FaultKind::WriteError,
            };
            assert_eq!((counted(&struck), struck.count(kind)), ([kind].into(), 1), "{touch:?}");
            act(&disk, &mut *file).unwrap();
        }
    }
}

#[test]
fn errors_come_once_or_some_times_or_until_they_are_mended() {
    let run = |spared, times| -> Vec<bool> {
        let (disk, file, _) = settled(1);
        disk.fail(Failure {
            spared,
            times,
            ..failure(Touch::Read, Says::Error(io::ErrorKind::Other))
        });
        let mut read: Vec<bool> = (0..5).map(|_| file.read_at(0, &mut [0]).is_ok()).collect();
        // The end of a process repairs nothing.
        disk.fuse.renew();
        read.push(file.read_at(0, &mut [0]).is_ok());
        disk.fuse.mend();
        read.push(file.read_at(0, &mut [0]).is_ok());
        read
    };
    assert_eq!(run(0, Some(1)), [false, true, true, true, true, true, true]);
    assert_eq!(run(1, Some(3)), [true, false, false, false, true, true, true]);
    assert_eq!(run(2, None), [true, true, false, false, false, false, true]);
    assert_eq!(run(0, Some(0)), [true; 7]);
}

#[test]
fn after_a_failed_sync_only_another_write_makes_the_bytes_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        for says in [Says::Nothing, Says::Error(io::ErrorKind::Other)] {
            let (disk, mut file, struck) = settled(seed);
            file.write_at(0, &[9; 512]).unwrap();
            disk.fail(failure(Touch::Sync, says));
            assert_eq!(file.sync_data().is_ok(), says == Says::Nothing);
            let kind = if says == Says::Nothing {
                FaultKind::SilentSyncError
            } else {
                FaultKind::SyncError
            };
            assert_eq!((counted(&struck), struck.count(kind)), ([kind].into(), 1));
            let reached = durable(&disk);
            file.sync_data().unwrap();
            assert_eq!(durable(&disk), reached, "a second sync does nothing");
            assert_eq!(firsts(&content(&disk)), [9, 2, 3, 4]);
            if seed % 2 == 0 {
                disk.end_process();
                disk.open(Path::new(FILE)).unwrap().write_at(0, &[9; 512]).unwrap();
                assert!(!durable(&disk));
                disk.open(Path::new(FILE)).unwrap().sync_data().unwrap();
                assert!(durable(&disk));
                disk.lose_power();
                assert_eq!(firsts(&content(&disk)), [9, 2, 3, 4], "seed {seed}");
            } else {
                disk.lose_power();
                assert_eq!(firsts(&content(&disk))[0] == 9, reached, "seed {seed}");
                lost += usize::from(!reached);
            }
        }
    }
    assert!(lost > 10, "{lost}");
    let (disk, mut file, struck) = settled(1);
    disk.fail(failure(Touch::Sync, Says::Nothing));
    file.sync_data().unwrap();
    assert_eq!(counted(&struck), [].into(), "there was nothing to lose");
}

#[test]
fn a_silent_error_of_a_directory_leaves_its_names_volatile() {
    let (disk, _, struck) = settled(1);
    disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
    disk.fail(failure(Touch::SyncDir, Says::Nothing));
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert_eq!(
        (durable(&disk), counted(&struck)),
        (false, [FaultKind::SilentSyncError].into())
    );
    // Calls that always report their errors are not struck.
    disk.fail(failure(Touch::Rename, Says::Nothing));
    disk.rename(Path::new("/d/g"), Path::new(FILE)).unwrap();
    assert_eq!(disk.peek(Path::new(DIR)), ["f"]);
    disk.sync_dir(Path::new(DIR)).unwrap();
    assert!(durable(&disk));
}

#[test]
fn content_is_durable_once_its_bytes_and_names_are_synced() {
    let (disk, mut file, _) = settled(1);
    let dir = Path::new(DIR);
    assert!(durable(&disk) && !disk.is_durable(Path::new("/x")));
    let mut step = |what: &str, now: bool, act: &mut dyn FnMut(&mut dyn DiskFile)| {
        act(&mut *file);
        assert_eq!(durable(&disk), now, "{what}");
    };
    step("written", false, &mut |file| file.write_at(7, &[9]).unwrap());
    step("synced", true, &mut |file| file.sync_data().unwrap());
    step("longer", false, &mut |file| file.preallocate(9_000).unwrap());
    step("synced", true, &mut |file| file.sync_data().unwrap());
    step("cut", false, &mut |file| file.truncate(600).unwrap());
    step("synced", true, &mut |file| file.sync_data().unwrap());
    step("beside", true, &mut |_| {
        disk.create(&dir.join("n.tmp")).unwrap().write_at(0, &[1]).unwrap();
    });
    step("named, not synced", false, &mut |_| {
        disk.rename(&dir.join("n.tmp"), &dir.join("n")).unwrap();
    });
    step("named only", false, &mut |_| disk.sync_dir(dir).unwrap());
    step("removed", true, &mut |_| disk.remove(&dir.join("n")).unwrap());
    step("written atomically", true, &mut |_| {
        write_atomically(&disk, dir, "a", b"x").unwrap();
    });
    step("below another name", false, &mut |_| {
        disk.rename(dir, Path::new("/e")).unwrap();
        disk.rename(Path::new("/e"), dir).unwrap();
    });
    step("named again", true, &mut |_| disk.sync_dir(Path::new("/")).unwrap());
}

/// Whatever is reported durable survives every loss of power, whatever was done before.
#[test]
fn nothing_durable_is_ever_lost() {
    let mut kept = 0;
    for seed in 0..400 {
        let (disk, mut file, _) = settled(seed);
        let mut prng = quoin_core::random::Prng::new(seed);
        for _ in 0..prng.below(30) {
            let at = prng.below(6_000);
            match prng.below(7) {
                0 | 1 => file.write_at(at, &vec![prng.below(256) as u8; 700]).unwrap(),
                2 => file.sync_data().unwrap(),
                3 => file.truncate(at).unwrap(),
                4 => file.preallocate(at).unwrap(),
                5 => disk.fail(failure(Touch::Sync, Says::Nothing)),
                _ => drop(disk.rot(Target::Any, Rot::FlippedBit, Path::new("/"))),
            }
        }
        let (before, is_durable) = (content(&disk), durable(&disk));
        disk.lose_power();
        if is_durable {
            kept += 1;
            assert_eq!(content(&disk), before, "seed {seed}");
        }
    }
    assert!(kept > 20, "{kept}");
}

fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    assert_eq!(before.len(), after.len());
    (0..before.len()).filter(|at| before[*at] != after[*at]).collect()
}

#[test]
fn rot_changes_the_bytes_it_reports_and_is_durable_and_counted() {
    for seed in 0..40 {
        for rot in Rot::ALL {
            let (disk, mut file, struck) = settled(seed);
            file.write_at(512, &[7; 512]).unwrap();
            file.sync_data().unwrap();
            let before = content(&disk);
            let hit = disk.rot(Target::Any, rot, Path::new("/")).unwrap();
            let after = content(&disk);
            let changed = changed(&before, &after);
            let within = |at: &usize| {
                let at = *at as u64;
                hit.bytes.contains(&at) || hit.other.iter().any(|(_, bytes)| bytes.contains(&at))
            };
            assert!(!changed.is_empty() && changed.iter().all(within), "{hit}: {changed:?}");
            match rot {
                Rot::FlippedBit => assert_eq!((before[changed[0]] ^ after[changed[0]]).count_ones(), 1),
                Rot::SmearedBytes => assert_eq!(changed.len() as u64, hit.bytes.end - hit.bytes.start),
                Rot::StaleSector => assert!(hit.bytes == (512..1024) && after[512] == 2 || after[changed[0]] == 0),
                Rot::SwappedSectors => {
                    let (mut old, mut new) = (firsts(&before), firsts(&after));
                    assert_eq!(changed.len(), 1024);
                    old.sort_unstable();
                    new.sort_unstable();
                    assert_eq!(old, new);
                }
                Rot::ZeroedSector => assert!(changed.len() == 512 && after[changed[0]] == 0),
            }
            assert_eq!((counted(&struck), struck.count(rot.kind())), ([rot.kind()].into(), 1));
            assert!(durable(&disk));
            disk.lose_power();
            assert_eq!(content(&disk), after, "{hit}");
        }
    }
}

#[test]
fn rot_finds_nothing_where_there_is_nothing_to_rot() {
    let path = Path::new(FILE);
    let (disk, mut file, struck) = settled(1);
    for rot in Rot::ALL {
        assert_eq!(disk.rot(Target::Any, rot, Path::new("/elsewhere")), None);
        assert_eq!(disk.rot(Target::WalBody, rot, Path::new("/")), None);
        assert_eq!(disk.rot_at(path, 5_000, rot), None, "behind the end");
    }
    file.write_at(0, &[9; 512]).unwrap();
    assert_eq!(disk.rot_at(path, 3, Rot::FlippedBit), None, "about to be written");
    file.write_at(0, &[0; 512]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.rot_at(path, 3, Rot::ZeroedSector), None, "zero already");
    assert_eq!(counted(&struck), [].into());
    assert_eq!(disk.rot_at(path, 3, Rot::StaleSector).unwrap().bytes, 0..512);
    assert_eq!(disk.rot_at(path, 515, Rot::FlippedBit).unwrap().bytes, 515..516);
    assert_eq!(disk.rot_at(path, 3, Rot::SwappedSectors).unwrap().bytes, 0..512);
}

#[test]
fn calls_cost_time_that_slowness_and_stalls_lengthen() {
    let (disk, mut file, struck) = settled(1);
    let ms = Duration::from_millis;
    let now = Instant::ZERO + ms(1_000);
    disk.take_cost(now);
    assert_eq!(disk.take_cost(now), Duration::ZERO);
    let mut cost = |now| {
        file.write_at(0, &[1]).unwrap();
        file.sync_data().unwrap();
        disk.take_cost(now)
    };
    assert!((Duration::from_micros(200)..ms(3)).contains(&cost(now)));
    disk.set_slow(1_000, Duration::ZERO);
    assert!((ms(200)..ms(3_000)).contains(&cost(now)));
    disk.set_slow(1, ms(1_000));
    let total: Duration = (0..100).map(|_| cost(now)).sum();
    assert!((ms(150_000)..ms(250_000)).contains(&total), "{total:?}");
    assert_eq!(
        (counted(&struck), struck.count(FaultKind::SlowDisk)),
        ([FaultKind::SlowDisk].into(), 101)
    );
    disk.set_slow(1, Duration::ZERO);
    disk.set_stall(now + ms(60_000));
    assert_eq!(disk.delay().stalled_until, now + ms(60_000));
    assert!(cost(now + ms(50_000)) > ms(10_000));
    assert!(cost(now + ms(60_000)) < ms(3));
    assert_eq!(
        (struck.count(FaultKind::SlowDisk), struck.count(FaultKind::StalledDisk)),
        (101, 1)
    );
}

#[test]
fn a_lost_disk_is_empty_and_a_backup_brings_back_what_was() {
    let (disk, mut file, struck) = settled(1);
    let table = SimTable::new(1, Fuse::default());
    let row = |value: &'static str| [TableOp::put(Bucket::Key, "k", value)];
    let rows = |table: &SimTable| -> Vec<Bytes> {
        let opened = table.open(&disk, Path::new("/d/t")).unwrap();
        opened.scan(Bucket::Key).map(|row| row.unwrap().1).collect()
    };
    table
        .open(&disk, Path::new("/d/t"))
        .unwrap()
        .write(&row("old"))
        .unwrap();
    file.write_at(0, &[9]).unwrap();
    let backup = Backup::take(&disk, &table);
    file.write_at(0, &[8]).unwrap();
    table
        .open(&disk, Path::new("/d/t"))
        .unwrap()
        .write(&row("new"))
        .unwrap();
    disk.wipe();
    file.len().unwrap_err();
    assert!(disk.peek(Path::new("/")).is_empty() && rows(&table).is_empty());
    backup.restore(&disk, &table);
    assert_eq!(counted(&struck), [FaultKind::LostDisk, FaultKind::OldBackup].into());
    assert!(durable(&disk) && table.is_durable());
    disk.lose_power();
    table.lose_power();
    assert_eq!(
        (firsts(&content(&disk)), rows(&table)),
        (vec![9, 2, 3, 4], vec![Bytes::from("old")])
    );
    let other = SimDisk::new(1, Fuse::default());
    other.wipe();
    assert_eq!(other.peek(Path::new("/")), Vec::<String>::new());
}

/// A log with some entries, in several segments, and a snapshot.
fn log(seed: u64) -> (SimDisk, Log, Struck) {
    let disk = SimDisk::new(seed, Fuse::default());
    let struck = Struck::default();
    disk.set_struck(&struck);
    disk.create_dir(Path::new("/m/snap")).unwrap();
    for dir in ["/", "/m"] {
        disk.sync_dir(Path::new(dir)).unwrap();
    }
    let keep = LaneContext {
        snap_dir: "/m/snap".into(),
        max_wals: 0,
        max_snapshots: 0,
        segment_bytes: 4_096,
        unsafe_no_fsync: false,
        clock: Arc::new(Hand::default()),
        report: Arc::new(|_: Done| {}),
        observe: Arc::new(|_| {}),
    };
    let identity = Identity {
        member: MemberId(1),
        cluster: ClusterId(2),
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = Log::create(shared, Path::new("/m/wal"), identity, &Save::default(), keep).unwrap();
    for index in 1..30 {
        save(&mut log, index);
    }
    let marker = Marker {
        index: 20,
        term: 1,
        conf_state: Some(ConfState::default()),
    };
    let save = Save {
        marker: Some(marker),
        ..Save::default()
    };
    let (batch, sync) = (BatchId(1), true);
    log.run(&mut vec![LogJob { batch, save, sync }]).unwrap();
    (disk, log, struck)
}

fn save(log: &mut Log, index: u64) {
    let entry = Entry {
        index,
        term: 1,
        data: Bytes::from(vec![7; 300]),
        ..Entry::default()
    };
    let state = HardState {
        term: 1,
        vote: 1,
        commit: index - 1,
    };
    log.save([&Save {
        marker: None,
        entries: vec![entry],
        state: Some(state),
    }])
    .unwrap();
}

/// The log as a start reads it; `None` if it refuses.
fn found(disk: &SimDisk) -> Option<(Vec<Entry>, HardState, Identity)> {
    let dir = Path::new("/m/wal");
    disk.end_process();
    let names = segments(disk, dir).unwrap();
    survey(open(disk, dir, &names).unwrap()).ok()?;
    disk.end_process();
    let found = replay(open(disk, dir, &names).unwrap(), &Marker::default()).ok()?;
    Some((found.entries, found.hard_state, found.identity))
}

#[test]
fn the_log_is_durable_whenever_its_lane_says_so() {
    let (disk, mut log, _) = log(1);
    let dir = Path::new("/m/wal");
    assert!(disk.is_durable(dir) && disk.is_durable(Path::new("/m/snap")));
    for index in 30..60 {
        save(&mut log, index);
        assert!(disk.is_durable(dir), "{index}");
    }
    let mut lied = 0;
    for _ in 0..20 {
        disk.fail(failure(Touch::Sync, Says::Nothing));
        save(&mut log, 60);
        lied += usize::from(!disk.is_durable(dir));
    }
    assert!(lied > 10, "{lied}");
}

/// The reader of the log finds rot of every kind, or it does no harm (to the length of a batch, which only
/// distinguishes torn writes); except for lost sectors at the very end, which look like a torn write.
#[test]
fn rot_of_the_log_is_aimed_well_and_found() {
    let whole = found(&log(0).0).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        for (target, rot) in Target::ALL
            .into_iter()
            .flat_map(|target| Rot::ALL.map(|rot| (target, rot)))
        {
            let (disk, _, struck) = log(seed);
            let Some(hit) = disk.rot(target, rot, Path::new("/m")) else {
                assert!(
                    target == Target::Snapshot && rot == Rot::SwappedSectors,
                    "{target:?} {rot:?}"
                );
                continue;
            };
            assert_eq!(counted(&struck), [rot.kind()].into());
            let is_log = hit.path.starts_with("/m/wal");
            match target {
                Target::Any => {}
                Target::Snapshot => assert!(!is_log),
                Target::HardState | Target::WalBody | Target::WalEnd => assert!(is_log),
                Target::WalHeader => assert!(is_log && hit.bytes.start < 512),
            }
            let outcome = match found(&disk) {
                _ if !is_log => "a snapshot",
                None => "refused",
                Some(left) if left == whole => "harmless",
                Some(_) if hit.at_tail => "torn",
                Some(_) => panic!("seed {seed}: {hit} is taken for a torn write"),
            };
            outcomes.insert(outcome);
        }
    }
    assert_eq!(outcomes, ["a snapshot", "harmless", "refused", "torn"].into());
}

/// The disk must not dominate the time of a simulation; the figures are for those who change it.
#[test]
#[ignore = "prints times, for `--release -- --ignored --nocapture`"]
fn how_long_calls_take() {
    let (disk, mut file, _) = settled(1);
    let dir = Path::new("/d");
    let rounds = 1_000_000_u64;
    let measure = |what: &str, act: &mut dyn FnMut(u64)| {
        let begun = quoin_runtime::clock::Clock::new();
        (0..rounds).for_each(&mut *act);
        let took = begun.now().saturating_since(Instant::ZERO);
        println!("{what}: {} ns", took.as_nanos() / u128::from(rounds));
    };
    file.preallocate(65_536).unwrap();
    measure("write of 200 bytes, sync", &mut |round| {
        file.write_at(round * 200 % 65_000, &[7; 200]).unwrap();
        file.sync_data().unwrap();
    });
    measure("write of 200 bytes", &mut |round| {
        file.write_at(round * 200 % 65_000, &[7; 200]).unwrap()
    });
    let table = SimTable::new(1, Fuse::default());
    let mut rows = table.open(&disk, Path::new("/d/t")).unwrap();
    let row = |round: u64| {
        TableOp::put(
            Bucket::Key,
            (round % 1_000).to_be_bytes().to_vec(),
            Bytes::from_static(&[7; 50]),
        )
    };
    measure("write of two rows to the table, measured", &mut |round| {
        rows.write(&[row(round), row(round / 2)]).unwrap();
        rows.size_bytes().unwrap();
        if round % 100 == 0 {
            rows.sync().unwrap();
        }
    });
    measure("is it durable?", &mut |_| assert!(!disk.is_durable(dir)));
}
