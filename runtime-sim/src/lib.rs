//! Quoin in a simulated world: one thread, virtual time, one seed.
//!
//! [`cluster`] runs whole clusters. The members are the real ones: they start through the runtime's boot, their nodes
//! are core's, and the runtime's lanes carry out the nodes' work for the disk. Only disk, table, network and clocks are
//! simulated. All nondeterminism of threads is drawn from the seed. [`check`] observes from outside. [`cluster::crash`]
//! crashes a cluster of one member at every point, thousands of times.

pub mod check;
mod choose;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod disk;
pub mod faults;
pub mod fuse;
pub mod observe;
pub mod process;
pub mod table;
pub mod time;
