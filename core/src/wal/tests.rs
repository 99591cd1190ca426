//! The log as a whole: etcd's bytes, round trips, and the logs of typical histories.

use bytes::Bytes;

use super::frame::{Encoder, Extent, Header, Kind};
use super::*;
use crate::error::Fault;
use crate::id::{ClusterId, MemberId};
use crate::proto::raftpb::{Entry, HardState};
use crate::random::Prng;

const IDENTITY: Identity = Identity {
    member: MemberId(0x6678_8015),
    cluster: ClusterId(0xdc50_b8da),
};

/// A log on a disk: its files, the last of them preallocated.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) files: Vec<(SegmentName, Vec<u8>)>,
}

#[test]
fn the_first_record_shows_whether_etcd_began_a_segment() {
    let mut ours = Vec::new();
    let mut writer = Writer::create(IDENTITY, &mut ours);
    let mut next = Vec::new();
    writer.cut(&mut next);
    let mut etcds = Vec::new();
    Encoder::new(0).checksum_record(None, &mut etcds);
    Encoder::new(0).record(Kind::Metadata, b"payload", &mut etcds);
    let is_etcds = |bytes: &[u8]| begun_by_etcd(&Bytes::copy_from_slice(&bytes[..bytes.len().min(HEAD_BYTES)]));
    assert!(is_etcds(&etcds));
    assert!(!is_etcds(&ours) && !is_etcds(&next));
    for torn in [&b""[..], b"short", &[0; HEAD_BYTES], &etcds[..9]] {
        assert!(!is_etcds(torn), "{torn:?}");
    }
}

/// Bytes of zeros after the end of the last segment.
const PREALLOCATED: usize = 2048;

impl Disk {
    pub(super) fn segments(&self) -> Vec<Segment> {
        let segment = |(name, bytes): &(SegmentName, Vec<u8>)| Segment {
            name: *name,
            source: Box::new(Bytes::from(bytes.clone())),
        };
        self.files.iter().map(segment).collect()
    }

    pub(super) fn replay(&self) -> Result<Replay, Fault> {
        replay(self.segments(), &Marker::default())
    }

    fn last(&mut self) -> &mut Vec<u8> {
        &mut self.files.last_mut().expect("there is a file").1
    }

    /// Writes at the end, as a host writes.
    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) {
        let file = self.last();
        let end = offset as usize + bytes.len();
        file.resize(file.len().max(end + PREALLOCATED), 0);
        file[offset as usize..end].copy_from_slice(bytes);
    }
}

/// A writer and its disk.
pub(super) struct Log {
    pub(super) writer: Writer,
    pub(super) disk: Disk,
}

impl Log {
    pub(super) fn create() -> Self {
        let mut head = Vec::new();
        let writer = Writer::create(IDENTITY, &mut head);
        let mut disk = Disk {
            files: vec![(SegmentName::FIRST, Vec::new())],
        };
        disk.append(0, &head);
        Self { writer, disk }
    }

    /// Continues a log as a member's start does: writes zeros after the tail, then the batch that opens the new run.
    pub(super) fn resume(mut disk: Disk) -> Self {
        let replay = disk.replay().expect("a log to continue");
        let mut first = Vec::new();
        let writer = Writer::resume(&replay, &mut first);
        disk.last().truncate(replay.tail.offset as usize);
        disk.append(replay.tail.offset, &first);
        Self { writer, disk }
    }

    fn write(&mut self, saves: &[Save]) {
        let mut bytes = Vec::new();
        let offset = self.writer.offset();
        self.writer.write(saves, &mut bytes);
        self.disk.append(offset, &bytes);
    }

    pub(super) fn save(&mut self, entries: &[Entry], state: HardState) {
        self.write(&[Save {
            entries: entries.to_vec(),
            state: Some(state),
            ..Save::default()
        }]);
    }

    fn cut(&mut self) {
        let mut head = Vec::new();
        let cut = self.writer.cut(&mut head);
        let file = self.disk.last();
        assert!(file[cut.closed_bytes as usize..].iter().all(|byte| *byte == 0));
        file.truncate(cut.closed_bytes as usize);
        self.disk.files.push((cut.opened, Vec::new()));
        self.disk.append(0, &head);
    }
}

/// An entry whose data contain no zeros.
pub(super) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    Entry {
        term,
        index,
        data: vec![0x40 + (index % 32) as u8; bytes].into(),
        ..Entry::default()
    }
}

pub(super) fn state(term: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote: 0x6678_8015,
        commit,
    }
}

/// Two segments, six batches, entries 1 to 12.
pub(super) fn sample() -> Disk {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 10), entry(1, 2, 0)], state(1, 2));
    log.save(&[entry(1, 3, 700)], state(1, 2));
    log.save(&[entry(2, 4, 20), entry(2, 5, 30)], state(2, 4));
    log.cut();
    log.save(&[entry(2, 6, 100), entry(2, 7, 600)], state(2, 5));
    log.save(&[entry(2, 8, 5)], state(2, 7));
    log.save(
        &[entry(2, 9, 33), entry(2, 10, 80), entry(2, 11, 520), entry(2, 12, 9)],
        state(2, 8),
    );
    log.disk
}

#[test]
fn a_log_reads_back() {
    let replay = sample().replay().unwrap();
    assert_eq!(replay.identity, IDENTITY);
    assert_eq!(replay.hard_state, state(2, 8));
    let indexes: Vec<_> = replay
        .entries
        .iter()
        .map(|entry| (entry.index, entry.data.len()))
        .collect();
    let lengths = [10, 0, 700, 20, 30, 100, 600, 5, 33, 80, 520, 9];
    assert_eq!(indexes, (1..).zip(lengths).collect::<Vec<_>>());
    assert_eq!(replay.tail.name.to_string(), "0000000000000001-0000000000000006.wal");
    assert_eq!(replay.tail.torn, None);
}

#[test]
fn only_the_last_batch_is_unsettled() {
    let mut log = Log::create();
    assert_eq!(log.disk.replay().unwrap().tail.unsettled, 0, "the head is one batch");
    log.save(&[entry(1, 1, 10)], state(1, 0));
    let start = log.writer.offset();
    log.save(&[entry(1, 2, 10), entry(1, 3, 1000)], state(1, 1));
    let tail = log.disk.replay().unwrap().tail;
    assert_eq!((tail.unsettled, tail.offset), (start, log.writer.offset()));
}

#[test]
fn entries_without_their_torn_hard_state_set_the_term() {
    let mut without = Log::resume(sample());
    let mut log = Log::resume(sample());
    without.save(&[entry(3, 13, 10)], state(2, 8));
    log.save(&[entry(3, 13, 10)], state(3, 8));
    let lost = without.writer.offset() as usize;
    log.disk.last()[lost..].fill(0);
    let replay = log.disk.replay().unwrap();
    assert_eq!(
        replay.entries.last().map(|entry| (entry.term, entry.index)),
        Some((3, 13))
    );
    assert_eq!(
        replay.hard_state,
        HardState {
            term: 3,
            vote: 0,
            commit: 8
        }
    );
    assert!(replay.tail.torn.is_some());
}

#[test]
fn a_segment_is_full_at_its_configured_length() {
    let create = |bytes| Writer::create(IDENTITY, &mut Vec::new()).with_segment_bytes(bytes);
    let head = create(0).offset();
    assert!(create(head).is_full());
    assert!(!create(head + 1).is_full());
    assert!(!Writer::create(IDENTITY, &mut Vec::new()).is_full());
}

#[test]
fn a_later_entry_of_the_same_index_wins() {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 1), entry(1, 2, 1), entry(1, 3, 1)], state(1, 1));
    log.save(&[entry(2, 2, 1)], state(2, 1));
    let replay = log.disk.replay().unwrap();
    let ids: Vec<_> = replay.entries.iter().map(|entry| (entry.term, entry.index)).collect();
    assert_eq!(ids, [(1, 1), (2, 2)]);
}

#[test]
fn a_commit_index_alone_is_written_by_the_next_flush() {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 1)], state(1, 0));
    let end = log.writer.offset();
    log.save(&[], state(1, 1));
    assert_eq!(log.writer.offset(), end);
    let mut bytes = Vec::new();
    log.writer.flush(&mut bytes);
    log.disk.append(end, &bytes);
    assert_eq!(log.disk.replay().unwrap().hard_state, state(1, 1));
    log.writer.flush(&mut bytes);
    assert_eq!(
        log.writer.offset(),
        end + bytes.len() as u64,
        "there is nothing more to flush"
    );
    log.save(&[], HardState { vote: 9, ..state(1, 1) });
    assert_eq!(
        log.disk.replay().unwrap().hard_state.vote,
        9,
        "a vote is written at once"
    );
}

#[test]
fn markers_to_start_from_are_the_committed_ones() {
    let marker = |index| Marker {
        index,
        term: 1,
        conf_state: Some(([1, 2], [3]).into()),
    };
    let mut log = Log::create();
    log.save(&[entry(1, 1, 1), entry(1, 2, 1)], state(1, 2));
    log.write(&[Save {
        marker: Some(marker(2)),
        ..Save::default()
    }]);
    log.save(&[entry(1, 3, 1), entry(1, 4, 1)], state(1, 2));
    log.write(&[Save {
        marker: Some(marker(4)),
        ..Save::default()
    }]);
    let survey = survey(log.disk.segments()).unwrap();
    assert_eq!(survey.markers, [Marker::default(), marker(2)]);
    assert_eq!((survey.identity, survey.hard_state), (IDENTITY, state(1, 2)));

    let from_two = replay(log.disk.segments(), &marker(2)).unwrap();
    assert_eq!(
        from_two.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(),
        [3, 4]
    );
    let unknown = replay(log.disk.segments(), &marker(3)).unwrap_err();
    assert_eq!(unknown.to_string(), "the write-ahead log has no marker at index 3");
    let other_term = replay(log.disk.segments(), &Marker { term: 2, ..marker(2) }).unwrap_err();
    assert!(
        other_term
            .to_string()
            .ends_with("its marker at index 2 has term 1, not term 2"),
        "{other_term}"
    );
}

#[test]
fn random_histories_read_back() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let mut log = Log::create();
        let mut model: Vec<Entry> = Vec::new();
        let mut term = 1;
        let mut hard_state = HardState::default();
        for _ in 0..prng.range(1..20) {
            match prng.below(8) {
                0 => log.cut(),
                1 => log = Log::resume(log.disk),
                2 => term += 1,
                _ => {}
            }
            let from = prng.range(hard_state.commit..model.len() as u64 + 1);
            let fewest = u64::from(from < model.len() as u64);
            model.truncate(from as usize);
            let batch: Vec<_> = (from + 1..=from + prng.range(fewest..6))
                .map(|index| entry(term, index, prng.below(900) as usize))
                .collect();
            model.extend(batch.iter().cloned());
            hard_state = state(term, prng.range(hard_state.commit..model.len() as u64 + 1));
            log.save(&batch, hard_state);
        }
        let replay = log.disk.replay().unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert_eq!(
            (replay.entries.len(), replay.tail.torn),
            (model.len(), None),
            "seed {seed}"
        );
        assert_eq!(replay.entries, model, "seed {seed}");
        assert_eq!(replay.hard_state.term, hard_state.term, "seed {seed}");
    }
}

/// The beginning of a log that etcd 3.5.30 wrote: checksum, metadata, the first marker, the conf change that makes the
/// one member, and the hard state (with its zero vote written out); then the leader's empty entry and the state of its
/// term.
const ETCD_HEX: &str = "
    040000000000008408041000000000001f00000000000081080110a4cd85fc0b1a1508eef9b680c8e185940610e387bc
    b2dbf2a5deba01000e00000000000082080510dea8dae5081a0408001000000072000000000000860802108c99e7ce08
    1a6808011001180122600800100018eef9b680c8e185940622507b226964223a34343336323939303537353134323432
    33382c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3332333830225d2c226e616d65223a
    2264656661756c74227d000000000000100000000000000008031090d8f6cc021a060801100018011000000000000000
    080210ffeeebaa0d1a060800100218021800000000000000080310d8c09c960c1a0e080210eef9b680c8e18594061802
";

fn etcd_bytes() -> Vec<u8> {
    let digits: Vec<_> = ETCD_HEX.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn a_log_that_etcd_wrote_reads_back() {
    let bytes = etcd_bytes();
    let mut disk = Disk {
        files: vec![(SegmentName::FIRST, Vec::new())],
    };
    disk.append(0, &bytes);
    let replay = disk.replay().unwrap();
    let member = MemberId::compute(&["http://127.0.0.1:32380".into()], "etcd-cluster", None);
    let cluster = ClusterId::compute(&[member]);
    assert_eq!(replay.identity, Identity { member, cluster });
    assert_eq!((replay.hard_state.term, replay.hard_state.commit), (2, 2));
    assert_eq!(replay.hard_state.vote, replay.identity.member.0);
    let entries: Vec<_> = replay
        .entries
        .iter()
        .map(|e| (e.entry_type, e.term, e.index, e.data.len()))
        .collect();
    assert_eq!(entries, [(1, 1, 1, 96), (0, 2, 2, 0)]);
    assert_eq!((replay.tail.offset, replay.tail.torn), (bytes.len() as u64, None));
}

#[test]
fn the_encoder_writes_etcds_own_bytes() {
    let bytes = etcd_bytes();
    let mut again = Vec::new();
    let mut encoder = Encoder::new(0);
    let mut at = 0;
    while at < bytes.len() {
        let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let extent = Extent::parse(word).unwrap();
        let record = &bytes[at + 8..at + 8 + extent.record as usize];
        let header = Header::parse(record, extent.record).unwrap();
        if header.kind == Kind::Checksum {
            encoder.checksum_record(None, &mut again);
        } else {
            encoder.record(header.kind, &record[header.data_start..], &mut again);
        }
        at += extent.frame() as usize;
    }
    assert_eq!(again, bytes);
}

#[test]
fn a_log_that_etcd_wrote_can_be_continued() {
    let mut disk = Disk {
        files: vec![(SegmentName::FIRST, Vec::new())],
    };
    disk.append(0, &etcd_bytes());
    let mut log = Log::resume(disk);
    log.save(
        &[entry(2, 3, 50)],
        HardState {
            term: 2,
            vote: 1,
            commit: 3,
        },
    );
    log.cut();
    log.save(
        &[entry(2, 4, 50)],
        HardState {
            term: 2,
            vote: 1,
            commit: 3,
        },
    );
    let replay = log.disk.replay().unwrap();
    assert_eq!(replay.entries.len(), 4);
    assert_eq!(replay.tail.name.to_string(), "0000000000000001-0000000000000004.wal");
}

/// Entries 1 to 4 of term 1, of which 2 are committed; then a snapshot up to index 3 from a leader of term 3.
fn replaced() -> (Log, Marker) {
    let mut log = Log::create();
    log.save(
        &[entry(1, 1, 1), entry(1, 2, 1), entry(1, 3, 1), entry(1, 4, 1)],
        state(1, 2),
    );
    let marker = Marker {
        index: 3,
        term: 3,
        conf_state: None,
    };
    log.write(&[Save {
        marker: Some(marker.clone()),
        state: Some(state(3, 3)),
        ..Save::default()
    }]);
    (log, marker)
}

#[test]
fn a_snapshot_from_a_leader_replaces_what_followed_it_in_the_log() {
    let (mut log, marker) = replaced();
    assert_eq!(replay(log.disk.segments(), &marker).unwrap().entries, []);
    log.save(&[entry(3, 4, 1)], state(3, 3));
    let entries = replay(log.disk.segments(), &marker).unwrap().entries;
    assert_eq!(entries, [entry(3, 4, 1)]);
}

#[test]
fn a_members_own_marker_keeps_the_entries_after_it() {
    let mut log = Log::create();
    let entries = [entry(1, 1, 1), entry(1, 2, 1), entry(1, 3, 1)];
    log.save(&entries, state(1, 2));
    let marker = Marker {
        index: 2,
        term: 1,
        conf_state: None,
    };
    log.write(&[Save {
        marker: Some(marker.clone()),
        ..Save::default()
    }]);
    assert_eq!(replay(log.disk.segments(), &marker).unwrap().entries, entries[2..]);
    assert_eq!(
        log.disk.replay().unwrap().entries,
        entries,
        "an older marker serves as well"
    );
}

#[test]
fn a_replaced_log_cannot_be_read_from_before_the_snapshot() {
    let (log, _) = replaced();
    let fault = log.disk.replay().unwrap_err().to_string();
    assert_eq!(
        fault,
        "the write-ahead log continues from a snapshot at index 3 and cannot be read from index 0"
    );
}

#[test]
fn a_snapshot_whose_installation_never_finished_does_not_count() {
    let mut log = Log::create();
    log.save(&[entry(1, 1, 1), entry(1, 2, 1), entry(1, 3, 1)], state(1, 1));
    let marker = Marker {
        index: 3,
        term: 3,
        conf_state: None,
    };
    log.write(&[Save {
        marker: Some(marker.clone()),
        ..Save::default()
    }]);
    assert_eq!(log.disk.replay().unwrap().entries.len(), 3, "commit does not reach it");
    log.save(&[entry(3, 2, 1), entry(3, 3, 1), entry(3, 4, 1)], state(3, 4));
    assert_eq!(
        log.disk.replay().unwrap().entries.len(),
        4,
        "the log went on without it"
    );
    let from_it = replay(log.disk.segments(), &marker).unwrap();
    assert_eq!(from_it.entries, [entry(3, 4, 1)], "now it counts");
}
