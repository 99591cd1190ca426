//! Linearizable reads: readers are gathered into batches, a batch asks the leader for a read index, and its readers are
//! released once that index is applied. This file does not call consensus: it returns what to ask, and takes the
//! answers.
//!
//! Every question gets a new id each time it is asked, and only answers to questions of the current batch count. So a
//! process that was suspended cannot take an old answer for a new one.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::bug;
use crate::time::Instant;

use super::Token;

/// How long a question stays unanswered before it is asked again.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// What to do once a read index is confirmed and applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    /// The member revokes expired leases after it was suspended.
    Expiry,
    /// A client reads.
    Read(Token),
    /// A client renews a lease.
    Renew(Token, i64),
    /// A client asks for the remaining time of a lease.
    TimeToLive {
        token: Token,
        lease: i64,
        /// Whether it asks for the keys too.
        keys: bool,
    },
}

impl Reader {
    /// The client that waits, if any.
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Self::Expiry => None,
            Self::Read(token) | Self::Renew(token, _) | Self::TimeToLive { token, .. } => Some(token),
        }
    }
}

/// A reader and its deadline.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    reader: Reader,
    deadline: Instant,
}

/// Readers that share one question, and the ids under which it was asked since the leader last changed.
#[derive(Debug, Default)]
struct ReadBatch {
    waiters: Vec<Waiter>,
    asked: Vec<u64>,
    asked_at: Instant,
}

/// All linearizable reads of a member. One batch is asked at a time; later readers form the next.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    gathering: Vec<Waiter>,
    asking: Option<ReadBatch>,
    /// Confirmed, but not yet applied; in the order of their read index.
    confirmed: Vec<(u64, Vec<Waiter>)>,
    /// Clients that cancelled, whose readers are still in the lists.
    gone: BTreeSet<Token>,
    last_id: u64,
}

impl Reads {
    /// Ids continue after `first_id`, which no earlier run of this member used.
    pub(crate) fn new(first_id: u64) -> Self {
        Self {
            last_id: first_id,
            ..Self::default()
        }
    }

    /// Adds a reader to the next batch.
    pub(crate) fn join(&mut self, reader: Reader, deadline: Instant) {
        self.gathering.push(Waiter { reader, deadline });
    }

    /// Returns the id of the next question, if a batch is ready or its question is due to be asked again.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<u64> {
        match &self.asking {
            None if self.gathering.is_empty() => return None,
            None => {
                let waiters = std::mem::take(&mut self.gathering);
                self.asking = Some(ReadBatch {
                    waiters,
                    ..ReadBatch::default()
                });
            }
            Some(batch) if !batch.asked.is_empty() && now < batch.asked_at + RETRY => return None,
            Some(_) => {}
        }
        self.last_id += u64::from(!bug!(ReusesReadId));
        let batch = self.asking.as_mut().expect("a batch was just seen or made");
        batch.asked.push(self.last_id);
        batch.asked_at = now;
        Some(self.last_id)
    }

    /// The leader changed, or began to serve its term: the question is void and is asked again at once. Returns whether
    /// there was one.
    pub(crate) fn void(&mut self) -> bool {
        let Some(batch) = &mut self.asking else { return false };
        let had_asked = !batch.asked.is_empty();
        batch.asked.clear();
        had_asked
    }

    /// Takes an answer. Answers to another batch, or from before the last change of leader, are ignored.
    pub(crate) fn confirm(&mut self, id: u64, index: u64) {
        if self.asking.as_ref().is_some_and(|batch| batch.asked.contains(&id)) {
            let batch = self.asking.take().expect("it was just looked at");
            self.confirmed.push((index, batch.waiters));
        }
    }

    /// Takes the readers whose read index is applied.
    pub(crate) fn release(&mut self, applied: u64, out: &mut Vec<Reader>) {
        let before = out.len();
        self.confirmed.retain_mut(|(index, waiters)| {
            if *index > applied {
                return true;
            }
            out.extend(waiters.drain(..).map(|waiter| waiter.reader));
            false
        });
        self.drop_gone(out, before);
    }

    /// Takes the readers whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Reader>) {
        let before = out.len();
        self.take_if(|waiter| waiter.deadline <= now, out);
        self.drop_gone(out, before);
    }

    /// Drops a client's reader, if it has one. The lists are walked once for many such clients, so that cancelling a
    /// burst of requests costs no more than the requests did.
    pub(crate) fn cancel(&mut self, token: Token) {
        self.gone.insert(token);
        if self.gone.len() * 2 >= self.len() {
            let gone = std::mem::take(&mut self.gone);
            let is_gone = |waiter: &Waiter| waiter.reader.token().is_some_and(|token| gone.contains(&token));
            self.take_if(is_gone, &mut Vec::new());
        }
    }

    /// Takes all readers.
    pub(crate) fn drain(&mut self, out: &mut Vec<Reader>) {
        let before = out.len();
        self.take_if(|_| true, out);
        self.drop_gone(out, before);
        self.gone.clear();
    }

    /// When to ask again, or the earliest deadline of a reader, whichever comes first.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let retry = self.asking.as_ref().map(|batch| batch.asked_at + RETRY);
        self.waiters()
            .map(|waiter| waiter.deadline)
            .min()
            .into_iter()
            .chain(retry)
            .min()
    }

    fn len(&self) -> usize {
        let asking = self.asking.as_ref().map_or(0, |batch| batch.waiters.len());
        let confirmed: usize = self.confirmed.iter().map(|(_, waiters)| waiters.len()).sum();
        self.gathering.len() + asking + confirmed
    }

    /// Removes readers of cancelled clients from `readers[since..]`.
    fn drop_gone(&mut self, readers: &mut Vec<Reader>, since: usize) {
        if self.gone.is_empty() {
            return;
        }
        let mut at = 0;
        readers.retain(|reader| {
            at += 1;
            at <= since || !reader.token().is_some_and(|token| self.gone.remove(&token))
        });
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        let asking = self.asking.iter().flat_map(|batch| &batch.waiters);
        let confirmed = self.confirmed.iter().flat_map(|(_, waiters)| waiters);
        self.gathering.iter().chain(asking).chain(confirmed)
    }

    fn take_if(&mut self, mut take: impl FnMut(&Waiter) -> bool, out: &mut Vec<Reader>) {
        let mut sift = |waiters: &mut Vec<Waiter>| {
            waiters.retain(|waiter| {
                let taken = take(waiter);
                if taken {
                    out.push(waiter.reader);
                }
                !taken
            });
            waiters.is_empty()
        };
        sift(&mut self.gathering);
        if self.asking.as_mut().is_some_and(|batch| sift(&mut batch.waiters)) {
            self.asking = None;
        }
        self.confirmed.retain_mut(|(_, waiters)| !sift(waiters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Instant = Instant::from_nanos(7_000_000_000);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn read(token: u64) -> Reader {
        Reader::Read(Token(token))
    }

    fn released(reads: &mut Reads, applied: u64) -> Vec<Reader> {
        let mut out = Vec::new();
        reads.release(applied, &mut out);
        out
    }

    #[test]
    fn readers_share_a_question_and_wait_for_the_index() {
        let mut reads = Reads::new(0);
        assert_eq!(reads.ask(at(0)), None, "there are no readers");
        reads.join(read(1), LATE);
        reads.join(read(2), LATE);
        let first = reads.ask(at(0)).unwrap();
        reads.join(read(3), LATE);
        assert_eq!(reads.ask(at(0)), None, "one batch at a time");
        reads.confirm(first, 10);
        assert_eq!(released(&mut reads, 9), []);
        assert_eq!(released(&mut reads, 10), [read(1), read(2)]);
        let second = reads.ask(at(1)).unwrap();
        reads.confirm(second, 10);
        assert_eq!(released(&mut reads, 10), [read(3)]);
        assert_eq!(reads.deadline(), None, "no reader waits");
    }

    #[test]
    fn every_question_has_a_fresh_id_and_an_answer_to_any_of_its_batch_counts() {
        let mut reads = Reads::new(100);
        reads.join(read(1), LATE);
        let first = reads.ask(at(0)).unwrap();
        assert_eq!(reads.ask(at(499)), None, "not yet");
        let again = reads.ask(at(500)).unwrap();
        assert_ne!(first, again);
        reads.confirm(first, 5);
        assert_eq!(
            released(&mut reads, 5),
            [read(1)],
            "the late answer to the first question counts"
        );
        reads.join(read(2), LATE);
        let second = reads.ask(at(600)).unwrap();
        reads.confirm(again, 5);
        assert_eq!(
            released(&mut reads, 5),
            [],
            "an answer to an earlier batch does not count"
        );
        reads.confirm(second, 6);
        assert_eq!(released(&mut reads, 6), [read(2)]);
    }

    #[test]
    fn a_leader_change_voids_pending_questions() {
        let mut reads = Reads::new(0);
        assert!(!reads.void(), "nothing was asked");
        reads.join(read(1), LATE);
        let old = reads.ask(at(0)).unwrap();
        assert!(reads.void());
        let new = reads.ask(at(1)).expect("asked again at once");
        reads.confirm(old, 5);
        assert_eq!(released(&mut reads, 9), [], "the deposed leader's answer is not taken");
        reads.confirm(new, 7);
        assert_eq!(released(&mut reads, 9), [read(1)]);
    }

    #[test]
    fn a_cancelled_read_is_not_released() {
        let mut reads = Reads::new(0);
        for token in 1..=9 {
            reads.join(read(token), LATE);
        }
        let id = reads.ask(at(0)).unwrap();
        reads.cancel(Token(2));
        reads.cancel(Token(7));
        reads.cancel(Token(70));
        reads.confirm(id, 1);
        let left: Vec<Reader> = [1, 3, 4, 5, 6, 8, 9].map(read).to_vec();
        assert_eq!(released(&mut reads, 1), left);
        for token in 10..=12 {
            reads.join(read(token), at(50));
        }
        reads.cancel(Token(11));
        let mut late = vec![read(11)];
        reads.expire(at(50), &mut late);
        assert_eq!(late, [read(11), read(10), read(12)], "items from before stay");
        reads.cancel(Token(80));
        assert!(reads.gone.is_empty(), "no cancelled token is kept once no reader waits");
    }

    #[test]
    fn readers_leave_when_late_or_cancelled() {
        let mut reads = Reads::new(0);
        reads.join(read(1), at(50));
        reads.join(read(2), LATE);
        reads.ask(at(0));
        reads.join(read(3), LATE);
        assert_eq!(reads.deadline(), Some(at(50)));
        let mut late = Vec::new();
        reads.expire(at(50), &mut late);
        assert_eq!(late, [read(1)]);
        reads.cancel(Token(2));
        assert!(reads.asking.is_none(), "an empty batch is not asked");
        reads.cancel(Token(3));
        assert_eq!(reads.deadline(), None, "no reader waits");
    }
}
