//! The multi-version key space: every key's kept revisions, one writer, any number of immutable views.

mod revision;
mod tree;

#[cfg(test)]
mod tests;

pub use revision::Revision;
