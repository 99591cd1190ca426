//! The KV service.

use super::read::Read;
use super::{Call, Server, Step, Then, confirmed};
use crate::error::Error;
use crate::limits::HEAVY_WRITE_ROWS;
use crate::node::Request;
use crate::proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use crate::store::check;

/// Reads keys.
pub(super) fn range(request: RangeRequest) -> Step {
    if request.serializable {
        Step::Fetch(Read::Range(request))
    } else {
        confirmed(Call::Range(request))
    }
}

/// Writes a key.
pub(super) fn put(request: PutRequest) -> Step {
    Step::ask(Request::Put(request), Then::Answer)
}

/// Deletes a range of keys.
pub(super) fn delete_range(server: &Server<'_>, request: DeleteRangeRequest) -> Step {
    let rows = server.view.rows_to_delete(&request);
    heavy(Request::DeleteRange(request), rows)
}

/// Compares, and then carries out one branch or the other.
pub(super) fn txn(server: &Server<'_>, request: TxnRequest) -> Result<Step, Error> {
    if !check::is_read_only(&request) {
        let rows = server.view.check_txn(&request)?;
        return Ok(heavy(Request::Txn(request), rows));
    }
    Ok(if check::is_serializable(&request) {
        Step::Fetch(Read::Txn(request))
    } else {
        confirmed(Call::Txn(request))
    })
}

/// Drops the history before a revision.
pub(super) fn compact(request: CompactionRequest) -> Step {
    Step::ask(Request::Compact(request), Then::Answer)
}

/// Asks the node for a write that may touch this many rows.
pub(super) fn heavy(request: Request, rows: usize) -> Step {
    Step::Ask {
        request,
        is_heavy: rows >= HEAVY_WRITE_ROWS,
        then: Then::Answer,
    }
}
