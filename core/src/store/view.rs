//! The applied state after some entry, for readers on any thread.

use std::fmt;
use std::sync::Arc;

use super::alarm::Alarms;
use super::applied::header;
use super::cluster::Cluster;
use super::lease::{Lease, Leases};
use super::read::{self, TxnScan};
use crate::auth::Auth;
use crate::error::Error;
use crate::mvcc;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};

/// An immutable state. A clone is O(1).
#[derive(Clone)]
pub struct View {
    /// Keys with their history.
    pub kv: mvcc::View,
    /// Leases and the keys attached to them.
    pub leases: Leases,
    /// Alarms.
    pub alarms: Arc<Alarms>,
    /// Users, roles and permissions.
    pub auth: Arc<Auth>,
    /// Members, versions and the configuration of consensus.
    pub cluster: Arc<Cluster>,
    /// The last entry applied.
    pub applied_index: u64,
    /// Its term.
    pub term: u64,
    /// Bytes of keys and values of all kept revisions, which the quota limits.
    pub size_bytes: u64,
}

impl View {
    /// The leases for a lease clock to start from: id, seconds granted, seconds left at the last checkpoint.
    pub(crate) fn lease_clocks(&self) -> impl Iterator<Item = (i64, i64, i64)> {
        let clock = |(id, lease): (i64, &Lease)| (id, lease.ttl(), lease.remaining_ttl());
        self.leases.iter().map(clock)
    }

    /// A header with this state's revision and nothing else.
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.kv.revision(),
            ..ResponseHeader::default()
        }
    }

    /// Answers a read.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let found = self.kv.range(request)?;
        Ok(RangeResponse {
            header: header(self.kv.revision()),
            ..found
        })
    }

    /// Answers a transaction that [only reads](super::check::is_read_only).
    ///
    /// # Errors
    /// The error of a range.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut scan = TxnScan::new(self, request.clone());
        while !scan.step(usize::MAX)? {}
        Ok(scan.finish().response())
    }

    /// Checks, before a writing transaction is proposed, how many rows it would read while it is applied. Returns how
    /// many rows it may touch at most.
    ///
    /// # Errors
    /// [`Error::TooManyRows`].
    pub fn check_txn(&self, request: &TxnRequest) -> Result<usize, Error> {
        read::check_rows(&self.kv, request)
    }

    /// The number of rows that a deletion changes at most.
    #[must_use]
    pub fn rows_to_delete(&self, request: &DeleteRangeRequest) -> usize {
        self.kv.rows_to_read(&RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            ..RangeRequest::default()
        })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.kv.revision())
            .field("applied_index", &self.applied_index)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync + Clone>() {}
    shared_by_threads::<View>();
};
