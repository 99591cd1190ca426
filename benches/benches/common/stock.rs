//! A key space with something in it.

use bytes::Bytes;
use quoin_core::mvcc::Mvcc;

use crate::data::key;

/// Writes so many keys, ascending, a revision each.
pub(crate) fn stock(keys: usize, value: &Bytes) -> Mvcc {
    let mut mvcc = Mvcc::new();
    for n in 0..keys {
        put(&mut mvcc, n, value);
    }
    mvcc
}

/// Writes one key in a revision of its own, and forgets what follows from it.
pub(crate) fn put(mvcc: &mut Mvcc, n: usize, value: &Bytes) {
    let mut write = mvcc.begin();
    // A copy, as of a request that arrived on its own.
    write.put(key(n), Bytes::copy_from_slice(value), 0);
    write.end(&mut Vec::new(), &mut Vec::new());
}
