//! One watch of a client over all streams that it is created on: its request, and the revision at which it continues.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

/// The state of a watch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Its creation is to be requested.
    Wanted,
    /// Its creation was requested.
    Asked,
    /// It exists, under this id.
    Live {
        /// The id.
        id: i64,
    },
    /// It waits for a list, to continue from there.
    Listing,
    /// It has ended.
    Ended,
}

/// The consequence of a response for the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// None.
    Nothing,
    /// The watch was cancelled because the events that it needs are compacted up to here.
    Compacted(i64),
}

/// The watch.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    request: WatchCreateRequest,
    pub(super) state: State,
    /// The revision at which it continues on another stream; 0 until a member has answered its creation.
    next: i64,
}

impl Watch {
    pub(super) const fn new(request: WatchCreateRequest) -> Self {
        Self {
            next: request.start_revision,
            request,
            state: State::Wanted,
        }
    }

    /// The request that creates it, for the first time or again.
    pub(super) fn create(&mut self) -> WatchCreateRequest {
        self.state = State::Asked;
        WatchCreateRequest {
            start_revision: self.next,
            ..self.request.clone()
        }
    }

    /// Its range, as a read.
    pub(super) fn range(&self) -> (Bytes, Bytes) {
        let first = Bytes::from_static(b"\0");
        let key = if self.request.key.is_empty() {
            first
        } else {
            self.request.key.clone()
        };
        (key, self.request.range_end.clone())
    }

    /// The first response: the watch was created, or refused.
    pub(super) fn created(&mut self, response: &WatchResponse) {
        if response.canceled {
            self.state = State::Ended;
            return;
        }
        self.state = State::Live { id: response.watch_id };
        if self.next == 0 {
            self.next = revision(response) + 1;
        }
    }

    /// A later response.
    pub(super) fn told(&mut self, response: &WatchResponse) -> Told {
        if response.canceled {
            self.state = State::Ended;
            return match response.compact_revision {
                0 => Told::Nothing,
                compacted => Told::Compacted(compacted),
            };
        }
        // A client passes fragments on only when they are complete; until then they do not count.
        if response.fragment {
            return Told::Nothing;
        }
        match response.events.last().and_then(|event| event.kv.as_ref()) {
            Some(kv) => self.next = kv.mod_revision + 1,
            None => self.progress(response),
        }
        Told::Nothing
    }

    /// All events up to the response's revision have arrived.
    pub(super) fn progress(&mut self, response: &WatchResponse) {
        if matches!(self.state, State::Live { .. }) && revision(response) >= self.next {
            self.next = revision(response) + 1;
        }
    }

    /// It continues from `next`, as a new watch.
    pub(super) const fn restart(&mut self, next: i64) {
        self.next = next;
        self.state = State::Wanted;
    }

    /// The stream has ended.
    pub(super) const fn stream_closed(&mut self) {
        match self.state {
            State::Asked | State::Live { .. } => self.state = State::Wanted,
            State::Wanted | State::Listing | State::Ended => {}
        }
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}
