//! Keys and values.

use bytes::Bytes;

/// The key number `n`, in the manner of Kubernetes; keys sort as their numbers do.
pub(crate) fn key(n: usize) -> Bytes {
    format!("/registry/pods/{n:08}").into()
}

/// A value of `bytes` bytes.
pub(crate) fn value(bytes: usize) -> Bytes {
    vec![b'v'; bytes].into()
}
