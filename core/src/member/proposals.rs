//! Pending proposals: the origin and the deadline of each request id, and the entries that were not yet handed to a
//! leader.
//!
//! An entry may be applied although its proposer no longer waits; then there is no answer. While there is no leader,
//! proposals wait here, as in etcd, until there is one or their deadline passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::error::Error;
use crate::limits::{MAX_BATCH_ENTRIES, MAX_INFLIGHT_REQUESTS, MAX_UNCOMMITTED_BYTES};
use crate::proto::raftpb::{Entry, EntryType};
use crate::time::Instant;

use super::Token;

/// Why something was proposed, and for which client. It decides what happens to the outcome.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Origin {
    /// The member raises its NOSPACE alarm; then the client whose request did not fit is answered.
    Alarm(Option<Token>),
    /// The auto-compactor.
    AutoCompact,
    /// The lessor checkpoints the remaining time of leases.
    Checkpoint,
    /// A client; it gets the answer.
    Client(Token),
    /// A client's compaction that is answered once the space is free.
    Compact(Token),
    /// The member publishes its name and client URLs.
    Publish,
    /// A client renews a lease whose checkpoint must be cleared first.
    Renew(Token, i64),
    /// The lessor revokes an expired lease.
    Revoke(i64),
    /// The leader sets the cluster version.
    Version,
}

impl Origin {
    /// The client that waits for it, if any.
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Self::Client(token) | Self::Compact(token) | Self::Renew(token, _) => Some(token),
            Self::Alarm(token) => token,
            Self::AutoCompact | Self::Checkpoint | Self::Publish | Self::Revoke(_) | Self::Version => None,
        }
    }
}

/// One pending proposal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) origin: Origin,
    pub(crate) proposed_at: Instant,
    deadline: Instant,
}

/// All pending proposals.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    flights: BTreeMap<u64, Flight>,
    by_token: BTreeMap<Token, u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    unsent: VecDeque<(u64, Entry)>,
    unsent_bytes: usize,
    failed: u64,
}

impl Proposals {
    /// Whether no further proposal of a client is accepted.
    pub(crate) fn is_full(&self) -> bool {
        self.flights.len() >= MAX_INFLIGHT_REQUESTS || self.unsent_bytes >= MAX_UNCOMMITTED_BYTES
    }

    /// Whether this proposal was made here and is pending.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.flights.contains_key(&id)
    }

    /// Adds a proposal, to be sent by [`Proposals::take_unsent`].
    pub(crate) fn add(&mut self, id: u64, origin: Origin, now: Instant, deadline: Instant, entry: Entry) {
        self.flights.insert(
            id,
            Flight {
                origin,
                proposed_at: now,
                deadline,
            },
        );
        self.deadlines.insert((deadline, id));
        if let Some(token) = origin.token() {
            self.by_token.insert(token, id);
        }
        self.unsent_bytes += entry.data.len();
        self.unsent.push_back((id, entry));
    }

    /// Takes the entries for the next message: normal entries of at most `max_bytes` together (but at least one,
    /// whatever its size), or one membership change alone. If `conf_change_allowed` is false, membership changes stay,
    /// and later entries pass them.
    pub(crate) fn take_unsent(&mut self, max_bytes: usize, conf_change_allowed: bool) -> Vec<Entry> {
        let (mut taken, mut bytes, mut place) = (Vec::new(), 0, 0);
        while taken.len() < MAX_BATCH_ENTRIES
            && let Some((id, entry)) = self.unsent.get(place)
        {
            if !self.flights.contains_key(id) {
                self.remove_unsent(place);
                continue;
            }
            let is_conf_change = entry.get_entry_type() == EntryType::EntryConfChange;
            if is_conf_change && !conf_change_allowed {
                place += 1;
                continue;
            }
            bytes += entry.data.len();
            if !taken.is_empty() && (is_conf_change || bytes > max_bytes) {
                break;
            }
            taken.push(self.remove_unsent(place));
            if is_conf_change {
                break;
            }
        }
        taken
    }

    /// The proposals that were not sent yet.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = &Entry> {
        let waiting = self.unsent.iter().filter(|(id, _)| self.flights.contains_key(id));
        waiting.map(|(_, entry)| entry)
    }

    /// Drops unsent proposals whose origin satisfies `is_void`, and returns their origins.
    pub(crate) fn withdraw(&mut self, is_void: impl Fn(Origin) -> bool) -> Vec<Origin> {
        let waiting = self.unsent.iter().map(|(id, _)| *id);
        let void = |id: &u64| self.flights.get(id).is_some_and(|flight| is_void(flight.origin));
        let void: Vec<u64> = waiting.filter(void).collect();
        let flights = void.into_iter().filter_map(|id| self.resolve(id));
        flights.map(|flight| flight.origin).collect()
    }

    /// Whether any entry is queued, including membership changes that must wait and entries of proposals that have
    /// ended meanwhile; so [`Self::take_unsent`] may still return nothing.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes a proposal whose outcome is known; `None` if it was not made here or is no longer pending.
    pub(crate) fn resolve(&mut self, id: u64) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        self.deadlines.remove(&(flight.deadline, id));
        if let Some(token) = flight.origin.token() {
            self.by_token.remove(&token);
        }
        Some(flight)
    }

    /// Drops a client's proposal, which may be applied all the same; false if there is none. As in etcd, it counts as a
    /// failed one.
    pub(crate) fn cancel(&mut self, token: Token) -> bool {
        let id = self.by_token.get(&token).copied();
        let is_cancelled = id.is_some_and(|id| self.resolve(id).is_some());
        self.failed += u64::from(is_cancelled);
        is_cancelled
    }

    /// Takes one proposal whose deadline has passed.
    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<Flight> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.failed += 1;
        self.resolve(id)
    }

    /// Takes any proposal.
    pub(crate) fn pop_any(&mut self) -> Option<Flight> {
        let (_, id) = *self.deadlines.first()?;
        self.resolve(id)
    }

    /// The earliest deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many are pending.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    /// How many reached their deadline or were cancelled by their clients.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Asserts that the tables agree.
    pub(crate) fn check(&self) {
        assert_eq!(
            self.flights.len(),
            self.deadlines.len(),
            "every proposal has one deadline"
        );
        assert!(
            self.by_token.values().all(|id| self.flights.contains_key(id)),
            "every proposal that a client waits for is pending"
        );
        let bytes: usize = self.unsent.iter().map(|(_, entry)| entry.data.len()).sum();
        assert_eq!(bytes, self.unsent_bytes, "the bytes of unsent proposals are counted");
    }

    fn remove_unsent(&mut self, place: usize) -> Entry {
        let (_, entry) = self.unsent.remove(place).expect("the caller checked that it is there");
        self.unsent_bytes -= entry.data.len();
        entry
    }
}

/// The times that decide which error a proposal gets at its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// When the current leader was seen first.
    pub(crate) leader_since: Option<Instant>,
    /// A proposal made less than this before `leader_since` may have been lost with the previous leader.
    pub(crate) loss_window: std::time::Duration,
    /// Since when this member has been connected to the leader or, if it leads, to a quorum. `None`: there is no
    /// leader. `Some(None)`: there is one, but the connection (or the quorum) is lost.
    pub(crate) connected_since: Option<Option<Instant>>,
}

/// etcd's error for a proposal made at `proposed_at` that was not answered in time.
pub(crate) fn timeout(proposed_at: Instant, circumstances: Circumstances) -> Error {
    let Circumstances {
        leader_since,
        loss_window,
        connected_since,
    } = circumstances;
    if let Some(elected) = leader_since
        && proposed_at < elected
        && proposed_at + loss_window > elected
    {
        return Error::TimeoutLeaderFail;
    }
    match connected_since {
        None => Error::Timeout,
        Some(Some(since)) if since <= proposed_at => Error::Timeout,
        Some(_) => Error::TimeoutConnectionLost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn entry(kind: EntryType, bytes: usize) -> Entry {
        Entry {
            entry_type: kind as i32,
            data: vec![0; bytes].into(),
            ..Entry::default()
        }
    }

    fn add(proposals: &mut Proposals, id: u64, kind: EntryType, bytes: usize) {
        proposals.add(id, Origin::Client(Token(id)), at(0), at(7), entry(kind, bytes));
        proposals.check();
    }

    #[test]
    fn proposals_go_out_in_messages_of_bounded_size_and_changes_of_membership_alone() {
        let mut proposals = Proposals::default();
        for (id, bytes) in [(1, 40), (2, 40), (3, 40), (4, 500)] {
            add(&mut proposals, id, EntryType::EntryNormal, bytes);
        }
        add(&mut proposals, 5, EntryType::EntryConfChange, 10);
        add(&mut proposals, 6, EntryType::EntryNormal, 10);
        let sizes = |entries: Vec<Entry>| entries.iter().map(|entry| entry.data.len()).collect::<Vec<_>>();
        assert_eq!(sizes(proposals.take_unsent(100, true)), [40, 40]);
        assert_eq!(sizes(proposals.take_unsent(100, true)), [40]);
        assert_eq!(
            sizes(proposals.take_unsent(100, true)),
            [500],
            "at least one entry is taken"
        );
        proposals.check();
        assert_eq!(
            sizes(proposals.take_unsent(100, false)),
            [10],
            "the normal entry passes the change that must wait"
        );
        assert!(proposals.has_unsent());
        assert_eq!(sizes(proposals.take_unsent(100, true)), [10]);
        assert_eq!(proposals.take_unsent(100, true), []);
        assert_eq!(proposals.len(), 6, "all are still pending");
    }

    #[test]
    fn a_cancelled_proposal_is_not_sent_and_not_answered() {
        let mut proposals = Proposals::default();
        add(&mut proposals, 1, EntryType::EntryNormal, 10);
        proposals.cancel(Token(1));
        assert_eq!(proposals.take_unsent(100, true), []);
        assert!(proposals.resolve(1).is_none());
        proposals.check();
    }

    #[test]
    fn late_proposals_are_taken_in_the_order_of_their_deadlines() {
        let mut proposals = Proposals::default();
        proposals.add(1, Origin::Revoke(5), at(0), at(9), entry(EntryType::EntryNormal, 1));
        add(&mut proposals, 2, EntryType::EntryNormal, 1);
        assert_eq!(proposals.deadline(), Some(at(7)));
        assert!(proposals.pop_late(at(6)).is_none());
        assert_eq!(proposals.pop_late(at(9)).unwrap().origin, Origin::Client(Token(2)));
        assert_eq!(proposals.pop_late(at(9)).unwrap().origin, Origin::Revoke(5));
        assert!(proposals.pop_late(at(9)).is_none());
        assert_eq!((proposals.failed(), proposals.len()), (2, 0));
    }

    #[test]
    fn a_timeout_names_its_likely_cause() {
        let window = Duration::from_secs(2);
        let case = |leader_since, connected_since| {
            timeout(
                at(10),
                Circumstances {
                    leader_since,
                    loss_window: window,
                    connected_since,
                },
            )
        };
        let table = [
            (case(None, None), Error::Timeout),
            (case(Some(at(11)), Some(Some(at(0)))), Error::TimeoutLeaderFail),
            (case(Some(at(12)), Some(Some(at(0)))), Error::Timeout),
            (case(Some(at(10)), Some(Some(at(0)))), Error::Timeout),
            (case(Some(at(3)), Some(Some(at(10)))), Error::Timeout),
            (case(Some(at(3)), Some(Some(at(11)))), Error::TimeoutConnectionLost),
            (case(Some(at(3)), Some(None)), Error::TimeoutConnectionLost),
        ];
        for (row, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {row}");
        }
    }

    #[test]
    fn a_deposed_leaders_revocations_and_checkpoints_are_not_sent() {
        let mut proposals = Proposals::default();
        for (id, origin) in [
            (1, Origin::Revoke(7)),
            (2, Origin::Client(Token(1))),
            (3, Origin::Checkpoint),
        ] {
            proposals.add(id, origin, at(0), at(9), Entry::default());
        }
        let is_void = |origin| matches!(origin, Origin::Checkpoint | Origin::Revoke(_));
        assert_eq!(proposals.withdraw(is_void), [Origin::Revoke(7), Origin::Checkpoint]);
        assert_eq!(proposals.unsent().count(), 1);
        assert_eq!(proposals.take_unsent(1_000, true).len(), 1);
        proposals.check();
    }
}
