//! A key space with something in it.

use bytes::Bytes;
use quoin_core::mvcc::Mvcc;

use crate::data::key;

/// Writes so many keys, ascending, a revision each, so many times over.
pub(crate) fn stock(keys: usize, times: usize, value: &Bytes) -> Mvcc {
    let mut mvcc = Mvcc::new();
    for n in 0..keys * times {
        let mut write = mvcc.begin();
        // A copy, as of a request that arrived on its own.
        write.put(key(n % keys), Bytes::copy_from_slice(value), 0);
        write.end(&mut Vec::new(), &mut Vec::new());
    }
    mvcc
}
