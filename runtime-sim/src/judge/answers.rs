//! Whether an answer is right, by what is known of the revision it names.

use quoin_core::error::{Code, Error};
use quoin_core::member::Token;
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, ResponseHeader, TxnRequest,
    TxnResponse,
};
use quoin_core::store;

use super::history::{Change, Evaluation, without_headers};
use super::{Asked, Judge, Verdict, Violation, ensure};

impl Judge {
    /// A client was told that its request was carried out.
    pub(super) fn succeeded(&mut self, token: Token, asked: Asked, response: Response) -> Verdict {
        match (&asked.request, response) {
            (Request::Put(put), Response::Applied(store::Response::Put(response))) => {
                self.put(token, &asked, put, response)
            }
            (Request::DeleteRange(delete), Response::Applied(store::Response::DeleteRange(response))) => {
                self.delete(token, &asked, delete, response)
            }
            (Request::Txn(txn), Response::Applied(store::Response::Txn(response))) => {
                self.txn(token, &asked, txn, response)
            }
            (Request::LeaseGrant(_), Response::Applied(store::Response::LeaseGrant(response))) => {
                self.revision_of(&asked, response.header)?;
                self.leases
                    .granted(response.id, response.ttl, asked.at, asked.applied_index);
                Ok(())
            }
            (Request::LeaseRevoke(_), Response::Applied(store::Response::LeaseRevoke(response))) => {
                self.revision_of(&asked, response.header).map(drop)
            }
            (Request::Compact(compact), Response::Applied(store::Response::Compact(response))) => {
                self.revision_of(&asked, response.header)?;
                let floor = &mut self.floors.compact_revision;
                *floor = (*floor).max(compact.revision);
                Ok(())
            }
            (Request::LeaseRenew { id }, Response::Renewed { ttl }) => {
                if ttl > 0 {
                    self.leases.renewed(*id, ttl, asked.at);
                }
                Ok(())
            }
            (Request::Read, Response::Read) => self.read(&asked),
            (Request::Alarm(_), Response::Applied(store::Response::Alarm(_)))
            | (Request::LeaseLeases, Response::Leases { .. })
            | (Request::LeaseTimeToLive { .. }, Response::TimeToLive { .. }) => Ok(()),
            (request, response) => ensure(false, || format!("{request:?} is answered with {response:?}")),
        }
    }

    /// A client was told that its request was not carried out, or may not have been.
    pub(super) fn failed(&mut self, asked: &Asked, error: Error) -> Verdict {
        match error.code() {
            // It may still happen, or have happened; as in etcd also if it was applied and the quota is used up since.
            Code::Unavailable | Code::DeadlineExceeded | Code::Canceled | Code::ResourceExhausted => Ok(()),
            _ => self.refused(&asked.request),
        }
    }

    fn put(&mut self, token: Token, asked: &Asked, put: &PutRequest, response: PutResponse) -> Verdict {
        let revision = self.revision_of(asked, response.header)?;
        let mut expected = self.before(revision)?;
        let answer = expected.put(put);
        ensure(answer.prev_kv == response.prev_kv, || {
            format!("the put of revision {revision} is answered {response:?} and not {answer:?}")
        })?;
        self.claim(token, revision, &expected.changes)
    }

    fn delete(
        &mut self,
        token: Token,
        asked: &Asked,
        delete: &DeleteRangeRequest,
        response: DeleteRangeResponse,
    ) -> Verdict {
        let revision = self.revision_of(asked, response.header)?;
        let response = DeleteRangeResponse {
            header: None,
            ..response
        };
        // One that found nothing made no revision.
        let mut expected = if response.deleted == 0 {
            self.after(revision)?
        } else {
            self.before(revision)?
        };
        let answer = expected.delete(delete);
        ensure(answer == response, || {
            format!("the deletion of revision {revision} is answered {response:?} and not {answer:?}")
        })?;
        self.claim(token, revision, &expected.changes)
    }

    fn txn(&mut self, token: Token, asked: &Asked, txn: &TxnRequest, response: TxnResponse) -> Verdict {
        let revision = self.revision_of(asked, response.header)?;
        let response = without_headers(response);
        let mut expected = self.after(revision)?;
        let mut answer = expected.txn(txn);
        if !expected.changes.is_empty() || answer != response {
            expected = self.before(revision)?;
            answer = expected.txn(txn);
        }
        ensure(answer == response, || {
            format!("the transaction of revision {revision} is answered {response:?} and not {answer:?}")
        })?;
        self.claim(token, revision, &expected.changes)
    }

    /// A linearizable read goes on from the newest state there is.
    fn read(&self, asked: &Asked) -> Verdict {
        let Some(seen) = &self.seen else {
            return ensure(false, || "a read may go on, and there is nothing to read".to_owned());
        };
        let everything = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..RangeRequest::default()
        };
        let response = seen
            .range(&everything)
            .map_err(|error| Violation(format!("a read fails: {error}")))?;
        let revision = self.revision_of(asked, response.header)?;
        let expected = self.after(revision)?.range(&everything).kvs;
        ensure(expected == response.kvs, || {
            format!(
                "at revision {revision} {:?} are read and not {expected:?}",
                response.kvs
            )
        })
    }

    /// The revision an answer names, which is not older than what everybody knew when it was asked.
    fn revision_of(&self, asked: &Asked, header: Option<ResponseHeader>) -> Result<i64, Violation> {
        let revision = header.map_or(0, |header| header.revision);
        ensure(revision >= asked.revision && revision <= self.history.last(), || {
            let (since, last) = (asked.revision, self.history.last());
            format!(
                "{:?} was asked at revision {since}, is answered with {revision}, and there are {last}",
                asked.request
            )
        })?;
        Ok(revision)
    }

    /// The state that the request of a revision met.
    fn before(&self, revision: i64) -> Result<Evaluation, Violation> {
        let state = self.history.state(revision - 1);
        let state = state.ok_or_else(|| Violation(format!("nothing is known before revision {revision}")))?;
        Ok(Evaluation::new(state, revision))
    }

    /// The state at a revision, for a request that made none.
    fn after(&self, revision: i64) -> Result<Evaluation, Violation> {
        let state = self.history.state(revision);
        let state = state.ok_or_else(|| Violation(format!("nothing is known of revision {revision}")))?;
        Ok(Evaluation::new(state, revision))
    }

    /// A request made a revision, and is the only one that did; unless it changed nothing.
    fn claim(&mut self, token: Token, revision: i64, changes: &[Change]) -> Verdict {
        if changes.is_empty() {
            return Ok(());
        }
        let known = self.history.changes(revision);
        ensure(known == changes, || {
            format!("revision {revision} changed {known:?} and is acknowledged as {changes:?}")
        })?;
        let other = self.claimed.insert(revision, token);
        ensure(other.is_none(), || {
            format!("requests {other:?} and {token:?} both made revision {revision}")
        })
    }
}
