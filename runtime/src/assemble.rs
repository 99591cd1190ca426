//! scratch
use std::sync::Arc;
use quoin_core::config::Config;
use crate::clock::Clock; use crate::metrics::Metrics; use crate::running::Running;
/// x
pub type AssembleError = String;
/// x
pub fn start(_: &Config, _: Clock, _: &Arc<Metrics>) -> Result<Running, AssembleError> { Err("none".into()) }
