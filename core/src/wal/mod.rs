//! The write-ahead log in etcd's format: bytes out, bytes in, and what to believe of a log after a crash.
//!
//! Nothing here touches a file. [`Writer`] turns entries, hard states and snapshot markers into the bytes to append;
//! [`survey`] and [`replay`] read a log back through a [`Source`] the host provides.
//!
//! # Format
//!
//! A log is a row of segments named `<sequence>-<first index>.wal`. A segment is a row of frames: an 8-byte length word,
//! a `walpb.Record`, zeros up to a multiple of 8. A record's checksum covers the data of every record of the log so far.
//! A segment begins with the checksum of the one before, the metadata, and the last hard state. Behind the last frame
//! the newest segment is zeros, as preallocated.
//!
//! # Batches
//!
//! What is appended between two syncs is a batch, and this writer opens each with a checksum record that also holds the
//! batch's length. etcd reads over such records (it checks the checksum and ignores the rest); this reader learns two
//! things from them. A batch is written only after the one before it was synced, so *whatever precedes an opening record
//! was durable*. And it knows where a batch was to end, so *whatever follows that end proves that the batch was durable*.
//!
//! # A broken frame: torn or rotten?
//!
//! A crash may lose any sectors of the last batch, and only of it, because nobody was promised that batch. The reader
//! cuts such a tail off. Anything else that is broken was durable once, so it may be committed: the reader stops and
//! names file and offset. A tail counts as torn only if all of this holds:
//!
//! 1. It is in the last segment, behind that segment's head (a segment gets its name only after its head is synced).
//! 2. It looks like lost sectors: the frame's length word is zero up to the end of its sector; or the word is sound,
//!    agrees with the lengths inside the record as far as they can be seen, and a sector of the record is all zero or
//!    beyond the end of the file. A flipped bit, in the length word too, does not look like that.
//! 3. It is in the last batch. Inside a batch: nothing but zeros follow the batch's end. Where a batch should begin: no
//!    opening record follows. In what etcd itself has appended, where batches cannot be told: nothing but zeros follow the
//!    broken frame, which refuses more than it must.
//!
//! What remains undecidable is a last batch that was synced and then lost a whole sector; it is taken as torn, as etcd
//! does.

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
