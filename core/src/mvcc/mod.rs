//! The multi-version key space: every key's kept revisions, one writer, any number of immutable views.

mod revision;

pub use revision::Revision;
