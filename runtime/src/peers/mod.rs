//! The host of core's peer machine: connections with the other members.

#![allow(dead_code, reason = "it is called by the code that follows")]

pub(crate) mod dial;
