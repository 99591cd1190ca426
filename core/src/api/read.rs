//! Reads of rows: plan, fetch, answer.
//!
//! [`Read::plan`] takes the newest view, decides whether the client may read what it asks for, and determines the rows to
//! look at: what permits a read and what is read are of one moment. [`Fetch::step`] fetches a bounded number of rows, so
//! that a host can run a long fetch where it delays nothing. [`Fetch::answer`] answers from the fetched rows. Today
//! every row is in the view, so a fetch always succeeds from memory.

use std::fmt;

use super::{Answer, Server};
use crate::bug;
use crate::error::Error;
use crate::mvcc::Scan;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest};
use crate::store::{KeyCounts, TxnScan};

/// A read that has no view yet.
#[derive(Debug)]
pub enum Read {
    /// A range for which no permission is needed: that of a health check.
    Probe(RangeRequest),
    /// A range.
    Range(RangeRequest),
    /// A read-only transaction.
    Txn(TxnRequest),
}

/// A read in progress.
pub struct Fetch {
    request: Request,
    /// The view's revision.
    revision: i64,
    /// The counts of a failed read, or of a range.
    counts: KeyCounts,
    stage: Stage,
}

/// The part of a request that the answer and the log of slow reads need.
enum Request {
    Range(RangeRequest),
    Txn { compares: usize },
}

#[expect(
    clippy::large_enum_variant,
    reason = "a box would be one more allocation for each short list"
)]
enum Stage {
    Failed(Error),
    /// One key: found or not.
    Key(RangeResponse),
    Keys(Scan),
    Txn(TxnScan),
}

impl Read {
    /// Takes the view of `server`. A read of one key is complete at once, and so is one that is not permitted.
    #[must_use]
    pub fn plan(self, server: &Server<'_>) -> Fetch {
        let view = server.view;
        let permitted = match &self {
            Self::Probe(_) => Ok(()),
            Self::Range(request) => server.authorize_range(request),
            Self::Txn(request) => server.authorize_txn(request),
        };
        let (request, stage) = match self {
            Self::Probe(request) | Self::Range(request) => {
                let stage = match permitted {
                    Err(error) => Stage::Failed(error),
                    Ok(()) if request.range_end.is_empty() => {
                        view.range(&request).map_or_else(Stage::Failed, Stage::Key)
                    }
                    Ok(()) => Scan::new(&view.kv, &request).map_or_else(Stage::Failed, Stage::Keys),
                };
                (Request::Range(request), stage)
            }
            Self::Txn(request) => {
                let compares = request.compare.len();
                let stage = match permitted {
                    Err(error) => Stage::Failed(error),
                    Ok(()) => Stage::Txn(TxnScan::new(view, request)),
                };
                (Request::Txn { compares }, stage)
            }
        };
        Fetch {
            request,
            revision: view.kv.revision(),
            counts: KeyCounts::RANGE,
            stage,
        }
    }
}

impl Fetch {
    /// Continues over about `rows` rows; true once the fetch is complete.
    pub fn step(&mut self, rows: usize) -> bool {
        let error = match &mut self.stage {
            Stage::Failed(_) | Stage::Key(_) => return true,
            Stage::Keys(scan) => return scan.step(rows),
            Stage::Txn(scan) => match scan.step(rows) {
                Ok(false) => return false,
                ended => {
                    self.counts = KeyCounts::default();
                    self.counts.add_transaction(scan.counts());
                    let Err(error) = ended else { return true };
                    error
                }
            },
        };
        self.stage = Stage::Failed(error);
        true
    }

    /// The counts of a complete fetch, as etcd's metrics define them.
    #[must_use]
    pub fn counts(&self) -> &KeyCounts {
        &self.counts
    }

    /// Whether it is a range, not a transaction: etcd measures the two separately.
    #[must_use]
    pub fn is_range(&self) -> bool {
        matches!(self.request, Request::Range(_))
    }

    /// Whether the fetch found no error.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        !matches!(self.stage, Stage::Failed(_))
    }

    /// Answers from the fetched rows; `server` is the member at present.
    ///
    /// # Errors
    /// The errors that the fetch found: [`Error::Compacted`], [`Error::FutureRevision`] and the like.
    pub fn answer(self, server: &Server<'_>) -> Result<Answer, Error> {
        let mut header = server.header();
        header.revision = self.revision;
        Ok(match self.stage {
            Stage::Failed(error) => return Err(error),
            Stage::Key(mut response) => {
                response.header = Some(header);
                response.more = more(response.more, response.count, &self.request);
                Answer::Range(response)
            }
            Stage::Keys(scan) => {
                let mut found = scan.finish();
                found.more = more(found.more, found.count, &self.request);
                Answer::Rows { header, found }
            }
            Stage::Txn(scan) => Answer::TxnRows {
                header,
                found: scan.finish(),
            },
        })
    }
}

/// Whether the limit cut an answer short.
fn more(found: bool, count: i64, request: &Request) -> bool {
    match request {
        Request::Range(request) if bug!(SaysMoreByTheCount) => request.limit > 0 && count > request.limit,
        _ => found,
    }
}

/// The request, for the log of slow reads.
impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Request::Range(request) => write!(
                f,
                "key:\"{}\" range_end:\"{}\" limit:{}",
                request.key.escape_ascii(),
                request.range_end.escape_ascii(),
                request.limit
            ),
            Request::Txn { compares } => write!(f, "compares:{compares}"),
        }
    }
}
