//! Quoin's pure state machine: every decision of an etcd v3 member, no I/O.

pub mod mvcc;
pub mod table;
