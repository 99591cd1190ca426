//! Recorded histories of concurrent clients on real server programs that are killed, stopped, and given bad disks.
//!
//! [`clients`] load a server and record what they see ([`record`]) while [`nemesis`] disturbs it; [`check`] judges the
//! history as a black box: nothing is known of the server but what it told its clients.

pub(crate) mod calls;
pub mod check;
pub(crate) mod clients;
pub mod nemesis;
pub mod record;
mod round;

pub use check::Summary;
pub use nemesis::Nemesis;
pub use round::{Figures, round, run};
