//! The half of hosting a Quoin member that every runtime shares; names no executor.

pub mod assemble;
pub mod boot;
pub mod clock;
pub mod datadir;
pub mod disk;
pub mod drive;
pub mod handle;
pub mod hub;
pub mod lanes;
pub mod mailbox;
pub mod table;
