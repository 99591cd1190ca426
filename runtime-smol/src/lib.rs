//! Quoin on smol, with the binary quoin-smol and, by feature, quoin-async-std.
