//! Metrics beside etcd's: one workload is played to a real etcd and to one of ours, and what each metric did is compared.
//!
//! [`exposition`] reads what `/metrics` says, [`workload`] does everything that moves a metric by the [`requests`] there are,
//! [`compare`] lays the two beside each other, and [`exceptions`] is the list of differences that are meant, each with its
//! reason.

mod compare;
mod exceptions;
mod exposition;
mod requests;
mod workload;

pub use compare::{Difference, compare, families};
pub use exceptions::{DIFFERS, Exception, MISSING, VARIES};
pub use exposition::{Exposition, Kind};
pub use workload::{Moment, Played, play};
