//! The half of hosting a Quoin member that every runtime shares; names no executor.
//!
//! [`server::Server`] puts a member together and serves its clients; [`process::main`] makes a program of it. A runtime
//! crate provides [`seam::Runtime`].

mod alarms;
pub mod assemble;
pub mod boot;
pub mod clock;
pub mod datadir;
mod description;
pub mod descriptors;
pub mod disk;
mod doubt;
pub mod drive;
pub mod handle;
pub mod hashes;
pub mod hub;
mod inspect;
pub mod lanes;
mod libraries;
pub mod logs;
pub mod mailbox;
pub mod metrics;
mod parts;
pub mod process;
pub mod progress;
pub mod pulse;
pub mod received;
pub mod running;
pub mod seam;
mod serve;
pub mod server;
pub mod table;
pub mod threads;
