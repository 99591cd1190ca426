//! Every kind of damage to a log, at every place: what is cut off as torn, and what is refused.

use prost::Message as _;

use super::frame::{Encoder, Kind};
use super::tests::{Disk, Log, entry, sample, state};
use super::*;
use crate::error::Fault;

/// Asserts that `damaged` gives a prefix of the truth, or an error that names one of its files.
fn assert_prefix_or_place(truth: &Replay, damaged: &Disk, what: &str) {
    match damaged.replay() {
        Ok(replay) => {
            assert!(truth.entries.starts_with(&replay.entries), "{what}: other entries");
            assert!(replay.hard_state.commit <= truth.hard_state.commit, "{what}");
        }
        Err(Fault::Corrupt { file, .. }) => {
            assert!(
                damaged.files.iter().any(|(name, _)| name.to_string() == file),
                "{what}: {file}"
            );
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn a_cut_at_any_byte_leaves_a_prefix_or_is_an_error_with_its_place() {
    let disk = sample();
    let truth = disk.replay().unwrap();
    for file in 0..disk.files.len() {
        let is_last = file + 1 == disk.files.len();
        for length in 0..disk.files[file].1.len() {
            let mut damaged = disk.clone();
            damaged.files[file].1.truncate(length);
            let what = format!("file {file} cut to {length}");
            assert_prefix_or_place(&truth, &damaged, &what);
            if is_last && length >= 200 {
                assert!(
                    damaged.replay().is_ok(),
                    "{what}: after the head a short file is a torn one"
                );
            }
            if !is_last {
                assert!(damaged.replay().is_err(), "{what}: no crash cuts a finished segment");
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_harmless_or_an_error_with_its_place_and_never_shortens_the_log() {
    let disk = sample();
    let truth = disk.replay().unwrap();
    for file in 0..disk.files.len() {
        for bit in 0..disk.files[file].1.len() * 8 {
            let mut damaged = disk.clone();
            damaged.files[file].1[bit / 8] ^= 1 << (bit % 8);
            match damaged.replay() {
                Ok(replay) => {
                    assert_eq!(replay.entries, truth.entries, "file {file} bit {bit}");
                    assert_eq!(replay.hard_state, truth.hard_state, "file {file} bit {bit}");
                    assert_eq!(replay.identity, truth.identity, "file {file} bit {bit}");
                }
                Err(Fault::Corrupt { offset, .. }) => {
                    assert!(offset <= disk.files[file].1.len() as u64, "file {file} bit {bit}");
                }
                Err(other) => panic!("file {file} bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn loss_of_any_sectors_of_the_last_batch_is_a_torn_tail() {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 300)], state(1, 1));
    let before = log.disk.clone();
    let durable = before.replay().unwrap().entries;
    let entries = [
        entry(1, 2, 100),
        entry(1, 3, 900),
        entry(1, 4, 1),
        entry(1, 5, 1300),
        entry(1, 6, 40),
    ];
    log.save(&entries, state(1, 3));
    let after = log.disk;
    let truth = after.replay().unwrap().entries;
    let sectors = after.files[0].1.len().div_ceil(512);
    let changed: Vec<_> = (0..sectors)
        .filter(|sector| sector_of(&before, *sector) != sector_of(&after, *sector))
        .collect();
    assert!((6..=8).contains(&changed.len()), "{changed:?}");
    for subset in 0_u32..1 << changed.len() {
        let mut damaged = after.clone();
        for (number, sector) in changed
            .iter()
            .enumerate()
            .filter(|(number, _)| subset >> number & 1 == 1)
        {
            let old = sector_of(&before, *sector);
            let start = sector * 512;
            damaged.files[0].1[start..start + old.len()].copy_from_slice(&old);
            assert!(number < changed.len());
        }
        let replay = damaged
            .replay()
            .unwrap_or_else(|fault| panic!("subset {subset:b}: {fault}"));
        assert!(
            replay.entries.starts_with(&durable) && truth.starts_with(&replay.entries),
            "subset {subset:b}"
        );
        assert_eq!(
            subset == 0,
            replay.tail.torn.is_none() && replay.entries == truth,
            "subset {subset:b}"
        );

        let mut again = Log::resume(damaged);
        let next = replay.entries.len() as u64 + 1;
        again.save(&[entry(2, next, 700)], state(2, 3));
        let replayed = again
            .disk
            .replay()
            .unwrap_or_else(|fault| panic!("subset {subset:b}: {fault}"));
        assert_eq!(replayed.entries.last().unwrap().term, 2, "subset {subset:b}");
        assert_eq!(replayed.entries.len() as u64, next, "subset {subset:b}");
    }
}

/// One sector of the last file as it is read; zeros after its end.
fn sector_of(disk: &Disk, sector: usize) -> Vec<u8> {
    let file = &disk.files.last().unwrap().1;
    let bytes = file.iter().copied().chain(std::iter::repeat(0));
    bytes.skip(sector * 512).take(512).collect()
}

#[test]
fn a_sector_lost_before_the_last_batch_is_rot() {
    let mut log = Log::create();
    for index in 1..=8 {
        log.save(&[entry(1, index, 90 * index as usize)], state(1, index));
    }
    let durable = log.writer.offset();
    log.save(&[entry(1, 9, 2000)], state(1, 8));
    for sector in 0..durable as usize / 512 {
        let mut damaged = log.disk.clone();
        damaged.files[0].1[sector * 512..][..512].fill(0);
        let fault = damaged.replay().expect_err("an acknowledged entry is gone");
        let Fault::Corrupt { offset, .. } = fault else {
            panic!("{fault}")
        };
        assert!(offset < (sector as u64 + 1) * 512, "sector {sector}: found at {offset}");
    }
}

#[test]
fn records_that_etcd_appended_have_no_batches_and_are_cut_only_at_the_end() {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 40)], state(1, 1));
    let mut bytes = Vec::new();
    let mut offset = log.writer.offset() as usize;
    let mut encoder = Encoder::new(log.disk.replay().unwrap().tail.checksum);
    let mut ends = Vec::new();
    for index in 2..=4 {
        encoder.record(Kind::Entry, &entry(1, index, 1200).encode_to_vec(), &mut bytes);
        ends.push(offset + bytes.len());
    }
    log.disk.append(offset as u64, &bytes);
    assert_eq!(log.disk.replay().unwrap().entries.len(), 4);
    for (number, end) in ends.into_iter().enumerate() {
        let mut damaged = log.disk.clone();
        let sector = (offset / 512 + 1) * 512;
        damaged.files[0].1[sector..sector + 512].fill(0);
        let result = damaged.replay();
        if number == 2 {
            let replay = result.unwrap();
            assert_eq!(replay.entries.len(), 3);
            assert_eq!(replay.tail.torn, Some("a sector of it was never written"));
        } else {
            assert!(result.is_err(), "entry {} is followed by another", number + 2);
        }
        offset = end;
    }
}

#[test]
fn records_that_contradict_each_other_are_an_error_with_their_place() {
    let base = {
        let mut log = Log::create();
        log.save(&[entry(2, 1, 1), entry(2, 2, 1)], state(2, 1));
        log
    };
    let cases: [(Kind, Vec<u8>, &str); 10] = [
        (
            Kind::Entry,
            entry(2, 4, 1).encode_to_vec(),
            "its entry has index 4, but the log before it ends at index 2",
        ),
        (
            Kind::Entry,
            entry(2, 1, 1).encode_to_vec(),
            "its entry replaces committed index 1",
        ),
        (
            Kind::Entry,
            entry(1, 3, 1).encode_to_vec(),
            "its entry has term 1 after one of term 2",
        ),
        (
            Kind::Entry,
            state(2, 3).encode_to_vec(),
            "no member writes an entry of type 2",
        ),
        (Kind::Entry, vec![0xff], "its entry does not decode"),
        (Kind::State, entry(2, 3, 0).encode_to_vec(), "its hard state has term 0"),
        (
            Kind::State,
            state(1, 1).encode_to_vec(),
            "its hard state (term 1, commit 1) is older than the one before (term 2, commit 1)",
        ),
        (
            Kind::State,
            entry(2, 3, 1).encode_to_vec(),
            "its hard state does not decode",
        ),
        (Kind::Metadata, vec![], "its metadata differ from those before"),
        (Kind::Checksum, vec![1], "its checksum does not match"),
    ];
    for (kind, data, cause) in cases {
        let mut disk = base.disk.clone();
        let offset = base.writer.offset();
        let mut bytes = Vec::new();
        Encoder::new(disk.replay().unwrap().tail.checksum).record(kind, &data, &mut bytes);
        disk.append(offset, &bytes);
        let fault = disk.replay().expect_err(cause).to_string();
        let place = format!("0000000000000000-0000000000000000.wal is corrupt at offset {offset}: {cause}");
        assert!(fault.starts_with(&place), "{fault}");
    }
}
