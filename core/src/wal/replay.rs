//! Reads a whole log: its contents, their consistency, and where to continue.
//!
//! A *marker* is a record that says up to which index the applied state is durable elsewhere. A *snapshot* here is
//! the state of a leader that was installed, after which the log continues from its marker.

use bytes::Bytes;
use prost::Message as _;

use super::frame::Kind;
use super::name::SegmentName;
use super::reader::{Record, Segment, SegmentReader};
use super::writer::Marker;
use crate::error::Fault;
use crate::id::{ClusterId, MemberId};
use crate::proto::etcdserverpb::Metadata;
use crate::proto::raftpb::{Entry, EntryType, HardState};
use crate::proto::walpb;

/// The owner of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
}

impl Identity {
    pub(super) fn encode(self) -> Vec<u8> {
        Metadata {
            node_id: Some(self.member.0),
            cluster_id: Some(self.cluster.0),
        }
        .encode_to_vec()
    }
}

/// The facts about a log that decide from which marker to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Survey {
    /// The owner of the log.
    pub identity: Identity,
    /// The last hard state.
    pub hard_state: HardState,
    /// The index of the last entry, or of a marker after it if that is greater.
    pub last_index: u64,
    /// The markers to start from, oldest first; only those whose index is committed.
    pub markers: Vec<Marker>,
    /// Whether there is an entry other than a change of members.
    pub has_requests: bool,
}

/// The contents of a log from a marker on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replay {
    /// The owner of the log.
    pub identity: Identity,
    /// The last hard state, with its term raised to that of the last entry if it was lower.
    pub hard_state: HardState,
    /// All entries after the marker's index, without gaps.
    pub entries: Vec<Entry>,
    /// Where the log ends.
    pub tail: Tail,
    /// The metadata as they are in the log; every segment repeats them.
    pub(super) metadata: Bytes,
}

/// Where a log ends, and how to continue it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tail {
    /// The last segment.
    pub name: SegmentName,
    /// The end of its last good record. All bytes from here on must be zero before the segment is written to.
    pub offset: u64,
    /// Where its last batch begins. The records between there and `offset` can be read, but loss of power may still
    /// remove them: the sync that was to make them durable may have failed or never have started. Write them again
    /// before anything is promised on their basis.
    pub unsettled: u64,
    /// Why the log ends at `offset` although more bytes follow or should follow; `None` if it ends cleanly.
    pub torn: Option<&'static str>,
    pub(super) checksum: u32,
    pub(super) last_index: u64,
}

/// Reads a whole log and lists the markers in it.
///
/// # Errors
/// If the log has no files, or if something in it was durable once and has changed: that error names file and offset.
pub fn survey(segments: Vec<Segment>) -> Result<Survey, Fault> {
    let mut log = Log::new(None);
    let tail = log.read(segments)?;
    let identity = log.identity()?;
    let commit = log.hard_state.commit;
    log.markers.retain(|marker| marker.index <= commit);
    Ok(Survey {
        identity,
        hard_state: log.hard_state,
        last_index: tail.last_index,
        markers: log.markers,
        has_requests: log.has_requests,
    })
}

/// Reads a log from a marker on; `segments` are those that [`super::select`] returns for its index.
///
/// # Errors
/// As [`survey`], and if the marker is not in the log, or entries after it are missing.
pub fn replay(segments: Vec<Segment>, start: &Marker) -> Result<Replay, Fault> {
    let mut log = Log::new(Some(start));
    let tail = log.read(segments)?;
    if !log.start_seen {
        return Err(Fault::Inconsistent {
            cause: format!("the write-ahead log has no marker at index {}", start.index),
        });
    }
    if let Some(index) = log.replaced_up_to.filter(|index| *index <= log.hard_state.commit) {
        return Err(Fault::Inconsistent {
            cause: format!(
                "the write-ahead log continues from a snapshot at index {index} and cannot be read from index {}",
                start.index
            ),
        });
    }
    Ok(Replay {
        identity: log.identity()?,
        hard_state: log.hard_state_of_entries(),
        entries: log.entries,
        tail,
        metadata: log.metadata.unwrap_or_default(),
    })
}

/// A log being read.
struct Log<'a> {
    /// Entries after this marker's index are kept; no entries if there is no marker.
    start: Option<&'a Marker>,
    start_seen: bool,
    /// The term of the entry at `start`'s index, once that entry, or the marker itself, was read.
    term_at_start: Option<u64>,
    /// The index of a later snapshot that replaced the log, so that entries up to it are not in the log.
    replaced_up_to: Option<u64>,
    metadata: Option<Bytes>,
    hard_state: HardState,
    entries: Vec<Entry>,
    markers: Vec<Marker>,
    last_index: u64,
    has_requests: bool,
}

impl<'a> Log<'a> {
    const fn new(start: Option<&'a Marker>) -> Self {
        Self {
            start,
            start_seen: false,
            term_at_start: None,
            replaced_up_to: None,
            metadata: None,
            hard_state: HardState {
                term: 0,
                vote: 0,
                commit: 0,
            },
            entries: Vec::new(),
            markers: Vec::new(),
            last_index: 0,
            has_requests: false,
        }
    }

    /// Reads all segments; returns the end of the last one.
    fn read(&mut self, segments: Vec<Segment>) -> Result<Tail, Fault> {
        let mut checksum = None;
        let mut tail = None;
        let last = segments.len();
        for (number, segment) in segments.into_iter().enumerate() {
            let mut reader = SegmentReader::new(segment, checksum, number + 1 == last);
            self.read_head(&mut reader)?;
            while let Some(record) = reader.next()? {
                self.take(&record)
                    .map_err(|cause| reader.corrupt(record.offset, cause))?;
            }
            checksum = reader.checksum;
            tail = Some(Tail {
                name: reader.name,
                offset: reader.offset,
                unsettled: reader.batch_start,
                torn: reader.torn,
                checksum: checksum.unwrap_or(0),
                last_index: self.last_index,
            });
        }
        tail.ok_or_else(|| Fault::Inconsistent {
            cause: "there are no write-ahead log files".into(),
        })
    }

    /// Reads the records that every segment begins with.
    fn read_head(&mut self, reader: &mut SegmentReader) -> Result<(), Fault> {
        for kind in [Kind::Checksum, Kind::Metadata] {
            match reader.next()? {
                Some(record) if record.kind == kind => {
                    self.take(&record)
                        .map_err(|cause| reader.corrupt(record.offset, cause))?;
                }
                Some(record) => {
                    return Err(reader.corrupt(record.offset, "the segment does not begin as it must"));
                }
                None => return Err(reader.corrupt(reader.offset, "the segment's head is missing")),
            }
        }
        reader.head_read = true;
        Ok(())
    }

    fn take(&mut self, record: &Record) -> Result<(), String> {
        match record.kind {
            Kind::Checksum => Ok(()),
            Kind::Metadata => self.take_metadata(&record.data),
            Kind::Entry => self.take_entry(&record.data),
            Kind::State => self.take_state(&record.data),
            Kind::Snapshot => self.take_marker(&record.data),
        }
    }

    fn take_metadata(&mut self, data: &Bytes) -> Result<(), String> {
        match &self.metadata {
            Some(known) if known != data => Err("its metadata differ from those before".into()),
            _ => {
                Metadata::decode(data.clone()).map_err(|e| format!("its metadata do not decode: {e}"))?;
                self.metadata = Some(data.clone());
                Ok(())
            }
        }
    }

    fn take_state(&mut self, data: &Bytes) -> Result<(), String> {
        let state = state_from(data).ok_or("its hard state does not decode")?;
        let known = self.hard_state;
        if state.term == 0 {
            return Err("its hard state has term 0".into());
        }
        if state.term < known.term || state.commit < known.commit {
            return Err(format!(
                "its hard state (term {}, commit {}) is older than the one before (term {}, commit {})",
                state.term, state.commit, known.term, known.commit
            ));
        }
        self.hard_state = state;
        Ok(())
    }

    fn take_marker(&mut self, data: &Bytes) -> Result<(), String> {
        let marker =
            walpb::Snapshot::decode(data.clone()).map_err(|e| format!("its snapshot marker does not decode: {e}"))?;
        let marker = Marker {
            index: marker.index(),
            term: marker.term(),
            conf_state: marker.conf_state,
        };
        if let Some(start) = self.start {
            if start.index == marker.index && start.term != marker.term {
                return Err(format!(
                    "its marker at index {} has term {}, not term {}",
                    marker.index, marker.term, start.term
                ));
            }
            self.meet_marker(start, &marker);
        }
        self.last_index = self.last_index.max(marker.index);
        self.markers.push(marker);
        Ok(())
    }

    /// Handles a marker. The marker of this member's own table is at an entry that is in the log, so the log stays. The
    /// marker of a received snapshot is at an entry that the log does not have, so the snapshot replaces the log.
    fn meet_marker(&mut self, start: &Marker, marker: &Marker) {
        if marker.index == start.index {
            if self.term_at_start != Some(start.term) {
                self.entries.clear();
            }
            self.term_at_start = Some(start.term);
            self.start_seen = true;
        } else if let Some(after) = marker.index.checked_sub(start.index + 1) {
            let place = usize::try_from(after).unwrap_or(usize::MAX);
            let is_known = self.entries.get(place).is_some_and(|entry| entry.term == marker.term);
            if !is_known {
                self.replaced_up_to = Some(marker.index);
            }
        }
    }

    fn take_entry(&mut self, data: &Bytes) -> Result<(), String> {
        let entry = Entry::decode(data.clone()).map_err(|e| format!("its entry does not decode: {e}"))?;
        check_entry(&entry)?;
        if entry.index <= self.hard_state.commit {
            return Err(format!("its entry replaces committed index {}", entry.index));
        }
        self.last_index = entry.index;
        self.has_requests |= entry.get_entry_type() == EntryType::EntryNormal;
        if self.replaced_up_to.is_some_and(|index| entry.index <= index) {
            // An entry at or below that snapshot's index follows its marker: the snapshot was never fully installed, so
            // it replaced nothing.
            self.replaced_up_to = None;
        }
        match self.start {
            None => Ok(()),
            Some(start) if entry.index <= start.index => {
                self.entries.clear();
                self.term_at_start = (entry.index == start.index).then_some(entry.term);
                Ok(())
            }
            Some(start) => self.keep_entry(start, entry),
        }
    }

    /// Keeps an entry after the marker's index; it replaces all entries from its own index on.
    fn keep_entry(&mut self, start: &Marker, entry: Entry) -> Result<(), String> {
        let place = usize::try_from(entry.index - start.index - 1).unwrap_or(usize::MAX);
        if place > self.entries.len() {
            let last = start.index + self.entries.len() as u64;
            return Err(format!(
                "its entry has index {}, but the log before it ends at index {last}",
                entry.index
            ));
        }
        self.entries.truncate(place);
        let before = self
            .entries
            .last()
            .map_or(self.term_at_start.unwrap_or(0), |entry| entry.term);
        if entry.term < before {
            return Err(format!("its entry has term {} after one of term {before}", entry.term));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// If the last batch is torn, its entries may be readable and the hard state at its end lost. The member was at
    /// least in the term of these entries, so the term is raised. Any vote of this member in that term was in the lost
    /// state. No message with that vote was sent, because the batch was never durable; so a vote of 0 is safe.
    fn hard_state_of_entries(&self) -> HardState {
        match self.entries.last() {
            Some(last) if last.term > self.hard_state.term => HardState {
                term: last.term,
                vote: 0,
                ..self.hard_state
            },
            _ => self.hard_state,
        }
    }

    fn identity(&self) -> Result<Identity, Fault> {
        let data = self.metadata.clone().unwrap_or_default();
        let metadata = Metadata::decode(data).map_err(|e| Fault::Inconsistent {
            cause: format!("metadata do not decode: {e}"),
        })?;
        Ok(Identity {
            member: MemberId(metadata.node_id()),
            cluster: ClusterId(metadata.cluster_id()),
        })
    }
}

/// Refuses entries that no member writes. The checksum does not cover a record's type, so this check also finds a hard
/// state that a flipped bit turned into an entry.
fn check_entry(entry: &Entry) -> Result<(), String> {
    let known = entry.entry_type == EntryType::EntryNormal as i32
        || (entry.entry_type == EntryType::EntryConfChange as i32 && !entry.data.is_empty());
    if known && entry.term > 0 && entry.index > 0 {
        Ok(())
    } else {
        Err(format!(
            "no member writes an entry of type {}, term {}, index {} with {} bytes",
            entry.entry_type,
            entry.term,
            entry.index,
            entry.data.len()
        ))
    }
}

/// Reads a hard state. Unlike a protobuf decoder it refuses unknown fields, so an entry is not taken for a state.
fn state_from(data: &[u8]) -> Option<HardState> {
    let mut state = HardState::default();
    let mut rest = data;
    while let [tag, after @ ..] = rest {
        rest = after;
        let value = prost::encoding::decode_varint(&mut rest).ok()?;
        match tag {
            0x08 => state.term = value,
            0x10 => state.vote = value,
            0x18 => state.commit = value,
            _ => return None,
        }
    }
    Some(state)
}
