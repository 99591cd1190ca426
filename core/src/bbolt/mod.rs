//! The file format of bbolt, in which etcd stores its applied state. The backup that a client downloads and the
//! snapshot that one member sends another are files of this format. Reader and writer hold only a small part of a file
//! in memory.
//!
//! - [`FileWriter`] takes buckets and rows in order and makes pages in order. The caller passes the same rows twice.
//!   The first run only counts pages, because the meta pages at the start of a file hold the number of pages and the
//!   page of the root.
//! - [`FileReader`] asks for parts of a file and returns the rows of one bucket after the other. It reads files of any
//!   page size, with free pages and any form of free list, and checks everything it reads: a damaged file is a
//!   [`FileDamage`] that names the page.
//! - [`FileSum`] verifies the checksum that files written here have.
//!
//! A file is a sequence of pages. Pages 0 and 1 are meta pages; the one with the higher transaction id is valid. All
//! others are nodes of B+ trees, a list of free pages, or free. The tree of the root holds buckets by name: each has
//! the page of its own tree's root or, if it is small, a page inside the value. A node that does not fit one page
//! continues in the pages that follow.

mod page;
mod read;
mod sum;
mod write;

#[cfg(test)]
mod tests;

pub use page::PAGE_BYTES;
pub use read::{FileDamage, FilePart, FileReader, FileStep};
pub use sum::FileSum;
pub use write::{FilePlan, FileWriter};
