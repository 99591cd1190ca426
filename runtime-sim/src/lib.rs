//! Quoin in a simulated world: one thread, virtual time, one seed.
//!
//! [`cluster`] runs whole clusters. The members are the real ones: they boot through the runtime's boot, their nodes are
//! core's, and what the nodes ask of the disk is done by the runtime's lanes; only disk, table, network and clocks are
//! simulated. Whatever threads would leave to chance is drawn from the seed. [`check`] watches from outside. In
//! [`cluster::crash`] a cluster of one member is crashed at every point, thousands of times.

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
