//! Metrics compared with etcd's: one workload is played to a real etcd and to one of ours, and the changes of each
//! metric are compared.
//!
//! [`exposition`] reads `/metrics`, [`workload`] changes every metric by the requests in [`requests`], [`compare`]
//! compares the two servers, and [`exceptions`] lists the intended differences, each with its reason. [`Prometheus`] is a real one that scrapes both.

mod compare;
mod exceptions;
mod exposition;
mod prometheus;
mod requests;
mod workload;

pub use compare::{Difference, compare, families};
pub use exceptions::{DIFFERS, Exception, MISSING, VARIES};
pub use exposition::{Exposition, Kind};
pub use prometheus::{Prometheus, Series, remarks};
pub use workload::{Moment, Played, play};
