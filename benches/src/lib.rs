//! Criterion benches of the core, and side-by-side load runs against a real etcd.
//!
//! [`side_by_side`] runs the same [`load`] against a real etcd and Quoin in turn and compares their costs; [`report`]
//! prints the result. [`writers`] write while members fail. [`hostile`] runs clients that ask for too much and measures how
//! much they delay another client.
//! The commands are `cargo run --release -p quoin-benches -- side-by-side` and `-- hostile`.

pub mod hostile;
pub mod load;
pub mod report;
pub mod requests;
pub mod side_by_side;
pub mod workloads;
pub mod writers;
