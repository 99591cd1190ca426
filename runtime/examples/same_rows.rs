//! Compares the rows of database files of etcd's format, bucket by bucket: `same_rows FILE FILE...`. It prints the number
//! of rows of each bucket, or the first differences.
//!
//! `conformance/src/churn` gives it the backups of all members of a cluster.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::ExitCode;

use bytes::Bytes;
use quoin_core::bbolt::{FileReader, FileStep};

/// Rows of the bucket `meta` that name how far a member has come, and with which voters. Members that have applied the
/// same entries may have them in different forms.
const PROGRESS: [&[u8]; 3] = [b"consistent_index", b"term", b"confState"];
const SHOWN: usize = 20;

/// The rows of all buckets.
type Rows = BTreeMap<(Bytes, Bytes), Bytes>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [first, others @ ..] = &files[..] else {
        return Err("usage: same_rows FILE FILE...".into());
    };
    let rows = read(first)?;
    let mut differences = Vec::new();
    for other in others {
        let found = differing(&rows, &read(other)?);
        differences.extend(found.into_iter().map(|row| format!("{first} and {other}: {row}")));
    }
    if !differences.is_empty() {
        differences.truncate(SHOWN);
        eprintln!("{}", differences.join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    let mut counts: BTreeMap<&Bytes, usize> = BTreeMap::new();
    for (bucket, _) in rows.keys() {
        *counts.entry(bucket).or_default() += 1;
    }
    println!("{} files are equal: {counts:?} rows", files.len());
    Ok(ExitCode::SUCCESS)
}

/// The rows that two files do not have in common.
fn differing(one: &Rows, other: &Rows) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = keys.into_iter().filter(|row| one.get(*row) != other.get(*row));
    let shown = differ.map(|row| format!("{row:?} is {:?} and {:?}", one.get(row), other.get(row)));
    shown.collect()
}

fn read(path: &str) -> Result<Rows, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let mut reader = FileReader::new(file.metadata()?.len());
    let mut rows = Rows::new();
    while next(&mut reader, &mut file)?.is_some() {}
    let buckets: Vec<Bytes> = reader.buckets().cloned().collect();
    for bucket in buckets {
        reader.enter(&bucket);
        while let Some((key, value)) = next(&mut reader, &mut file)? {
            if bucket.as_ref() != b"meta" || !PROGRESS.contains(&key.as_ref()) {
                rows.insert((bucket.clone(), key), value);
            }
        }
    }
    Ok(rows)
}

/// The next row of the bucket; `None` after the last one.
fn next(reader: &mut FileReader, file: &mut File) -> Result<Option<(Bytes, Bytes)>, Box<dyn Error>> {
    loop {
        match reader.step()? {
            FileStep::Done => return Ok(None),
            FileStep::Row(key, value) => return Ok(Some((key, value))),
            FileStep::Read(part) => {
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(part.offset))?;
                file.take(part.bytes as u64).read_to_end(&mut bytes)?;
                reader.feed(Bytes::from(bytes));
            }
        }
    }
}
