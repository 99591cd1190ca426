//! Recorded histories of concurrent clients on real server programs that are killed, stopped, and given full or slow
//! disks.
//!
//! [`clients`] load a server and record their observations ([`record`]) while [`nemesis`] disturbs it. [`check`] treats
//! the server as a black box: it uses the observations of the clients and the times of the disturbances.

pub(crate) mod calls;
pub mod check;
pub(crate) mod clients;
pub mod nemesis;
pub mod record;
mod round;

pub use check::Summary;
pub use nemesis::Nemesis;
pub use round::{Figures, round, run};
