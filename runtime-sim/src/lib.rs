//! Quoin in a simulated world: one thread, virtual time, one seed.
//!
//! A [`world::World`] is one member with its clients. The member is the real one: it boots through the runtime's boot, its
//! node is core's, and what its node asks of the disk is done by the runtime's lanes; only disk, table and clock are
//! simulated. Whatever threads would leave to chance is drawn from the seed. A [`judge::Judge`] watches from outside, and
//! [`campaign`] runs worlds by the thousand and lets them die at every point.

pub mod campaign;
pub mod check;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod disk;
pub mod faults;
pub mod fuse;
pub mod judge;
pub mod observe;
pub mod process;
pub mod swarm;
pub mod table;
pub mod time;
pub mod trace;
pub mod workload;
pub mod world;
