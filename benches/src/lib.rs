//! Criterion benches of the core, and side-by-side load runs against a real etcd.
