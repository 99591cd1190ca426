//! The half of hosting a Quoin member that every runtime shares; it depends on no executor.
//!
//! [`server::Server`] starts a member and serves its clients; [`process::main`] makes a program of it. A runtime crate
//! implements [`seam::Runtime`] with the help of [`clock`] and [`threads`]. A program that embeds a server depends only
//! on a runtime crate.
//!
//! The modules hidden from the documentation are public only for the simulator and the tests of this workspace, and may
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
mod peers;
pub mod process;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
mod publication;
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
mod tls;
