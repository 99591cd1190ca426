//! The simulator's suites, each a module of one program.

mod cli;
mod clusters;
mod crashes;
mod model;
mod regressions;
mod several;
mod snapshots;
