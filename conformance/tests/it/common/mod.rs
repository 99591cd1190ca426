//! What several suites share.

pub(crate) mod asking;
pub(crate) mod shown;
