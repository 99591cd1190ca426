//! The write-ahead log in etcd's format: its bytes, written and read, and which of them count after a crash.
//!
//! This module touches no file. [`Writer`] turns entries, hard states and snapshot markers into the bytes to append;
//! [`survey`] and [`replay`] read a log back through a [`Source`] that the host provides.
//!
//! # Format
//!
//! A log is a sequence of segments named `<sequence>-<first index>.wal`. A segment is a sequence of frames: an 8-byte
//! length word, a `walpb.Record`, zeros up to a multiple of 8. A record's checksum covers the data of every record of
//! the log so far. A segment begins with the checksum of the one before, the metadata, and the last hard state. After
//! the last frame the newest segment is zeros, as preallocated.
//!
//! # Batches
//!
//! The records appended between two syncs are a batch. This writer opens each batch with a checksum record that also
//! holds the batch's length. etcd checks the checksum of such a record and ignores the rest; this reader concludes two
//! things from it. A batch is written only after the one before was synced, so *everything before an opening record was
//! durable*. And the length gives the end of the batch, so *any byte after that end proves that the batch was durable*.
//!
//! # A broken frame: torn or rotten?
//!
//! A crash may lose any sectors of the last batch, and only of that one: nothing in it has been acknowledged. The
//! reader cuts such a tail off. Every other broken frame was durable once, so it may hold committed entries: the reader
//! stops and names file and offset. A tail counts as torn only if all of this holds:
//!
//! 1. It is in the last segment, after that segment's head (a segment gets its name only after its head is synced).
//! 2. It looks like lost sectors: the frame's length word is zero up to the end of its sector; or the word is valid,
//!    agrees with the lengths inside the record as far as those can be read, and a sector of the record is all zero or
//!    beyond the end of the file. A flipped bit, also one in the length word, does not look like that.
//! 3. It is in the last batch. Inside a batch: only zeros follow the batch's end. Where a batch should begin: no
//!    opening record follows. Among records that etcd appended, which have no batches: only zeros follow the
//!    broken frame; this refuses more than necessary.
//!
//! One case remains undecidable: a last batch that was synced and then lost a whole sector. It is taken as torn, as in
//! etcd.

mod frame;
mod name;
mod reader;
mod replay;
mod tail;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

pub use frame::{HEAD_BYTES, begun_by_etcd};
pub(crate) use name::parse_hex;
pub use name::{SegmentName, select};
pub use reader::{Segment, Source};
pub use replay::{Identity, Replay, Survey, Tail, replay, survey};
pub use writer::{Cut, Marker, Save, Writer};
