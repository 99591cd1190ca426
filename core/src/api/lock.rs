//! The lock service. A lock is the oldest key under `<name>/`; each holder or waiter has a key there, which ends with
//! its lease.

use bytes::Bytes;

use super::recipe::{self, Queue, Recipe, RecipeStep};
use super::{Answer, Call};
use crate::bug;
use crate::error::Error;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{ResponseHeader, TxnResponse, WatchResponse};
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

/// Waits for a lock.
#[derive(Debug)]
pub(super) struct Locking {
    lease: i64,
    key: Bytes,
    queue: Queue,
    stage: Stage,
}

/// The step whose result a [`Locking`] waits for.
#[derive(Debug)]
enum Stage {
    /// The grant of a lease.
    Grant,
    /// The transaction that creates its key.
    Acquire,
    /// The deletion of the keys before its own.
    Wait,
    /// The reading of its key, which ends with the lease and may be gone.
    Confirm,
    /// None: the call has its result.
    Over,
}

impl Locking {
    pub(super) fn new(request: &LockRequest) -> Self {
        let prefix = recipe::prefix(&request.name);
        Self {
            lease: request.lease,
            key: Bytes::new(),
            queue: Queue { prefix, own: 0 },
            stage: Stage::Grant,
        }
    }

    fn acquire(&mut self) -> RecipeStep {
        self.stage = Stage::Acquire;
        self.key = recipe::key(&self.queue.prefix, self.lease);
        let owner = || Op::RequestRange(recipe::first(&self.queue.prefix));
        let put = recipe::put(&self.key, Bytes::new(), self.lease);
        let own = Op::RequestRange(recipe::get(&self.key));
        RecipeStep::Call(recipe::if_created(&self.key, 0, vec![put, owner()], vec![own, owner()]))
    }

    fn acquired(&mut self, response: TxnResponse) -> RecipeStep {
        let created = |place| {
            let range = recipe::range_at(&response, place)?;
            Some(range.kvs.first()?.create_revision)
        };
        self.queue.own = if response.succeeded {
            recipe::revision(response.header.as_ref())
        } else {
            // The lease has a key already: it holds the lock, or waits for it in another call.
            created(0).unwrap_or_default()
        };
        if created(1).is_none_or(|oldest| oldest == self.queue.own) {
            return self.locked(response.header);
        }
        self.stage = Stage::Wait;
        self.queue.look()
    }

    fn locked(&mut self, header: Option<ResponseHeader>) -> RecipeStep {
        self.stage = Stage::Over;
        let key = self.key.clone();
        RecipeStep::Answer(Answer::Lock(LockResponse { header, key }))
    }

    /// Gives up the place in the queue.
    fn unlock(&self) -> Option<Call> {
        matches!(self.stage, Stage::Wait | Stage::Confirm).then(|| Call::DeleteRange(recipe::delete(&self.key)))
    }
}

impl Recipe for Locking {
    fn begin(&mut self) -> RecipeStep {
        if self.lease == 0 {
            return recipe::grant();
        }
        self.acquire()
    }

    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error> {
        Ok(match (&self.stage, answer) {
            (Stage::Grant, Answer::LeaseGrant(granted)) => {
                self.lease = granted.id;
                self.acquire()
            }
            (Stage::Acquire, Answer::Txn(response)) => self.acquired(response),
            (Stage::Wait, Answer::Range(found)) if bug!(LocksUnconfirmed) && found.kvs.is_empty() => {
                self.locked(found.header)
            }
            (Stage::Wait, Answer::Range(found)) => self.queue.looked(&found).unwrap_or_else(|| {
                self.stage = Stage::Confirm;
                RecipeStep::Call(Call::Range(recipe::get(&self.key)))
            }),
            (Stage::Confirm, Answer::Range(found)) if found.kvs.is_empty() => {
                self.stage = Stage::Over;
                return Err(Error::LockSessionExpired);
            }
            (Stage::Confirm, Answer::Range(found)) => self.locked(found.header),
            (stage, answer) => unreachable!("{answer:?} is no result of {stage:?}"),
        })
    }

    fn saw(&mut self, response: &WatchResponse) -> Result<RecipeStep, Error> {
        self.queue.saw(response)
    }

    fn failed(&self) -> Option<Call> {
        self.unlock()
    }

    fn abandoned(&self) -> Option<Call> {
        self.unlock()
    }
}

/// Gives a lock back: deletes the key that the holder got.
#[derive(Debug)]
pub(super) struct Unlocking(pub(super) UnlockRequest);

impl Recipe for Unlocking {
    fn begin(&mut self) -> RecipeStep {
        RecipeStep::Call(Call::DeleteRange(recipe::delete(&self.0.key)))
    }

    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error> {
        let Answer::DeleteRange(deleted) = answer else {
            unreachable!("{answer:?} is no result of a deletion");
        };
        let header = deleted.header;
        Ok(RecipeStep::Answer(Answer::Unlock(UnlockResponse { header })))
    }
}
