//! Checks of a table's files from outside, before and after its engine reads them.
//!
//! fjall takes a directory without its `version` for one that was never finished, deletes a keyspace without its
//! `current` as unfinished, cuts a journal at the first byte it cannot read, and its error for a damaged file does not
//! name the file. [`Inspection::begin`] finds the files that fjall would delete, before fjall runs.
//! [`Inspection::remarks`] names the files behind an error.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// The contents of `version`: a name and the number of the format.
const VERSION: &[u8] = b"FJL\x03";
/// A keyspace's `current`: number and checksum of its version file, and the checksum's kind.
const CURRENT_BYTES: usize = 25;
/// The first byte of a journal's entry.
const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;
/// Tag, kind, compression, keyspace, and the lengths of key, value and stored value.
const ITEM_HEAD_BYTES: usize = 21;
/// Upper bound of a row's length.
const ENTRY_BYTES_MAX: u64 = 1 << 29;
/// The end of a version or table file: a name, two kinds, and checksum, place and length of its list of sections.
const TRAILER_BYTES: usize = 38;
/// Upper bound of the length of a list of sections.
const SECTIONS_BYTES_MAX: u64 = 1 << 20;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 16;
/// At most this many files are named.
const NAMED_MAX: usize = 5;

/// The files of a table as they were before its engine opened them.
#[derive(Debug)]
pub(crate) struct Inspection {
    root: PathBuf,
    journals: Vec<Journal>,
}

/// A journal: batches, and the zeros of its preallocation.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// The first byte that belongs to no batch. A crash may leave a part of a batch there.
    broken_at: Option<u64>,
}

impl Inspection {
    /// Inspects the table in `root`, which was once created completely.
    ///
    /// # Errors
    /// Of kind `InvalidData` if a file is missing or damaged and fjall would not notice.
    pub(crate) fn begin(root: &Path) -> io::Result<Self> {
        check_version(&root.join("version"))?;
        for keyspace in keyspaces(root)? {
            check_keyspace(&keyspace)?;
        }
        let journals = journals(root)?;
        if journals.is_empty() {
            return Err(damaged(root, "its journals are missing"));
        }
        let lock = root.join("lock");
        if !lock.try_exists()? {
            // The file is empty, but fjall does not open a table without it.
            File::create(&lock)?;
        }
        Ok(Self {
            root: root.to_owned(),
            journals,
        })
    }

    /// Names the damaged files: journals as they were before fjall opened them, tables as they are now. Reads all
    /// tables.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for Journal { path, broken_at } in &self.journals {
            remarks.extend(broken_at.map(|at| format!("{} has no batches from byte {at} on", path.display())));
        }
        let numbers: Vec<u64> = self
            .journals
            .iter()
            .filter_map(|journal| number(&journal.path))
            .collect();
        for pair in numbers.windows(2).filter(|pair| pair[0] + 1 < pair[1]) {
            remarks.push(format!("{}.jnl is missing", pair[0] + 1));
        }
        for keyspace in keyspaces(&self.root).unwrap_or_default() {
            match damaged_tables(&keyspace) {
                Ok(mut found) => remarks.append(&mut found),
                Err(error) => remarks.push(format!("{}: {error}", keyspace.display())),
            }
        }
        remarks.truncate(NAMED_MAX);
        remarks
    }
}

fn damaged(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// Reads a small file. A missing file is damage.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "it is missing"),
        io::ErrorKind::IsADirectory => damaged(path, "it is a directory"),
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    })
}

fn check_version(path: &Path) -> io::Result<()> {
    let found = read(path)?;
    match found.split_at_checked(VERSION.len()) {
        Some((VERSION, [])) => Ok(()),
        Some(([b'F', b'J', b'L', form], [])) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{}: this version of Quoin does not read format {form}", path.display()),
        )),
        _ => Err(damaged(path, "it names no format of a table")),
    }
}

/// The directories of keyspaces, by number.
fn keyspaces(root: &Path) -> io::Result<Vec<PathBuf>> {
    let root = root.join("keyspaces");
    let mut found = Vec::new();
    for entry in list(&root)? {
        if entry.is_dir() {
            found.push((
                number(&entry).ok_or_else(|| damaged(&entry, "it is no keyspace"))?,
                entry,
            ));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => damaged(root, "the directory is missing"),
        kind => io::Error::new(kind, format!("{}: {error}", root.display())),
    })?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The number at the beginning of a file's or directory's name.
fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn journals(root: &Path) -> io::Result<Vec<Journal>> {
    let mut found = Vec::new();
    for path in list(root)? {
        if path.extension().is_some_and(|end| end == "jnl") {
            if !path.is_file() || number(&path).is_none() {
                return Err(damaged(&path, "it is no journal"));
            }
            let broken_at = walk(&path)?;
            found.push(Journal { path, broken_at });
        }
    }
    found.sort_by_key(|journal| number(&journal.path));
    Ok(found)
}

/// Walks the valid entries of a journal. Returns where its last batch ends, if anything but zeros follows within
/// [`CHUNK_BYTES`]. An entry of an impossible length is damage, because fjall allocates memory by the length before it
/// checks the entry.
fn walk(path: &Path) -> io::Result<Option<u64>> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, File::open(path)?);
    let (mut at, mut end) = (0, 0);
    while let Some((tag, length)) = read_entry(&mut reader)? {
        if length > ENTRY_BYTES_MAX {
            return Err(damaged(
                path,
                &format!("the entry at byte {at} is longer than any entry can be"),
            ));
        }
        at += length;
        if tag == TAG_END {
            end = at;
        }
    }
    reader.seek(SeekFrom::Start(end))?;
    let mut behind = Vec::new();
    reader.take(CHUNK_BYTES as u64).read_to_end(&mut behind)?;
    Ok(behind.iter().any(|byte| *byte != 0).then_some(end))
}

/// An entry's tag and length; `None` at the end, or if there is no entry.
fn read_entry(reader: &mut BufReader<File>) -> io::Result<Option<(u8, u64)>> {
    let mut head = [0; ITEM_HEAD_BYTES];
    let mut fill = |from: usize, to: usize| match reader.read_exact(&mut head[from..to]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(head)),
    };
    let Some([tag, ..]) = fill(0, 1)? else { return Ok(None) };
    let rest = match tag {
        TAG_START | TAG_END => 12,
        TAG_ITEM => ITEM_HEAD_BYTES - 1,
        TAG_CLEAR => 8,
        _ => return Ok(None),
    };
    let Some(head) = fill(1, 1 + rest)? else {
        return Ok(None);
    };
    let mut length = 1 + rest as u64;
    if tag == TAG_ITEM {
        let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = head;
        let content = u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
        reader.seek_relative(content.cast_signed())?;
        length += content;
    }
    Ok(Some((tag, length)))
}

/// Checks a keyspace. Its `current` names its version file and has the checksum of that. `current` is missing only if
/// the creation of the keyspace was interrupted; such a keyspace has no tables, and no version but the first.
fn check_keyspace(keyspace: &Path) -> io::Result<()> {
    let current = keyspace.join("current");
    let found = match fs::read(&current) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_unfinished(keyspace)? {
                Ok(())
            } else {
                Err(damaged(&current, "it is missing"))
            };
        }
        found => found.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", current.display())))?,
    };
    let Some((id, checksum)) = parse_current(&found) else {
        return Err(damaged(&current, "it names no version"));
    };
    let version = keyspace.join(format!("v{id}"));
    if read(&version)?.len() as u64 == 0 || checksum_of(&version)? != checksum {
        return Err(damaged(&version, "it does not match its checksum"));
    }
    let tables = keyspace.join("tables");
    let named = tables_of(&version)?;
    named
        .iter()
        .try_for_each(|(id, _)| check_sections(&tables.join(id.to_string())))
}

/// Checks the list of a table's sections, because fjall allocates memory by its length before it checks it.
fn check_sections(path: &Path) -> io::Result<()> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "it is missing"),
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    })?;
    let broken = || damaged(path, "the list of its sections does not match its checksum");
    let end = file
        .metadata()?
        .len()
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(broken)?;
    let mut trailer = [0; TRAILER_BYTES];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut trailer)?;
    let (checksum, place) = trailer[6..].split_first_chunk().ok_or_else(broken)?;
    let (place, length) = place.split_first_chunk().ok_or_else(broken)?;
    let place = u64::from_le_bytes(*place);
    let length = u64::from_le_bytes(*length.first_chunk().ok_or_else(broken)?);
    if length > SECTIONS_BYTES_MAX || place.checked_add(length).is_none_or(|behind| behind > end) {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(place))?;
    let mut sections = Vec::new();
    file.take(length).read_to_end(&mut sections)?;
    if xxh3_128(&sections) == u128::from_le_bytes(*checksum) {
        Ok(())
    } else {
        Err(broken())
    }
}

fn is_unfinished(keyspace: &Path) -> io::Result<bool> {
    let tables = keyspace.join("tables");
    let has_tables = tables.try_exists()? && !list(&tables)?.is_empty();
    let later = list(keyspace)?.iter().any(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with('v') && name != "v0"
    });
    Ok(!has_tables && !later)
}

fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let bytes: &[u8; CURRENT_BYTES] = bytes.try_into().ok()?;
    let (id, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*id), u128::from_le_bytes(*checksum)))
}

fn checksum_of(path: &Path) -> io::Result<u128> {
    let (mut file, mut hasher) = (File::open(path)?, Xxh3Default::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.digest128()),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// The tables in a keyspace's version that are missing or have changed.
fn damaged_tables(keyspace: &Path) -> io::Result<Vec<String>> {
    let current = match fs::read(keyspace.join("current")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![format!("{} is missing", keyspace.join("current").display())]);
        }
        found => found?,
    };
    let (id, _) = parse_current(&current).ok_or_else(|| io::Error::other("current names no version"))?;
    let mut remarks = Vec::new();
    for (id, checksum) in tables_of(&keyspace.join(format!("v{id}")))? {
        let path = keyspace.join("tables").join(id.to_string());
        match checksum_of(&path) {
            Ok(found) if found == checksum => {}
            Ok(_) => remarks.push(format!("{} does not match its checksum", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                remarks.push(format!("{} is missing", path.display()));
            }
            Err(error) => remarks.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(remarks)
}

/// Numbers and checksums of the tables in a version file: levels of runs of tables.
fn tables_of(version: &Path) -> io::Result<Vec<(u64, u128)>> {
    let reader = sfa::Reader::new(version).map_err(io::Error::other)?;
    let section = reader.toc().section(b"tables");
    let section = section.ok_or_else(|| io::Error::other("a version without tables"))?;
    let mut file = File::open(version)?;
    file.seek(SeekFrom::Start(section.pos()))?;
    let mut bytes = Vec::new();
    file.take(section.len()).read_to_end(&mut bytes)?;
    read_tables(&bytes).ok_or_else(|| io::Error::other("its list of tables is not whole"))
}

fn read_tables(mut rest: &[u8]) -> Option<Vec<(u64, u128)>> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(*taken)
    }
    let mut tables = Vec::new();
    for _level in 0..u8::from_le_bytes(take(&mut rest)?) {
        for _run in 0..u8::from_le_bytes(take(&mut rest)?) {
            for _table in 0..u32::from_le_bytes(take(&mut rest)?) {
                let id = u64::from_le_bytes(take(&mut rest)?);
                let _kind: [u8; 1] = take(&mut rest)?;
                let checksum = u128::from_le_bytes(take(&mut rest)?);
                let _sequence: [u8; 8] = take(&mut rest)?;
                tables.push((id, checksum));
            }
        }
    }
    Some(tables)
}

#[cfg(test)]
mod tests {
    use quoin_core::table::{Bucket, TableOp};

    use super::*;
    use crate::table::{FjallTable, Table as _};

    /// A table with rows in files of two keyspaces and in a journal.
    fn table(root: &Path) {
        let mut table = FjallTable::open(root).unwrap();
        let row = |bucket, key: &'static str| TableOp::put(bucket, key, "value");
        table.write(&[row(Bucket::Key, "a"), row(Bucket::Meta, "b")]).unwrap();
        table.defragment().unwrap();
        table.write(&[row(Bucket::Key, "c"), row(Bucket::Meta, "d")]).unwrap();
        table.sync().unwrap();
    }

    fn opened(root: &Path) -> io::Error {
        FjallTable::open(root).map(|_| ()).unwrap_err()
    }

    /// The version file of the first keyspace.
    fn version_of_first(root: &Path) -> PathBuf {
        let files = list(&root.join("keyspaces/1")).unwrap();
        files
            .into_iter()
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with('v'))
            .unwrap()
    }

    #[test]
    fn missing_files_that_the_engine_would_not_notice_are_damage() {
        type Find = fn(&Path) -> PathBuf;
        let lose: [(&str, Find); 5] = [
            ("it is missing", |root| root.join("version")),
            ("it is missing", |root| root.join("keyspaces/1/current")),
            ("it is missing", |root| root.join("keyspaces/0/current")),
            ("it is missing", |root| version_of_first(root)),
            ("the directory is missing", |root| root.join("keyspaces")),
        ];
        for (why, path) in lose {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("table");
            table(&root);
            drop(FjallTable::open(&root).unwrap());
            let path = path(&root);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            // The second time gives the same error: no file was created in its place.
            for _ in 0..2 {
                let error = opened(&root);
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                assert_eq!(error.to_string(), format!("{}: {why}", path.display()));
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_lists_of_tables_is_damage_and_another_format_is_not() {
        for (path, kind) in [
            ("keyspaces/1/current", io::ErrorKind::InvalidData),
            ("version", io::ErrorKind::Unsupported),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("table");
            table(&root);
            let mut content = fs::read(root.join(path)).unwrap();
            content[3] ^= 4;
            fs::write(root.join(path), content).unwrap();
            assert_eq!(opened(&root).kind(), kind, "{path}");
        }
    }

    #[test]
    fn a_lost_table_a_changed_table_and_a_cut_journal_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("table");
        table(&root);
        let inspection = Inspection::begin(&root).unwrap();
        assert!(inspection.remarks().is_empty(), "{:?}", inspection.remarks());
        let tables = |keyspace: &str| list(&root.join("keyspaces").join(keyspace).join("tables")).unwrap();
        let (lost, changed) = (tables("1").remove(0), tables("2").remove(0));
        fs::remove_file(&lost).unwrap();
        let mut content = fs::read(&changed).unwrap();
        content[10] ^= 1;
        fs::write(&changed, content).unwrap();
        let expected = [
            format!("{} is missing", lost.display()),
            format!("{} does not match its checksum", changed.display()),
        ];
        assert_eq!(inspection.remarks(), expected);
        assert_eq!(opened(&root).to_string(), format!("{}: it is missing", lost.display()));
    }

    /// Changes a file of an intact table and returns the result of opening it.
    fn changed(path: impl Fn(&Path) -> PathBuf, change: impl Fn(&mut Vec<u8>)) -> (PathBuf, io::Result<FjallTable>) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("table");
        table(&root);
        let path = path(&root);
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        fs::write(&path, content).unwrap();
        (path, FjallTable::open(&root))
    }

    /// Where the second batch of the journal begins.
    fn second_batch(journal: &[u8]) -> usize {
        let end = journal.windows(4).position(|window| window == VERSION).unwrap();
        end + VERSION.len()
    }

    #[test]
    fn lengths_beyond_memory_are_found_before_memory_is_allocated() {
        let (path, opened) = changed(
            |root| list(&root.join("keyspaces/1/tables")).unwrap().remove(0),
            |content| {
                let sections = content.windows(4).rposition(|window| window == b"TOC!").unwrap();
                content[sections + 7] ^= 0x40;
            },
        );
        let said = opened.unwrap_err().to_string();
        assert!(said.starts_with(&*path.to_string_lossy()), "{said}");
        let journal = |root: &Path| root.join("0.jnl");
        let (path, opened) = changed(journal, |content| {
            let item = second_batch(content) + 13;
            assert_eq!(content[item], TAG_ITEM);
            content[item + ITEM_HEAD_BYTES - 1] = 0x70;
        });
        let said = opened.unwrap_err().to_string();
        assert!(
            said.starts_with(&*path.to_string_lossy()) && said.ends_with("longer than any entry can be"),
            "{said}"
        );
    }

    #[test]
    fn bytes_of_a_journal_that_are_no_batch_are_remarked() {
        let journal = |root: &Path| root.join("0.jnl");
        let (path, opened) = changed(journal, |content| {
            let batch = second_batch(content);
            content[batch] = 9;
        });
        let remarks = opened.unwrap().remarks();
        let begun = format!("{} has no batches from byte ", path.display());
        assert!(remarks.len() == 1 && remarks[0].starts_with(&begun), "{remarks:?}");
    }
}
