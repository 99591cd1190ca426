//! The log as consensus reads it: a tail of entries in memory, the configuration, and where the tail begins.
//!
//! It writes nothing: the host writes, by [`LogJob`](crate::jobs::LogJob)s. Entries that were compacted here may still
//! be in the write-ahead log on disk. Cloning an entry copies no payload, because its data is `Bytes`.

use std::collections::VecDeque;

use raft::storage::GetEntriesContext;
use raft::{Error, RaftState, Storage, StorageError};

use crate::error::Fault;
use crate::proto::raftpb::{ConfState, Entry, HardState, Snapshot};

/// Memory of an entry, without its data.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Entry>();

/// The tail of the log, and the state that consensus begins with.
#[derive(Debug)]
pub(crate) struct LogTail {
    /// Entries after `compacted`, without gaps.
    entries: VecDeque<Entry>,
    /// Index and term of the last entry that was compacted.
    compacted: (u64, u64),
    bytes: usize,
    /// The recovered hard state; consensus reads it once.
    hard_state: HardState,
    /// Index, term and configuration of the last applied entry: a snapshot taken now would cover exactly that.
    applied: (u64, u64),
    conf_state: ConfState,
}

/// How many applied entries are kept for slow followers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) entries: u64,
    pub(crate) bytes: usize,
    /// A follower that receives a snapshot continues after this entry; `u64::MAX` if there is no such follower.
    pub(crate) pinned: u64,
    /// Bytes above which no entry is kept for such a follower.
    pub(crate) pinned_bytes: usize,
}

impl LogTail {
    /// The log as it was read from disk: `entries` follow the snapshot at `snapshot` (index, term); the table holds
    /// everything up to `applied`, with `conf_state` as of that index.
    pub(crate) fn new(
        snapshot: (u64, u64),
        entries: Vec<Entry>,
        mut hard_state: HardState,
        applied: u64,
        conf_state: ConfState,
    ) -> Result<Self, Fault> {
        let mut last = snapshot;
        for entry in &entries {
            if entry.index != last.0 + 1 || entry.term < last.1 {
                return Err(inconsistent(format!(
                    "the log has entry {} of term {} after entry {} of term {}",
                    entry.index, entry.term, last.0, last.1
                )));
            }
            last = (entry.index, entry.term);
        }
        if applied < snapshot.0 || applied > last.0 {
            return Err(inconsistent(format!(
                "the applied state is at index {applied}, but the log holds {} to {}",
                snapshot.0, last.0
            )));
        }
        // Applied entries were committed, even if the commit index on disk is lower.
        hard_state.commit = hard_state.commit.max(applied);
        if hard_state.commit > last.0 || hard_state.term < last.1 {
            return Err(inconsistent(format!(
                "the hard state (term {}, commit {}) contradicts the log's end (index {}, term {})",
                hard_state.term, hard_state.commit, last.0, last.1
            )));
        }
        let bytes = entries.iter().map(cost).sum();
        let mut log = Self {
            entries: entries.into(),
            compacted: snapshot,
            bytes,
            hard_state,
            applied: (applied, 0),
            conf_state,
        };
        log.applied.1 = log.term_at(applied).expect("the applied index lies inside the log");
        Ok(log)
    }

    /// Appends entries. They replace those at and after the index of the first.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.last().0 >= first.index {
            let dropped = self.entries.pop_back().expect("nothing committed is replaced");
            self.bytes -= cost(&dropped);
        }
        assert_eq!(self.last().0 + 1, first.index, "the log has no gaps");
        self.bytes += entries.iter().map(cost).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Sets the index up to which entries are applied.
    pub(crate) fn applied_to(&mut self, index: u64) {
        let term = self.term_at(index).expect("only entries of the log are applied");
        self.applied = (index, term);
    }

    /// Begins anew after a received snapshot, without any of the old entries.
    pub(crate) fn install(&mut self, index: u64, term: u64, conf_state: ConfState) {
        self.entries.clear();
        self.bytes = 0;
        self.compacted = (index, term);
        self.applied = (index, term);
        self.conf_state = conf_state;
    }

    /// Sets the configuration after a change.
    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Drops applied entries, except at most `keep.entries` and `keep.bytes` of them for slow followers, and those
    /// after `keep.pinned` as long as they fit in `keep.pinned_bytes`.
    pub(crate) fn compact(&mut self, keep: Keep) {
        while let Some(first) = self.entries.front() {
            let beyond = self.applied.0.saturating_sub(first.index) >= keep.entries || self.bytes > keep.bytes;
            let is_pinned = first.index > keep.pinned && self.bytes <= keep.pinned_bytes;
            if first.index > self.applied.0 || !beyond || is_pinned {
                return;
            }
            self.bytes -= cost(first);
            self.compacted = (first.index, first.term);
            self.entries.pop_front();
        }
    }

    /// The current configuration.
    pub(crate) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Index and term of the last entry.
    pub(crate) fn last(&self) -> (u64, u64) {
        self.entries
            .back()
            .map_or(self.compacted, |entry| (entry.index, entry.term))
    }

    /// The index of the first entry in memory.
    pub(crate) fn first_index(&self) -> u64 {
        self.compacted.0 + 1
    }

    /// The term of an entry in memory, or of the last compacted one.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.compacted.0 {
            return Some(self.compacted.1);
        }
        let offset = index.checked_sub(self.first_index())?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.term)
    }
}

impl Storage for LogTail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard_state,
            conf_state: self.conf_state.clone(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last().0 + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let (mut found, mut size) = (Vec::new(), 0);
        let start = usize::try_from(low - self.first_index()).expect("the tail fits in memory");
        let count = usize::try_from(high.saturating_sub(low)).expect("the tail fits in memory");
        for entry in self.entries.iter().skip(start).take(count) {
            size += cost(entry) as u64;
            if size > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.compacted.0 {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(Self::first_index(self))
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// The snapshot of the state applied at the time of the call; its data is sent separately.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let (index, term) = self.applied;
        if index == 0 || index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = index;
        metadata.term = term;
        metadata.conf_state = Some(self.conf_state.clone());
        Ok(snapshot)
    }
}

/// A fault: the records are sound but contradict each other.
fn inconsistent(cause: String) -> Fault {
    Fault::Inconsistent { cause }
}

/// Memory of an entry. For all but tiny entries it is an upper bound of the size on the wire.
fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: vec![0; 10].into(),
            ..Entry::default()
        }
    }

    fn log(from: u64, to: u64, applied: u64) -> LogTail {
        let hard_state = HardState {
            term: 1,
            vote: 0,
            commit: applied,
        };
        let entries = (from..=to).map(|index| entry(index, 1)).collect();
        LogTail::new(
            (from - 1, 1),
            entries,
            hard_state,
            applied,
            ConfState::from((vec![1], vec![])),
        )
        .unwrap()
    }

    #[test]
    fn a_recovered_log_must_be_consistent() {
        let conf = ConfState::default;
        let hard = |term, commit| HardState { term, vote: 0, commit };
        let two = || vec![entry(1, 1), entry(2, 2)];
        let table: Vec<(&str, Result<LogTail, Fault>)> = vec![
            (
                "gap",
                LogTail::new((0, 0), vec![entry(1, 1), entry(3, 1)], hard(1, 1), 0, conf()),
            ),
            (
                "term goes back",
                LogTail::new((0, 0), vec![entry(1, 2), entry(2, 1)], hard(2, 1), 0, conf()),
            ),
            (
                "applied past the end",
                LogTail::new((0, 0), two(), hard(2, 2), 3, conf()),
            ),
            (
                "applied before the snapshot",
                LogTail::new((5, 1), vec![], hard(1, 5), 4, conf()),
            ),
            (
                "commit past the end",
                LogTail::new((0, 0), two(), hard(2, 3), 0, conf()),
            ),
            (
                "term behind the log",
                LogTail::new((0, 0), two(), hard(1, 2), 0, conf()),
            ),
        ];
        for (what, result) in table {
            assert!(result.is_err(), "{what} must be refused");
        }
        let healed = LogTail::new((0, 0), two(), hard(2, 0), 2, conf()).unwrap();
        assert_eq!(healed.hard_state.commit, 2, "applied entries count as committed");
    }

    #[test]
    fn appending_replaces_a_conflicting_tail() {
        let mut log = log(1, 3, 1);
        log.append(&[entry(3, 2), entry(4, 2)]);
        assert_eq!(log.last(), (4, 2));
        assert_eq!(
            (log.term_at(2), log.term_at(3), log.term_at(5)),
            (Some(1), Some(2), None)
        );
        assert_eq!(log.bytes, 4 * cost(&entry(1, 1)));
    }

    const ALL: Keep = Keep {
        entries: 3,
        bytes: usize::MAX,
        pinned: u64::MAX,
        pinned_bytes: usize::MAX,
    };

    #[test]
    fn compaction_keeps_unapplied_entries_and_some_for_followers() {
        let mut log = log(1, 10, 8);
        log.compact(ALL);
        assert_eq!(log.first_index(), 6, "three applied entries stay: 6, 7, 8");
        assert_eq!(log.term(4), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.term(5), Ok(1), "the term before the first entry stays known");
        log.compact(Keep { bytes: 0, ..ALL });
        assert_eq!(
            log.first_index(),
            9,
            "the bound on bytes applies first, but 9 and 10 are not applied"
        );
        assert_eq!(log.bytes, 2 * cost(&entry(1, 1)));
    }

    #[test]
    fn entries_after_a_snapshot_on_its_way_are_kept_up_to_a_hard_cap() {
        let mut log = log(1, 10, 8);
        let pinned = Keep { pinned: 3, ..ALL };
        log.compact(Keep { bytes: 0, ..pinned });
        assert_eq!(log.first_index(), 4, "even if `bytes` is exceeded");
        log.compact(Keep {
            pinned_bytes: 5 * cost(&entry(1, 1)),
            ..pinned
        });
        assert_eq!(log.first_index(), 6, "five entries fit");
    }

    #[test]
    fn entries_come_in_bounded_pieces() {
        let log = log(1, 10, 8);
        let read = |low, high, limit: u64| {
            Storage::entries(&log, low, high, limit, GetEntriesContext::empty(false)).map(|found| found.len())
        };
        assert_eq!(read(2, 6, u64::MAX), Ok(4));
        assert_eq!(read(2, 6, 0), Ok(1), "one entry always fits");
        assert_eq!(read(2, 6, 2 * cost(&entry(1, 1)) as u64), Ok(2));
        assert_eq!(read(0, 6, 0), Err(Error::Store(StorageError::Compacted)));
    }

    #[test]
    fn a_received_snapshot_replaces_the_whole_log() {
        let mut log = log(1, 10, 8);
        log.install(20, 3, ConfState::from((vec![1, 2], vec![])));
        assert_eq!((log.first_index(), log.last(), log.bytes), (21, (20, 3), 0));
        assert_eq!(log.term(19), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(Storage::snapshot(&log, 0, 2).unwrap().get_metadata().index, 20);
        log.append(&[entry(21, 3)]);
        assert_eq!(log.last(), (21, 3));
    }

    #[test]
    fn a_snapshot_covers_exactly_the_applied_entries() {
        let mut log = log(4, 10, 8);
        let metadata = |log: &LogTail| Storage::snapshot(log, 0, 2).unwrap().take_metadata();
        assert_eq!((metadata(&log).index, metadata(&log).term), (8, 1));
        log.applied_to(9);
        log.set_conf_state(ConfState::from((vec![1, 2], vec![])));
        assert_eq!(metadata(&log).index, 9);
        assert_eq!(metadata(&log).get_conf_state().voters, [1, 2]);
        assert!(Storage::snapshot(&log, 10, 2).is_err(), "nothing covers index 10 yet");
    }
}
