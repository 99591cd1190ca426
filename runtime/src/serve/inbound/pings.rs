//! Counts a client's pings, and dismisses one that pings too often, as grpc-go does (`http2Server.handlePing`).
//!
//! A ping is too early if it comes less than the minimum after the one before, or, while the client has no call, less
//! than two hours after it. Headers and data that the server sends forgive all earlier pings and the next one. The third
//! early ping in a row ends the connection: the client is told ENHANCE_YOUR_CALM with the text `too_many_pings`, at which
//! clients of gRPC ping less often.

use std::collections::BTreeSet;
use std::time::Duration;

use quoin_core::time::Instant;

use super::{ACK, HEAD_BYTES, HEADERS, Head};
use crate::clock::Clock;

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_STREAM: u8 = 0x1;

/// A client without a call has no reason to ping more often.
const IDLE_MINIMUM: Duration = Duration::from_hours(2);
/// Early pings that are let pass.
const EARLY_MAX: u32 = 2;
/// GOAWAY, after its length and before the last stream that was served.
const GOAWAY: [u8; 9] = [0, 0, 22, 7, 0, 0, 0, 0, 0];
const ENHANCE_YOUR_CALM: u32 = 11;
const REASON: &[u8; 14] = b"too_many_pings";

/// The pings, the calls and the answers of one connection.
#[derive(Debug)]
pub(crate) struct Pings {
    clock: Clock,
    minimum: Duration,
    last: Option<Instant>,
    early: u32,
    /// Headers or data were sent since the last ping.
    has_answered: bool,
    /// The streams of calls that are not over.
    open: BTreeSet<u32>,
    newest: u32,
    /// The place within the frames that leave.
    leaving: Leaving,
    is_dismissed: bool,
}

/// A place within a sequence of frames.
#[derive(Debug, Default)]
struct Leaving {
    /// The beginning of a frame's head.
    head: Vec<u8>,
    /// Bytes of the payload that are still to come.
    payload: usize,
}

impl Pings {
    /// For a new connection, on which pings must be `minimum` apart.
    pub(crate) fn new(clock: Clock, minimum: Duration) -> Self {
        Self {
            clock,
            minimum,
            last: None,
            early: 0,
            has_answered: false,
            open: BTreeSet::new(),
            newest: 0,
            leaving: Leaving::default(),
            is_dismissed: false,
        }
    }

    /// A frame comes from the client.
    pub(super) fn came(&mut self, head: Head) {
        match head.kind {
            HEADERS if head.stream > self.newest => {
                self.newest = head.stream;
                self.open.insert(head.stream);
            }
            RST_STREAM => {
                self.open.remove(&head.stream);
            }
            PING if head.flags & ACK == 0 => self.ping(self.clock.now()),
            _ => {}
        }
    }

    fn ping(&mut self, now: Instant) {
        let minimum = if self.open.is_empty() {
            IDLE_MINIMUM
        } else {
            self.minimum
        };
        let is_early = self.last.is_some_and(|last| now.saturating_since(last) < minimum);
        self.last = Some(now);
        if std::mem::take(&mut self.has_answered) {
            self.early = 0;
        } else if is_early {
            self.early += 1;
        }
        self.is_dismissed |= self.early > EARLY_MAX;
    }

    /// Bytes leave for the client.
    pub(crate) fn left(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.leaving.payload > 0 {
                let length = self.leaving.payload.min(bytes.len());
                self.leaving.payload -= length;
                bytes = &bytes[length..];
                continue;
            }
            let wanted = HEAD_BYTES - self.leaving.head.len();
            let (more, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.leaving.head.extend_from_slice(more);
            bytes = rest;
            if let Some(head) = Head::read(&self.leaving.head) {
                self.leaving.head.clear();
                self.leaving.payload = head.length;
                self.frame_left(head);
            }
        }
    }

    fn frame_left(&mut self, head: Head) {
        let is_answer = matches!(head.kind, DATA | HEADERS);
        self.has_answered |= is_answer;
        if head.kind == RST_STREAM || is_answer && head.flags & END_STREAM != 0 {
            self.open.remove(&head.stream);
        }
    }

    /// The last frame for a client that is dismissed, unless another frame has begun to leave.
    pub(crate) fn farewell(&self) -> Option<Vec<u8>> {
        let is_between_frames = self.leaving.head.is_empty() && self.leaving.payload == 0;
        let (newest, code) = (self.newest.to_be_bytes(), ENHANCE_YOUR_CALM.to_be_bytes());
        (self.is_dismissed && is_between_frames).then(|| [&GOAWAY[..], &newest, &code, REASON].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: Duration = Duration::from_secs(5);

    fn pings() -> Pings {
        Pings::new(Clock::new(), MINIMUM)
    }

    fn head(kind: u8, flags: u8, stream: u32) -> Head {
        Head {
            length: 0,
            kind,
            flags,
            stream,
        }
    }

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// How many of pings at this distance pass before the client is dismissed, of 20.
    fn passing(pings: &mut Pings, distance: Duration, mut between: impl FnMut(&mut Pings)) -> usize {
        let mut now = Instant::from_nanos(0);
        let mut passed = 0;
        while passed < 20 && !pings.is_dismissed {
            now = now + distance;
            pings.ping(now);
            passed += usize::from(!pings.is_dismissed);
            between(pings);
        }
        passed
    }

    #[test]
    fn the_third_early_ping_ends_the_connection() {
        let second = Duration::from_secs(1);
        assert_eq!(passing(&mut pings(), second, |_| ()), 3, "the first ping is not early");
        let mut calling = pings();
        calling.came(head(HEADERS, 4, 1));
        assert_eq!(passing(&mut calling, second, |_| ()), 3);
    }

    #[test]
    fn the_minimum_is_two_hours_without_a_call() {
        let mut calling = pings();
        calling.came(head(HEADERS, 4, 1));
        assert_eq!(passing(&mut calling, MINIMUM, |_| ()), 20);
        assert_eq!(passing(&mut pings(), MINIMUM, |_| ()), 3);
        assert_eq!(passing(&mut pings(), IDLE_MINIMUM, |_| ()), 20);
    }

    #[test]
    fn answers_forgive_pings() {
        let second = Duration::from_secs(1);
        let answer = frame(DATA, 0, 1, &[7; 30]);
        assert_eq!(passing(&mut pings(), second, |pings| pings.left(&answer)), 20);
        let acknowledged = frame(PING, ACK, 0, &[0; 8]);
        assert_eq!(passing(&mut pings(), second, |pings| pings.left(&acknowledged)), 3);
    }

    #[test]
    fn a_call_is_over_when_either_side_ends_it() {
        let trailers = frame(HEADERS, END_STREAM, 1, b"x");
        let reset = frame(RST_STREAM, 0, 3, &[0; 4]);
        for size in [1, 8, 9, 10, 64] {
            let mut pings = pings();
            for stream in [1, 3, 5, 5] {
                pings.came(head(HEADERS, 4, stream));
            }
            for piece in [&trailers[..], &reset].concat().chunks(size) {
                pings.left(piece);
            }
            assert_eq!(pings.open, BTreeSet::from([5]), "pieces of {size}");
            pings.came(head(RST_STREAM, 0, 5));
            assert!(pings.open.is_empty());
        }
    }

    #[test]
    fn the_farewell_waits_for_the_end_of_a_frame() {
        let mut pings = pings();
        let answer = frame(PING, ACK, 0, &[0; 8]);
        let (begin, end) = answer.split_at(12);
        pings.left(begin);
        assert_eq!(passing(&mut pings, Duration::ZERO, |_| ()), 3);
        assert_eq!(pings.farewell(), None);
        pings.left(end);
        let farewell = pings.farewell().unwrap();
        assert_eq!(farewell.len(), HEAD_BYTES + 22);
        assert!(farewell.ends_with(b"\0\0\0\x0btoo_many_pings"));
    }
}
