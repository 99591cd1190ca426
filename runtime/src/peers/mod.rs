//! The host of core's peer machine: connections with the other members.

pub(crate) mod dial;
pub(crate) mod questions;
