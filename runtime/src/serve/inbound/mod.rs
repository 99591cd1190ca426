//! Inspects the HTTP/2 frames of a client before hyper reads them, for three reasons.
//!
//! First, hyper (h2) resets streams that grpc-go serves: with an invalid `:authority` (etcd's own client 3.5.0 sends
//! `#initially=[http://...]`, gRPC for C++ the path of a socket), without `:scheme`, with `te: gzip`. The server does
//! not use these headers, and hyper has no setting for them: [`block`] replaces such values by valid ones of the same
//! length.
//!
//! Second, a SETTINGS frame with a new window costs h2 time for every open stream. A turn of the connection's task ends
//! after one, so that a client that sends thousands does not keep the worker from its other connections.
//!
//! Third, a client that pings too often is dismissed: see [`pings`].
//!
//! Frames that cannot be parsed pass unchanged, and hyper refuses them.

mod block;
mod huffman;
mod pings;

use self::block::Blocks;
pub(super) use self::pings::Pings;

/// The first bytes of every HTTP/2 connection.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head: length, kind, flags, stream.
const HEAD_BYTES: usize = 9;
/// Largest frame by default; our SETTINGS do not change it.
const PAYLOAD_BYTES_MAX: usize = 16_384;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// The first bit of a stream's number is reserved.
const STREAM_BITS: u32 = u32::MAX >> 1;

const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The relevant fields of a frame's head.
#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & STREAM_BITS,
        })
    }

    /// Whether the frame has a whole header block of a size that hyper accepts.
    fn has_block(self) -> bool {
        self.kind == HEADERS && self.flags & END_HEADERS != 0 && self.length <= PAYLOAD_BYTES_MAX
    }
}

/// Inspects the bytes of one connection.
#[derive(Debug)]
pub(super) struct Inbound {
    /// `None` once a block could not be read: the other blocks of the connection pass unchanged.
    blocks: Option<Blocks>,
    /// Bytes of the current frame that pass unchanged.
    passing: usize,
    /// The current frame ends the turn.
    ends_turn: bool,
    /// The beginning of a frame that must be inspected whole.
    held: Vec<u8>,
    /// `None` if pings are not limited.
    pub(super) pings: Option<Pings>,
}

impl Inbound {
    /// The state at the start of a connection, before its preface.
    pub(super) fn new(pings: Option<Pings>) -> Self {
        Self {
            blocks: Some(Blocks::new()),
            passing: PREFACE.len(),
            ends_turn: false,
            held: Vec::new(),
            pings,
        }
    }

    /// Takes bytes from the client, and calls `pass` with the bytes for hyper. Returns how many it took: all of them,
    /// or those up to the end of a frame that ends the turn; the caller gives it the rest in the next turn.
    pub(super) fn take(&mut self, came: &[u8], mut pass: impl FnMut(&[u8])) -> usize {
        let mut at = self.complete_held(came, &mut pass);
        // The position of the first byte that has not been passed yet. The bytes from there to `at` pass unchanged.
        let mut unchanged = at;
        while at < came.len() {
            if self.passing > 0 {
                let length = self.passing.min(came.len() - at);
                self.passing -= length;
                at += length;
                if self.passing == 0 && std::mem::take(&mut self.ends_turn) {
                    break;
                }
                continue;
            }
            let rest = &came[at..];
            let head = Head::read(rest);
            let frame = head.and_then(|head| rest.get(..HEAD_BYTES + head.length));
            match (head, frame) {
                (Some(head), Some(frame)) if head.has_block() => {
                    let changed = self.look_at(head, frame);
                    if let Some(changed) = changed {
                        pass(&came[unchanged..at]);
                        pass(&changed);
                        unchanged = at + frame.len();
                    }
                    at += frame.len();
                }
                (Some(head), _) if !head.has_block() => self.let_pass(head, HEAD_BYTES),
                _ => {
                    pass(&came[unchanged..at]);
                    self.held.extend_from_slice(rest);
                    return came.len();
                }
            }
        }
        if unchanged < at {
            pass(&came[unchanged..at]);
        }
        at
    }

    /// Completes the held frame with new bytes, as far as they suffice; returns how many of them it took.
    fn complete_held(&mut self, came: &[u8], pass: &mut impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        while !self.held.is_empty() {
            let head = Head::read(&self.held);
            let wanted = match head {
                None => HEAD_BYTES,
                Some(head) if head.has_block() => HEAD_BYTES + head.length,
                Some(head) => {
                    pass(&std::mem::take(&mut self.held));
                    self.let_pass(head, 0);
                    break;
                }
            };
            if let (Some(head), true) = (head, self.held.len() == wanted) {
                let frame = std::mem::take(&mut self.held);
                match self.look_at(head, &frame) {
                    Some(changed) => pass(&changed),
                    None => pass(&frame),
                }
                break;
            }
            let length = (wanted - self.held.len()).min(came.len() - at);
            if length == 0 {
                break;
            }
            self.held.extend_from_slice(&came[at..at + length]);
            at += length;
        }
        at
    }

    /// Lets the rest of a frame pass: its payload, and `head_bytes` of its head.
    fn let_pass(&mut self, head: Head, head_bytes: usize) {
        self.pings.iter_mut().for_each(|pings| pings.came(head));
        self.passing = head_bytes + head.length;
        self.ends_turn = head.kind == SETTINGS && head.flags & ACK == 0 && head.length > 0;
        if matches!(head.kind, HEADERS | CONTINUATION) {
            // A block in several frames, or a too large one: it is rare and not parsed.
            self.blocks = None;
        }
    }

    /// The replacement of a frame with a header block, if it must change.
    fn look_at(&mut self, head: Head, frame: &[u8]) -> Option<Vec<u8>> {
        self.pings.iter_mut().for_each(|pings| pings.came(head));
        let payload = &frame[HEAD_BYTES..];
        let Some((before, after)) = around_block(head.flags, payload) else {
            self.blocks = None;
            return None;
        };
        let end = payload.len() - after;
        let Ok(changed) = self.blocks.as_mut()?.rewrite(&payload[before..end]) else {
            self.blocks = None;
            return None;
        };
        let block = changed?;
        let length = before + block.len() + after;
        if length > PAYLOAD_BYTES_MAX {
            self.blocks = None;
            return None;
        }
        let [_, a, b, c] = (length as u32).to_be_bytes();
        let mut changed = vec![a, b, c];
        changed.extend_from_slice(&frame[3..HEAD_BYTES]);
        changed.extend_from_slice(&payload[..before]);
        changed.extend_from_slice(&block);
        changed.extend_from_slice(&payload[end..]);
        Some(changed)
    }
}

/// The bytes before and after the header block in a payload: priority and padding.
fn around_block(flags: u8, payload: &[u8]) -> Option<(usize, usize)> {
    let (mut before, mut after) = (0, 0);
    if flags & PADDED != 0 {
        after = usize::from(*payload.first()?);
        before = 1;
    }
    if flags & PRIORITY != 0 {
        before += 5;
    }
    (before + after <= payload.len()).then_some((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// A request with an authority of three bytes, optionally padded and with a priority.
    fn request(authority: &str, framed: bool) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x84, 0x41, 3];
        block.extend_from_slice(authority.as_bytes());
        if !framed {
            return frame(HEADERS, END_HEADERS, &block);
        }
        let payload = [&[2, 0, 0, 0, 0, 7], &block[..], &[0, 0]].concat();
        frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)
    }

    /// The bytes that pass if they come in pieces of a size, in successive turns; and the number of turns.
    fn passed(inbound: &mut Inbound, bytes: &[u8], size: usize) -> (Vec<u8>, usize) {
        let (mut passed, mut turns) = (Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut at = 0;
            while at < piece.len() {
                at += inbound.take(&piece[at..], |bytes| passed.extend_from_slice(bytes));
                turns += usize::from(at < piece.len());
            }
        }
        (passed, turns)
    }

    #[test]
    fn requests_are_rewritten_in_pieces_of_any_size() {
        let spelled = |authority: &str| {
            let block = [
                &[0x83, 0x86, 0x84, 0x40, 10][..],
                b":authority",
                &[3],
                authority.as_bytes(),
            ]
            .concat();
            let plain = frame(HEADERS, END_HEADERS, &block);
            let payload = [&[2, 0, 0, 0, 0, 7], &block[..], &[0, 0]].concat();
            (plain, frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload))
        };
        let data = frame(0, 1, &[9; 100]);
        let settings = frame(SETTINGS, 0, &[0, 4, 0, 0, 0, 1]);
        let came = [
            &PREFACE[..],
            &settings,
            &request("a/b", false),
            &data,
            &request("abc", false),
            &request("#bc", true),
        ];
        let expected = [
            &PREFACE[..],
            &settings,
            &spelled("a-b").0,
            &data,
            &request("abc", false),
            &spelled("-bc").1,
        ];
        for size in [1, 2, 7, 9, 10, 31, 1000] {
            let (found, _) = passed(&mut Inbound::new(None), &came.concat(), size);
            assert_eq!(found, expected.concat(), "pieces of {size}");
        }
    }

    #[test]
    fn a_turn_ends_after_settings() {
        let settings = frame(SETTINGS, 0, &[0, 4, 0, 0, 0, 1]);
        let others = [frame(SETTINGS, ACK, &[]), frame(SETTINGS, 0, &[]), frame(6, 0, &[0; 8])].concat();
        let came = [&PREFACE[..], &settings, &others, &settings, &settings, &others].concat();
        let (found, turns) = passed(&mut Inbound::new(None), &came, came.len());
        assert_eq!((found, turns), (came, 3));
    }

    #[test]
    fn an_unreadable_connection_passes_unchanged() {
        let parts = [frame(HEADERS, 0, &[0x83]), frame(CONTINUATION, END_HEADERS, &[0x84])].concat();
        let garbage = frame(HEADERS, END_HEADERS, &[0xff; 8]);
        let large = frame(HEADERS, END_HEADERS, &[0x84; PAYLOAD_BYTES_MAX + 1]);
        let padding = frame(HEADERS, END_HEADERS | PADDED, &[9, 0x84]);
        for bad in [parts, garbage, large, padding] {
            let settings = frame(SETTINGS, 0, &[0, 4, 0, 0, 0, 1]);
            let came = [&PREFACE[..], &bad, &request("#bc", false), &settings, &bad].concat();
            for size in [1, 5, 64, came.len()] {
                let (found, turns) = passed(&mut Inbound::new(None), &came, size);
                assert!(found == came, "pieces of {size}");
                assert!(size < came.len() || turns == 1, "turns end all the same");
            }
        }
    }

    #[test]
    fn random_bytes_pass_in_order() {
        let mut random = 1_u64;
        let mut byte = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        };
        for _ in 0..2_000 {
            let mut came = PREFACE.to_vec();
            for _ in 0..6 {
                let block: Vec<u8> = (0..byte() / 4).map(|_| byte()).collect();
                came.extend(frame(byte() % 10, byte(), &block));
            }
            let (whole, _) = passed(&mut Inbound::new(None), &came, came.len());
            let (cut, _) = passed(&mut Inbound::new(None), &came, usize::from(byte()) + 1);
            // The bytes held at the end are the beginning of one frame.
            assert!(whole.starts_with(&cut) || cut.starts_with(&whole));
            assert!(whole.starts_with(PREFACE));
        }
    }

    #[test]
    fn a_rewritten_block_too_large_for_a_frame_is_not_used() {
        let mut block = vec![0x83, 0x84, 0x41, 1, b'#'];
        block.resize(PAYLOAD_BYTES_MAX, 0x90);
        let came = [&PREFACE[..], &frame(HEADERS, END_HEADERS, &block)].concat();
        let (found, _) = passed(&mut Inbound::new(None), &came, came.len());
        assert!(found == came);
    }
}
