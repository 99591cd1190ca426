//! Criterion benches of the core, and side-by-side load runs against a real etcd.
//!
//! [`side_by_side`] drives a real etcd and ours in turn with the same [`load`] and compares what each needed; [`report`] prints
//! it. [`hostile`] has clients ask for too much and measures what that costs another client.
//! `cargo run --release -p quoin-benches -- side-by-side` and `-- hostile` are the ways in.

pub mod hostile;
pub mod load;
pub mod report;
pub mod requests;
pub mod side_by_side;
pub mod workloads;
