//! Reads a database file of etcd's format, and writes its state to a new one: `database FROM TO`. It prints what it
//! found.
//!
//! `cargo run -p quoin-runtime --example database -- FROM TO`. Tests give it files of a real etcd and have etcd check its
//! output (`conformance/tests/it/databases.rs`). It works like a host: it reads the parts of one file that are requested,
//! and writes the pieces of the other as they are made.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use bytes::Bytes;
use quoin_core::bbolt::FilePart;
use quoin_core::error::Fault;
use quoin_core::mvcc::Hashing;
use quoin_core::snapshot::{SnapshotCount, SnapshotFile};
use quoin_core::store::{StoreConfig, View};

/// Rows looked at in one step.
const STEP_ROWS: usize = 4_096;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else {
        return Err("usage: database FROM TO".into());
    };
    let view = read(from)?;
    let bytes = write(&view, to)?;
    let mut hashing = Hashing::new(&view.kv, 0)?;
    while !hashing.step(STEP_ROWS) {}
    let hash = hashing.finish();
    println!(
        r#"{{"revision":{},"compact_revision":{},"hash":{},"keys":{},"leases":{},"index":{},"term":{},"bytes":{bytes}}}"#,
        view.kv.revision(),
        hash.compact_revision,
        hash.hash,
        view.kv.key_count(),
        view.leases.len(),
        view.applied_index,
        view.term,
    );
    Ok(())
}

fn read(path: &str) -> Result<View, Box<dyn Error>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let part = |extent: FilePart| {
        let mut part = Vec::new();
        let read = file.seek(SeekFrom::Start(extent.offset)).and_then(|_| {
            let mut limited = (&file).take(extent.bytes as u64);
            limited.read_to_end(&mut part)
        });
        read.map_err(|error| Fault::Disk {
            operation: "read",
            file: path.to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Bytes::from(part))
    };
    let store = SnapshotFile::open(path, length, part)?.restore(StoreConfig::default())?;
    Ok(store.view())
}

fn write(view: &View, path: &str) -> Result<u64, Box<dyn Error>> {
    let mut count = SnapshotCount::new(view.clone());
    let mut walk = loop {
        if let Some(walk) = count.step(STEP_ROWS)? {
            break walk;
        }
    };
    let mut file = File::create_new(path)?;
    while let Some(pieces) = walk.step(STEP_ROWS)? {
        for piece in pieces {
            file.write_all(&piece)?;
        }
    }
    assert_eq!(file.metadata()?.len(), walk.total(), "the length is known before");
    Ok(walk.total())
}
