//! Rot: durable bytes that change without a write, aimed at the kinds of content that a member keeps.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quoin_core::random::Prng;
use quoin_core::wal::SegmentName;

use super::image::{Image, SECTOR_BYTES};
use super::medium::{Medium, lasts};
use crate::faults::FaultKind;

/// The longest smear.
const SMEAR_BYTES: u64 = 64;
/// Bytes of the length word before each record of the log.
const WORD_BYTES: usize = 8;
/// Types of the log's records, as etcd numbers them.
const METADATA: u8 = 1;
const STATE: u8 = 3;
const CHECKSUM: u8 = 4;

/// The effect of rot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rot {
    /// One bit flips.
    FlippedBit,
    /// Up to 64 bytes of a sector change, each of them.
    SmearedBytes,
    /// A sector reads as it was before its last write reached the medium.
    StaleSector,
    /// Two sectors are exchanged.
    SwappedSectors,
    /// A sector reads as zeros.
    ZeroedSector,
}

impl Rot {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FlippedBit,
        Self::SmearedBytes,
        Self::StaleSector,
        Self::SwappedSectors,
        Self::ZeroedSector,
    ];

    /// Its kind of fault.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        match self {
            Self::FlippedBit => FaultKind::RottenBit,
            Self::SmearedBytes => FaultKind::SmearedBytes,
            Self::StaleSector => FaultKind::StaleSector,
            Self::SwappedSectors => FaultKind::SwappedSectors,
            Self::ZeroedSector => FaultKind::ZeroedSector,
        }
    }
}

/// The target of rot. Files under temporary names are spared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Any byte of any file; of segments of the log, only the records, without their padding.
    Any,
    /// A hard state in the log.
    HardState,
    /// A file of a snapshot.
    Snapshot,
    /// The log's records after a segment's head, without the zeros after them.
    WalBody,
    /// The last records of the newest segment: most of them came after the table was last synced.
    WalEnd,
    /// The head of a segment of the log: a checksum and the identity.
    WalHeader,
}

/// The number of records that count as the end of a segment.
const END_RECORDS: usize = 40;

impl Target {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Any,
        Self::HardState,
        Self::Snapshot,
        Self::WalBody,
        Self::WalEnd,
        Self::WalHeader,
    ];
}

/// A hit of rot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hit {
    /// The effect.
    pub rot: Rot,
    /// The file.
    pub path: PathBuf,
    /// The bytes.
    pub bytes: Range<u64>,
    /// The other sector, if two were exchanged.
    pub other: Option<(PathBuf, Range<u64>)>,
    /// Whether a sector of the log's last batch, or after it, is hit: damage there cannot be distinguished from a torn
    /// write, so the batches in these sectors may be missing without an error.
    pub at_tail: bool,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:?}", self.rot, self.path.display(), self.bytes)?;
        if let Some((path, bytes)) = &self.other {
            write!(f, " with {} {bytes:?}", path.display())?;
        }
        Ok(())
    }
}

/// Bytes of one sector at rest.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The file.
    file: usize,
    inode: usize,
    start: usize,
    end: usize,
}

impl Piece {
    const fn sector(self) -> usize {
        self.start / SECTOR_BYTES
    }

    /// The bytes of the whole sector.
    const fn whole(self) -> Range<u64> {
        let start = self.sector() * SECTOR_BYTES;
        start as u64..(start + SECTOR_BYTES) as u64
    }
}

/// A record of the log with its length word.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: usize,
    /// The end of the record; up to seven bytes of padding follow, without a meaning.
    end: usize,
    kind: u8,
}

impl Medium {
    /// Rots something of `target`, below a directory or in a file, drawn at random.
    pub(super) fn rot(&mut self, target: Target, rot: Rot, under: &Path) -> Option<Hit> {
        let files = self.files();
        let newest = files.iter().filter_map(|(path, _)| segment(path)).max();
        let mut pieces = Vec::new();
        for (file, (path, inode)) in files.iter().enumerate() {
            let is_meant = target != Target::WalEnd || segment(path) == newest;
            if is_meant && path.starts_with(under) && path.file_name().is_some_and(lasts) {
                for region in regions(target, path, self.inode(*inode).durable()) {
                    self.cut_up(file, *inode, region, &mut pieces);
                }
            }
        }
        self.rot_one(rot, &files, &pieces)
    }

    /// Rots the sector that holds a byte of a file.
    pub(super) fn rot_at(&mut self, path: &Path, offset: usize, rot: Rot) -> Option<Hit> {
        let files = self.files();
        let file = files.iter().position(|(of, _)| of == path)?;
        let inode = files[file].1;
        let mut pieces = Vec::new();
        let whole = match rot {
            Rot::SwappedSectors => 0..self.inode(inode).durable().len(),
            Rot::FlippedBit | Rot::SmearedBytes | Rot::StaleSector | Rot::ZeroedSector => offset..offset + 1,
        };
        self.cut_up(file, inode, whole, &mut pieces);
        // The first piece is the target.
        let first = pieces
            .iter()
            .position(|piece| piece.sector() == offset / SECTOR_BYTES)?;
        pieces.swap(0, first);
        if rot == Rot::SwappedSectors {
            let other = self.other_sector(pieces[0], &pieces)?;
            return Some(self.swap(pieces[0], other, &files));
        }
        self.rot_one(rot, &files, &pieces[..1])
    }

    /// Adds the durable sectors of `region`.
    fn cut_up(&self, file: usize, inode: usize, region: Range<usize>, pieces: &mut Vec<Piece>) {
        let node = self.inode(inode);
        let region_end = region.end.min(node.durable().len());
        let mut start = region.start;
        while start < region_end {
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(region_end);
            if node.is_at_rest(start / SECTOR_BYTES) {
                pieces.push(Piece {
                    file,
                    inode,
                    start,
                    end,
                });
            }
            start = end;
        }
    }

    fn rot_one(&mut self, rot: Rot, files: &[(PathBuf, usize)], pieces: &[Piece]) -> Option<Hit> {
        match rot {
            Rot::FlippedBit | Rot::SmearedBytes => self.change_bytes(rot, files, pieces),
            Rot::StaleSector | Rot::ZeroedSector => {
                let differs = |piece: &&Piece| {
                    let node = self.inode(piece.inode);
                    if rot == Rot::ZeroedSector {
                        !node.durable().is_zero_sector(piece.sector())
                    } else {
                        !node.durable().same_sector(node.previous(), piece.sector())
                    }
                };
                let pieces: Vec<Piece> = pieces.iter().filter(differs).copied().collect();
                let piece = one(&mut self.rot_prng, &pieces)?;
                let old = if rot == Rot::ZeroedSector {
                    [0; SECTOR_BYTES]
                } else {
                    self.inode(piece.inode).previous().sector_content(piece.sector())
                };
                let hit = self.hit(rot, piece, piece.whole(), None, files);
                self.put(piece, &old);
                Some(hit)
            }
            Rot::SwappedSectors => {
                let piece = one(&mut self.rot_prng, pieces)?;
                let other = self.other_sector(piece, pieces)?;
                Some(self.swap(piece, other, files))
            }
        }
    }

    fn change_bytes(&mut self, rot: Rot, files: &[(PathBuf, usize)], pieces: &[Piece]) -> Option<Hit> {
        let total: usize = pieces.iter().map(|piece| piece.end - piece.start).sum();
        let mut at = usize::try_from(self.rot_prng.below(total as u64)).unwrap_or(0);
        let piece = pieces.iter().find(|piece| {
            let len = piece.end - piece.start;
            let found = at < len;
            at -= if found { 0 } else { len };
            found
        })?;
        let start = piece.start + at;
        let room = (piece.end - start) as u64;
        let (count, bit) = if rot == Rot::FlippedBit {
            (1, 1 << self.rot_prng.below(8))
        } else {
            (1 + self.rot_prng.below(room.min(SMEAR_BYTES)), 0)
        };
        let changes: Vec<u8> = (0..count)
            .map(|_| match bit {
                0 => u8::try_from(1 + self.rot_prng.below(255)).unwrap_or(1),
                bit => bit,
            })
            .collect();
        let bytes = start as u64..start as u64 + count;
        let hit = self.hit(rot, *piece, bytes, None, files);
        self.change(piece.inode, |node, _, _| {
            node.spoil(piece.sector(), |content| {
                let content = content.iter_mut().skip(start % SECTOR_BYTES);
                content.zip(changes).for_each(|(byte, change)| *byte ^= change);
            });
        });
        Some(hit)
    }

    /// Another sector with other content.
    fn other_sector(&mut self, piece: Piece, pieces: &[Piece]) -> Option<Piece> {
        let content = |piece: Piece| self.inode(piece.inode).durable().sector_content(piece.sector());
        let mine = content(piece);
        let others: Vec<Piece> = pieces
            .iter()
            .copied()
            .filter(|other| (other.inode, other.sector()) != (piece.inode, piece.sector()) && content(*other) != mine)
            .collect();
        one(&mut self.rot_prng, &others)
    }

    fn swap(&mut self, piece: Piece, other: Piece, files: &[(PathBuf, usize)]) -> Hit {
        let content = |piece: Piece| self.inode(piece.inode).durable().sector_content(piece.sector());
        let (mine, theirs) = (content(piece), content(other));
        let hit = self.hit(Rot::SwappedSectors, piece, piece.whole(), Some(other), files);
        self.put(piece, &theirs);
        self.put(other, &mine);
        hit
    }

    fn put(&mut self, piece: Piece, content: &[u8]) {
        self.change(piece.inode, |node, _, _| {
            node.spoil(piece.sector(), |bytes| bytes.copy_from_slice(&content[..bytes.len()]));
        });
    }

    /// Records the hit before it is carried out.
    fn hit(&self, rot: Rot, piece: Piece, bytes: Range<u64>, other: Option<Piece>, files: &[(PathBuf, usize)]) -> Hit {
        self.struck.note(rot.kind());
        Hit {
            rot,
            path: files[piece.file].0.clone(),
            bytes,
            other: other.map(|other| (files[other.file].0.clone(), other.whole())),
            at_tail: self.is_at_tail(piece, files) || other.is_some_and(|other| self.is_at_tail(other, files)),
        }
    }

    fn is_at_tail(&self, piece: Piece, files: &[(PathBuf, usize)]) -> bool {
        let path = &files[piece.file].0;
        let Some(name) = segment(path) else { return false };
        let others = files.iter().filter(|(other, _)| other.parent() == path.parent());
        let newest = others.filter_map(|(other, _)| segment(other)).max();
        if newest != Some(name) {
            return false;
        }
        let frames = frames(self.inode(piece.inode).durable().written());
        let last_batch = frames.iter().rev().find(|frame| frame.kind == CHECKSUM);
        last_batch.is_none_or(|opening| (piece.sector() + 1) * SECTOR_BYTES > opening.start)
    }
}

fn one(prng: &mut Prng, pieces: &[Piece]) -> Option<Piece> {
    let at = usize::try_from(prng.below(pieces.len() as u64)).unwrap_or(0);
    pieces.get(at).copied()
}

fn segment(path: &Path) -> Option<SegmentName> {
    SegmentName::parse(path.file_name()?.to_str()?)
}

/// The bytes of a file that belong to a target.
fn regions(target: Target, path: &Path, content: &Image) -> Vec<Range<usize>> {
    let is_snapshot = path.extension().is_some_and(|extension| extension == "snap");
    if segment(path).is_none() {
        let meant = match target {
            Target::Any => true,
            Target::Snapshot => is_snapshot,
            Target::HardState | Target::WalBody | Target::WalEnd | Target::WalHeader => false,
        };
        return meant.then(|| 0..content.len()).into_iter().collect();
    }
    let frames = frames(content.written());
    let is_header = |frame: &&Frame| matches!(frame.kind, CHECKSUM | METADATA);
    let header = frames.iter().take(2).take_while(is_header).count();
    let meant = frames.iter().enumerate().filter(|(number, frame)| match target {
        Target::Any => true,
        Target::HardState => frame.kind == STATE,
        Target::Snapshot => false,
        Target::WalBody => *number >= header,
        Target::WalEnd => *number >= header && *number + END_RECORDS >= frames.len(),
        Target::WalHeader => *number < header,
    });
    meant.map(|(_, frame)| frame.start..frame.end).collect()
}

/// The log's records, as far as they can be read.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some((word, record)) = bytes.get(start..).and_then(<[u8]>::split_first_chunk::<WORD_BYTES>) {
        let length = u64::from_le_bytes(*word) & ((1 << 56) - 1);
        let Ok(length) = usize::try_from(length) else { break };
        let (Some(padded), Some([0x08, kind])) = (length.checked_next_multiple_of(WORD_BYTES), record.get(..2)) else {
            break;
        };
        if length == 0 || padded > record.len() {
            break;
        }
        frames.push(Frame {
            start,
            end: start + WORD_BYTES + length,
            kind: *kind,
        });
        start += WORD_BYTES + padded;
    }
    frames
}
