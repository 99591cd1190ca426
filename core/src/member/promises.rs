//! The batches that were handed to the disk and are not durable yet, and the messages withheld until they are.
//!
//! A message leaves the member only once everything it promises is durable, so the host cannot send it too early: it
//! does not have the message yet. A leader's appends promise only its term, and leave while its own entries are still
//! being written.

use std::collections::VecDeque;

use crate::bug;
use crate::id::MemberId;
use crate::jobs::LogJob;
use crate::proto::raftpb::{Entry, HardState, Message, MessageType};
use crate::wal::{Marker, Save};

use super::{BatchId, Output};

/// A batch handed to the disk and not yet reported durable; batches are in order.
#[derive(Debug)]
struct LogBatch {
    id: BatchId,
    /// The number under which consensus counts it; an installation has none.
    ready: Option<u64>,
    term: u64,
    withheld: Vec<Message>,
}

/// The batches, and the messages that wait for them.
#[derive(Debug)]
pub(crate) struct Promises {
    batches: VecDeque<LogBatch>,
    last_id: u64,
    /// The last hard state handed to the disk.
    written: HardState,
    /// The highest term on disk.
    durable_term: u64,
}

impl Promises {
    /// Begins with a recovered log: everything up to `hard_state` is on disk.
    pub(crate) fn new(hard_state: HardState) -> Self {
        Self {
            batches: VecDeque::new(),
            last_id: 0,
            written: hard_state,
            durable_term: hard_state.term,
        }
    }

    /// Hands a batch to the disk, if it contains anything a message could promise. A new commit index alone promises
    /// nothing and is written with the next batch.
    pub(crate) fn persist(
        &mut self,
        ready: u64,
        hard_state: HardState,
        entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) -> bool {
        let voted = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        if entries.is_empty() && !voted {
            return false;
        }
        let save = Save {
            marker: None,
            entries,
            state: self.write(hard_state),
        };
        let id = self.hand_over(save, true, out);
        self.await_report(id, Some(ready), hard_state.term);
        true
    }

    /// Lets the log on disk continue after a received snapshot.
    pub(crate) fn install(&mut self, marker: Marker, hard_state: HardState, out: &mut Vec<Output>) -> BatchId {
        self.written = hard_state;
        let save = Save {
            marker: Some(marker),
            entries: Vec::new(),
            state: Some(hard_state),
        };
        let id = self.hand_over(save, true, out);
        self.await_report(id, None, hard_state.term);
        id
    }

    /// Writes a marker to the log. No message waits for it.
    pub(crate) fn mark(&mut self, marker: Marker, out: &mut Vec<Output>) -> BatchId {
        let save = Save {
            marker: Some(marker),
            ..Save::default()
        };
        self.hand_over(save, true, out)
    }

    /// Hands the commit index to the disk, if the disk has an older one. Nothing waits for it. False if a new term or
    /// vote has to be written first.
    pub(crate) fn persist_commit(&mut self, hard_state: HardState, out: &mut Vec<Output>) -> bool {
        let voted = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        if !voted && let Some(hard_state) = self.write(hard_state) {
            let save = Save {
                state: Some(hard_state),
                ..Save::default()
            };
            self.hand_over(save, false, out);
        }
        !voted
    }

    /// Sends messages, or withholds them until everything they promise is durable.
    pub(crate) fn send(&mut self, messages: Vec<Message>, leads: bool, out: &mut Vec<Output>) {
        let (mut free, mut bound) = (Vec::new(), Vec::new());
        for message in messages {
            if self.batches.is_empty() || self.promises_nothing(&message, leads) {
                free.push(message);
            } else {
                bound.push(message);
            }
        }
        emit(free, out);
        if let Some(batch) = self.batches.back_mut() {
            batch.withheld.append(&mut bound);
        }
    }

    /// `id` and every batch before it are durable. Returns the number to report to consensus, if it was not reported
    /// before.
    pub(crate) fn persisted(&mut self, id: BatchId, out: &mut Vec<Output>) -> Option<u64> {
        let mut ready = None;
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.id <= id) {
            ready = batch.ready.or(ready);
            self.durable_term = self.durable_term.max(batch.term);
            emit(batch.withheld, out);
        }
        ready
    }

    /// How many batches are not durable yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.batches.len()
    }

    /// Forwarded requests promise nothing; a leader's messages promise its term.
    fn promises_nothing(&self, message: &Message, leads: bool) -> bool {
        match message.get_msg_type() {
            MessageType::MsgPropose | MessageType::MsgReadIndex => true,
            MessageType::MsgAppendResponse if bug!(AcceptsBeforeDurable) => true,
            MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse if bug!(VotesBeforeDurable) => true,
            _ => leads && message.term <= self.durable_term,
        }
    }

    fn write(&mut self, hard_state: HardState) -> Option<HardState> {
        let news = hard_state != self.written;
        self.written = hard_state;
        news.then_some(hard_state)
    }

    fn hand_over(&mut self, save: Save, sync: bool, out: &mut Vec<Output>) -> BatchId {
        self.last_id += 1;
        let batch = BatchId(self.last_id);
        out.push(Output::Log(LogJob { batch, save, sync }));
        batch
    }

    fn await_report(&mut self, id: BatchId, ready: Option<u64>, term: u64) {
        self.batches.push_back(LogBatch {
            id,
            ready,
            term,
            withheld: Vec::new(),
        });
    }
}

/// Groups messages by receiver, in the order of first mention, and drops answers that a later one covers.
fn emit(mut messages: Vec<Message>, out: &mut Vec<Output>) {
    while let Some(first) = messages.first() {
        let to = first.to;
        let mut own: Vec<Message> = messages.extract_if(.., |message| message.to == to).collect();
        if let Some(place) = own.iter().rposition(is_plain_append_response) {
            let (term, index) = (own[place].term, own[place].index);
            let mut position = 0;
            own.retain(|message| {
                let is_earlier = position < place;
                position += 1;
                !(is_earlier && is_plain_append_response(message) && message.term == term && message.index <= index)
            });
        }
        out.push(Output::Send {
            to: MemberId(to),
            messages: own,
        });
    }
}

fn is_plain_append_response(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType, to: u64, term: u64) -> Message {
        Message {
            msg_type: kind as i32,
            to,
            term,
            ..Message::default()
        }
    }

    fn hard(term: u64, vote: u64, commit: u64) -> HardState {
        HardState { term, vote, commit }
    }

    /// The outputs in short form.
    fn said(out: &mut Vec<Output>) -> Vec<String> {
        out.drain(..)
            .map(|output| match output {
                Output::Log(job) => format!("persist {} {} {}", job.batch.0, job.save.entries.len(), job.sync),
                Output::Send { to, messages } => {
                    let kinds: Vec<_> = messages
                        .iter()
                        .map(|message| format!("{:?}", message.get_msg_type()))
                        .collect();
                    format!("send {to} {}", kinds.join(" "))
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_promise_waits_for_its_batch() {
        let (mut promises, mut out) = (Promises::new(hard(1, 0, 0)), Vec::new());
        assert!(promises.persist(1, hard(2, 3, 0), vec![], &mut out));
        promises.send(
            vec![message(MessageType::MsgRequestVoteResponse, 3, 2)],
            false,
            &mut out,
        );
        assert!(promises.persist(2, hard(2, 3, 0), vec![Entry::default()], &mut out));
        promises.send(vec![message(MessageType::MsgAppendResponse, 3, 2)], false, &mut out);
        promises.send(vec![message(MessageType::MsgPropose, 3, 0)], false, &mut out);
        assert_eq!(
            said(&mut out),
            ["persist 1 0 true", "persist 2 1 true", "send 3 MsgPropose"]
        );
        assert_eq!(promises.persisted(BatchId(1), &mut out), Some(1));
        assert_eq!(
            said(&mut out),
            ["send 3 MsgRequestVoteResponse"],
            "the second batch is not durable"
        );
        assert_eq!(promises.persisted(BatchId(2), &mut out), Some(2));
        assert_eq!(said(&mut out), ["send 3 MsgAppendResponse"]);
        promises.send(vec![message(MessageType::MsgHeartbeatResponse, 3, 2)], false, &mut out);
        assert_eq!(
            said(&mut out),
            ["send 3 MsgHeartbeatResponse"],
            "nothing is outstanding"
        );
    }

    #[test]
    fn a_leaders_appends_leave_at_once_but_not_before_its_term_is_durable() {
        let (mut promises, mut out) = (Promises::new(hard(1, 0, 0)), Vec::new());
        promises.persist(1, hard(2, 1, 0), vec![Entry::default()], &mut out);
        promises.send(vec![message(MessageType::MsgAppend, 2, 2)], true, &mut out);
        assert_eq!(
            said(&mut out),
            ["persist 1 1 true"],
            "a sole voter's learner must not see a term that may be lost"
        );
        promises.persisted(BatchId(1), &mut out);
        assert_eq!(said(&mut out), ["send 2 MsgAppend"]);
        promises.persist(2, hard(2, 1, 0), vec![Entry::default()], &mut out);
        promises.send(vec![message(MessageType::MsgAppend, 2, 2)], true, &mut out);
        assert_eq!(said(&mut out), ["persist 2 1 true", "send 2 MsgAppend"]);
    }

    #[test]
    fn a_commit_index_alone_waits_for_the_next_batch() {
        let (mut promises, mut out) = (Promises::new(hard(1, 1, 0)), Vec::new());
        assert!(!promises.persist(1, hard(1, 1, 5), vec![], &mut out));
        promises.persist_commit(hard(1, 1, 5), &mut out);
        promises.persist_commit(hard(1, 1, 5), &mut out);
        assert_eq!(said(&mut out), ["persist 1 0 false"], "once, and without a sync");
        assert!(promises.persist(2, hard(1, 1, 6), vec![Entry::default()], &mut out));
        let [Output::Log(job)] = &out[..] else {
            panic!("one job: {out:?}")
        };
        assert_eq!(job.save.state, Some(hard(1, 1, 6)));
    }

    #[test]
    fn messages_are_grouped_and_covered_answers_dropped() {
        let (mut promises, mut out) = (Promises::new(hard(1, 1, 0)), Vec::new());
        let kinds = [
            (MessageType::MsgAppendResponse, 2),
            (MessageType::MsgHeartbeatResponse, 3),
            (MessageType::MsgHeartbeatResponse, 2),
            (MessageType::MsgAppendResponse, 2),
        ];
        promises.send(kinds.map(|(kind, to)| message(kind, to, 1)).to_vec(), false, &mut out);
        assert_eq!(
            said(&mut out),
            [
                "send 2 MsgHeartbeatResponse MsgAppendResponse",
                "send 3 MsgHeartbeatResponse"
            ]
        );
    }
}
