//! Memory of a key space: 300,000 keys of 256 bytes, a view published after every 100 writes. Memory is measured, not
//! time.

use bytes::Bytes;
use quoin_core::mvcc::Mvcc;

#[path = "common/data.rs"]
mod data;

const KEYS: usize = 300_000;
const VALUE_BYTES: usize = 256;
/// Bytes of a page of memory.
const PAGE_BYTES: usize = 4_096;

/// Resident memory of this process, without mapped files.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux reports the memory of a process");
    let mut fields = pages.split(' ').map(|field| field.parse::<usize>().unwrap_or(0));
    let (resident, shared) = (fields.nth(1).unwrap_or(0), fields.next().unwrap_or(0));
    (resident - shared) * PAGE_BYTES
}

/// Writes every key once, in the order of `place`, and prints the memory that the keys need.
fn measure(name: &str, place: fn(usize) -> usize) {
    let before = resident_bytes();
    let value = data::value(VALUE_BYTES);
    let mut mvcc = Mvcc::new();
    let mut view = mvcc.view();
    for n in 0..KEYS {
        let mut write = mvcc.begin();
        // A copy, as for a request that arrived separately.
        write.put(data::key(place(n)), Bytes::copy_from_slice(&value), 0);
        write.end(&mut Vec::new(), &mut Vec::new());
        if n % 100 == 99 {
            view = mvcc.view();
        }
    }
    assert_eq!(view.key_count(), KEYS);
    let used = resident_bytes() - before;
    println!(
        "memory/{name}: {} MB, {} bytes a key, of which {} are key and value",
        used / 1_000_000,
        used / KEYS,
        data::key(0).len() + VALUE_BYTES
    );
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("ascending") => measure("ascending", |n| n),
        _ => measure("scattered", |n| n * 7_919 % KEYS),
    }
}
