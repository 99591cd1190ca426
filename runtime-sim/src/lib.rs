//! Quoin in a simulated world: one thread, virtual time, one seed.

pub mod disk;
pub mod table;
