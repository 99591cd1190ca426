//! The shared parts of the command-line tools: output that survives a closed pipe and shows progress ([`screen`]), a
//! report that survives an interruption ([`interrupt`]), and the date, commit and machine of a report ([`made`]).
//!
//! Arguments are read by clap in each tool: an unknown word is an error with a suggestion and exit code 2.

pub mod interrupt;
pub mod made;
pub mod screen;

pub use made::Made;
pub use screen::{Progress, note, say};
