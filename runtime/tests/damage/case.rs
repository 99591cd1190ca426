//! The cases: the kind of file, the damage, its place, and the directory. All of these follow from the case's number.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use quoin_core::random::Prng;

use super::history::{Base, TWO_JOURNALS, copy, files};

/// The parts of a file, one of which is damaged in a case.
const PLACES: u64 = 10;

/// The kinds of files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Version,
    TableLock,
    FirstJournal,
    LastJournal,
    NamesCurrent,
    Current,
    NamesVersion,
    KeyspaceVersion,
    NamesTable,
    KeyspaceTable,
    Keyspace,
    Table,
    Doubt,
    FirstSegment,
    MiddleSegment,
    LastSegment,
    NewestSnapshot,
    OldestSnapshot,
    Lock,
    Stray,
}

impl Kind {
    const ALL: [Self; 20] = [
        Self::Version,
        Self::TableLock,
        Self::FirstJournal,
        Self::LastJournal,
        Self::NamesCurrent,
        Self::Current,
        Self::NamesVersion,
        Self::KeyspaceVersion,
        Self::NamesTable,
        Self::KeyspaceTable,
        Self::Keyspace,
        Self::Table,
        Self::Doubt,
        Self::FirstSegment,
        Self::MiddleSegment,
        Self::LastSegment,
        Self::NewestSnapshot,
        Self::OldestSnapshot,
        Self::Lock,
        Self::Stray,
    ];

    /// The file or directory in a member's directory; `None` if there is none.
    fn find(self, dir: &Path, prng: &mut Prng) -> Option<PathBuf> {
        let member = dir.join("member");
        let snap = member.join("snap");
        let table = snap.join("fjall");
        let keyspaces = table.join("keyspaces");
        let mut draw = |mut found: Vec<PathBuf>| {
            found.sort();
            let at = usize::try_from(prng.below(found.len().max(1) as u64)).unwrap();
            found.into_iter().nth(at)
        };
        let of = |dir: &Path, is_wanted: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path());
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            let mut found: Vec<_> = entries.filter(|path| is_wanted(&name(path))).collect();
            found.sort_by_key(|path| (name(path).len(), name(path)));
            found
        };
        let any = |_: &str| true;
        let journals = || of(&table, &|name| name.ends_with(".jnl"));
        let segments = || of(&member.join("wal"), &|name| name.ends_with(".wal"));
        let snapshots = || of(&snap, &|name| name.ends_with(".snap"));
        let others = || of(&keyspaces, &|name| name != "0");
        let in_each = |dirs: Vec<PathBuf>, is_wanted: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
            dirs.iter().flat_map(|dir| of(dir, is_wanted)).collect()
        };
        // A keyspace's `current` begins with the number of its version.
        let version = |keyspace: &Path| {
            let current = fs::read(keyspace.join("current")).unwrap();
            let (number, _) = current.split_first_chunk().unwrap();
            keyspace.join(format!("v{}", u64::from_le_bytes(*number)))
        };
        let names = keyspaces.join("0");
        match self {
            Self::Version => Some(table.join("version")),
            Self::TableLock => Some(table.join("lock")),
            Self::FirstJournal => journals().into_iter().next(),
            Self::LastJournal => journals().pop(),
            Self::NamesCurrent => Some(names.join("current")),
            Self::Current => draw(in_each(others(), &|name| name == "current")),
            Self::NamesVersion => Some(version(&names)),
            Self::KeyspaceVersion => draw(others()).map(|keyspace| version(&keyspace)),
            Self::NamesTable => draw(of(&names.join("tables"), &any)),
            Self::KeyspaceTable => draw(others().iter().flat_map(|dir| of(&dir.join("tables"), &any)).collect()),
            Self::Keyspace => draw(of(&keyspaces, &any)),
            Self::Table => Some(table),
            Self::Doubt => Some(snap.join("fjall.doubt")),
            Self::FirstSegment => segments().into_iter().next(),
            Self::MiddleSegment => {
                let found = segments();
                let at = found.len() / 2;
                found.into_iter().nth(at)
            }
            Self::LastSegment => segments().pop(),
            Self::NewestSnapshot => snapshots().pop(),
            Self::OldestSnapshot => snapshots().into_iter().next(),
            Self::Lock => Some(member.join("lock")),
            Self::Stray => draw(vec![
                snap.join("0000000000000050.snap.db"),
                snap.join("0000000000000050.snap.db.tmp"),
                member.join("wal").join("next.tmp"),
                member.join("wal.tmp").join("0000000000000000-0000000000000000.wal"),
            ]),
        }
    }
}

/// The kinds of damage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Cut,
    Zeroed,
    Deleted,
    Older,
    Flipped,
}

impl How {
    const ALL: [Self; 5] = [Self::Cut, Self::Zeroed, Self::Deleted, Self::Older, Self::Flipped];
}

/// The number of cases.
pub(crate) const CASES: u64 = Kind::ALL.len() as u64 * How::ALL.len() as u64 * PLACES;

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    number: u64,
    kind: Kind,
    how: How,
    place: u64,
    /// Number of the base directory.
    pub(crate) base: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            kind,
            how,
            place,
            base,
        } = self;
        write!(f, "case {number}: {kind:?} {how:?} at place {place}, base {base}")
    }
}

impl Case {
    /// The case of this number.
    pub(crate) fn new(number: u64) -> Self {
        let kinds = Kind::ALL.len() as u64;
        let (kind, round) = (number % kinds, number / kinds);
        let hows = How::ALL.len() as u64;
        let index = |number: u64| usize::try_from(number).unwrap();
        let base = index((round / hows + round + kind) % TWO_JOURNALS as u64);
        let kind = Kind::ALL[index(kind)];
        Self {
            number,
            kind,
            how: How::ALL[index(round % hows)],
            place: round / hows % PLACES,
            base: if kind == Kind::FirstJournal { TWO_JOURNALS } else { base },
        }
    }

    /// Damages `dir`, a copy of its base, and describes the damage.
    pub(crate) fn strike(&self, dir: &Path, base: &Base) -> String {
        let mut prng = Prng::new(self.number);
        let Some(path) = self.kind.find(dir, &mut prng) else {
            return "there is no such file".to_owned();
        };
        if self.kind == Kind::Stray {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"not what it should be").unwrap();
        }
        let inside = path.strip_prefix(dir).unwrap().to_owned();
        match self.how {
            How::Deleted => {
                remove(&path);
                format!("{} deleted", inside.display())
            }
            How::Older => {
                let older = &base.older[usize::try_from(self.place).unwrap() % base.older.len()];
                let Some(source) = self.source(older, &inside) else {
                    remove(&path);
                    return format!("{} deleted, as it was before", inside.display());
                };
                remove(&path);
                if source.is_dir() {
                    copy(&source, &path);
                } else {
                    fs::copy(&source, &path).unwrap();
                }
                format!("{} is {}", inside.display(), source.display())
            }
            How::Cut | How::Zeroed | How::Flipped => {
                let path = if path.is_dir() { one_in(&path, &mut prng) } else { path };
                let inside = path.strip_prefix(dir).unwrap().display().to_string();
                format!("{inside} {}", self.change(&path, &mut prng))
            }
        }
    }

    /// An earlier version of a file: the same file, or another one of its kind.
    fn source(&self, older: &Path, inside: &Path) -> Option<PathBuf> {
        let same = older.join(inside);
        let of_kind = || self.kind.find(older, &mut Prng::new(self.number));
        if same.exists() {
            Some(same)
        } else {
            of_kind().filter(|path| path.exists())
        }
    }

    fn change(&self, path: &Path, prng: &mut Prng) -> String {
        let mut content = fs::read(path).unwrap();
        // Segments of the log end with zeros of their preallocation.
        let written = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if written == 0 {
            return "has nothing to change".to_owned();
        }
        let part = written as u64 / PLACES + 1;
        let at = usize::try_from(self.place * part + prng.below(part))
            .unwrap()
            .min(written - 1);
        match self.how {
            How::Cut => content.truncate(at),
            How::Zeroed => {
                let end = if prng.below(2) == 0 {
                    content.len()
                } else {
                    content.len().min(at + 512)
                };
                content[at..end].fill(0);
            }
            _ => content[at] ^= 1 << prng.below(8),
        }
        fs::write(path, content).unwrap();
        format!("{:?} at {at} of {written}", self.how)
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _absent = fs::remove_file(path);
    }
}

fn one_in(dir: &Path, prng: &mut Prng) -> PathBuf {
    let mut found = files(dir);
    found.sort();
    let at = usize::try_from(prng.below(found.len() as u64)).unwrap();
    found.swap_remove(at)
}
