//! The half of hosting a Quoin member that every runtime shares; names no executor.
//!
//! [`server::Server`] puts a member together and serves its clients; [`process::main`] makes a program of it. A runtime
//! crate provides [`seam::Runtime`].

pub mod assemble;
pub mod boot;
pub mod clock;
pub mod datadir;
pub mod disk;
mod doubt;
pub mod drive;
pub mod handle;
pub mod hashes;
pub mod hub;
pub mod lanes;
pub mod logs;
pub mod mailbox;
pub mod metrics;
pub mod process;
pub mod received;
pub mod running;
pub mod seam;
mod serve;
pub mod server;
pub mod table;
