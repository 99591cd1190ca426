//! Fills a key space.

use bytes::Bytes;
use quoin_core::mvcc::Mvcc;

use crate::data::key;

/// Writes `keys` keys in ascending order, `times` times over, in a revision of its own for each write.
pub(crate) fn stock(keys: usize, times: usize, value: &Bytes) -> Mvcc {
    let mut mvcc = Mvcc::new();
    for n in 0..keys * times {
        let mut write = mvcc.begin();
        // A copy, as for a request that arrived separately.
        write.put(key(n % keys), Bytes::copy_from_slice(value), 0);
        write.end(&mut Vec::new(), &mut Vec::new());
    }
    mvcc
}
