//! The half of hosting a Quoin member that every runtime shares; names no executor.
//!
//! [`server::Server`] puts a member together and serves its clients; [`process::main`] makes a program of it. A runtime
//! crate provides [`seam::Runtime`], with the [`clock`] it goes by and the [`threads`] it may start. A program that embeds a
//! server uses a runtime crate's names and needs none of this one.
//!
//! The modules that documentation leaves out are public for the simulator and the tests of this workspace alone, and may
//! change with every version.

mod alarms;
#[doc(hidden)]
pub mod assemble;
#[doc(hidden)]
pub mod boot;
pub mod builder;
pub mod clock;
#[doc(hidden)]
pub mod datadir;
mod description;
mod descriptors;
#[doc(hidden)]
pub mod disk;
mod doubt;
#[doc(hidden)]
pub mod drive;
#[doc(hidden)]
pub mod handle;
#[doc(hidden)]
pub mod hashes;
#[doc(hidden)]
pub mod hub;
mod inspect;
#[doc(hidden)]
pub mod lanes;
mod libraries;
mod logs;
#[doc(hidden)]
pub mod mailbox;
#[doc(hidden)]
pub mod metrics;
pub mod newest;
mod parts;
pub mod process;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod pulse;
#[doc(hidden)]
pub mod received;
pub mod running;
pub mod seam;
mod serve;
pub mod server;
mod sockets;
mod start_error;
#[doc(hidden)]
pub mod table;
pub mod threads;
