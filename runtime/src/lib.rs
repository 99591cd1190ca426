//! The half of hosting a Quoin member that every runtime shares; names no executor.

pub mod clock;
pub mod disk;
pub mod mailbox;
pub mod table;
