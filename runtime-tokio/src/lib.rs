//! Quoin on tokio, with the binary quoin-tokio.
