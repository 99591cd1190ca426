//! Frames of WebSocket (RFC 6455, section 5), as bytes. A message is passed on in the pieces that arrive, so that a long
//! one costs no memory here; that is why this is not a library's codec.

use bytes::{Buf as _, Bytes, BytesMut};

/// The longest content of a control frame (section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Length field of a frame whose length follows in two bytes, or in eight.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Codes that close a connection (section 7.4.1).
pub(super) const NORMAL: u16 = 1000;
pub(super) const PROTOCOL_ERROR: u16 = 1002;

/// The kind of a frame (section 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What a client sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum FrameEvent {
    /// The next bytes of a message.
    Data(Bytes),
    /// The message is complete.
    End,
    Ping(Bytes),
    Pong,
    /// The client closes the connection, with its code if it gave one.
    Close(Option<u16>),
}

/// Reads a client's frames from bytes in pieces of any size.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The beginning of a frame's head, or of a control frame's content.
    buffer: BytesMut,
    frame: Option<Frame>,
    /// The last data frame was the end of its message.
    is_between: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    /// Bytes still to come.
    left: u64,
    mask: [u8; 4],
    /// How many bytes came before.
    at: usize,
}

impl Frame {
    /// The next bytes without their mask.
    fn take(&mut self, mut bytes: BytesMut) -> Bytes {
        for byte in bytes.iter_mut() {
            *byte ^= self.mask[self.at % 4];
            self.at += 1;
        }
        self.left -= bytes.len() as u64;
        bytes.freeze()
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            frame: None,
            is_between: true,
        }
    }

    /// Takes bytes that arrived. They are kept until [`Self::next_event`] has returned them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What comes next, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// Why the bytes are no frame that a client may send, in the words of etcd's library.
    pub(super) fn next_event(&mut self) -> Result<Option<FrameEvent>, String> {
        loop {
            if self.frame.is_none() {
                self.frame = self.head()?;
            }
            let Some(frame) = &mut self.frame else { return Ok(None) };
            if frame.opcode.is_control() {
                // A control frame is passed on once it is complete.
                if (self.buffer.len() as u64) < frame.left {
                    return Ok(None);
                }
                let content = self.buffer.split_to(frame.left as usize);
                let content = frame.take(content);
                let opcode = frame.opcode;
                self.frame = None;
                return control(opcode, content).map(Some);
            }
            if frame.left == 0 {
                let is_end = frame.is_final;
                self.frame = None;
                if is_end {
                    return Ok(Some(FrameEvent::End));
                }
                continue;
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let length = frame.left.min(self.buffer.len() as u64);
            let piece = self.buffer.split_to(length as usize);
            return Ok(Some(FrameEvent::Data(frame.take(piece))));
        }
    }

    /// Reads a frame's head once it is complete.
    fn head(&mut self) -> Result<Option<Frame>, String> {
        let [first, second, ..] = self.buffer[..] else {
            return Ok(None);
        };
        let opcode = self.checked(first, second)?;
        let extended = match second & !MASKED {
            TWO_BYTES => 2,
            EIGHT_BYTES => 8,
            _ => 0,
        };
        if self.buffer.len() < 2 + extended + 4 {
            return Ok(None);
        }
        self.buffer.advance(2);
        let left = match extended {
            0 => u64::from(second & !MASKED),
            _ => self.buffer.get_uint(extended),
        };
        if i64::try_from(left).is_err() {
            return Err("bad length".to_owned());
        }
        let mut mask = [0; 4];
        self.buffer.copy_to_slice(&mut mask);
        let is_final = first & FINAL != 0;
        if !opcode.is_control() {
            self.is_between = is_final;
        }
        Ok(Some(Frame {
            opcode,
            is_final,
            left,
            mask,
            at: 0,
        }))
    }

    /// Checks a head's first two bytes. All that is wrong with them is told.
    fn checked(&self, first: u8, second: u8) -> Result<Opcode, String> {
        let mut wrong = Vec::new();
        for (bit, name) in [(0x40, "RSV1 set"), (0x20, "RSV2 set"), (0x10, "RSV3 set")] {
            if first & bit != 0 {
                wrong.push(name.to_owned());
            }
        }
        let opcode = Opcode::of(first & 0x0f);
        match opcode {
            None => wrong.push(format!("bad opcode {}", first & 0x0f)),
            Some(opcode) if opcode.is_control() => {
                if u64::from(second & !MASKED) > CONTROL_BYTES_MAX {
                    wrong.push("len > 125 for control".to_owned());
                }
                if first & FINAL == 0 {
                    wrong.push("FIN not set on control".to_owned());
                }
            }
            Some(Opcode::Continuation) if self.is_between => wrong.push("continuation after FIN".to_owned()),
            Some(Opcode::Text | Opcode::Binary) if !self.is_between => wrong.push("data before FIN".to_owned()),
            Some(_) => {}
        }
        if second & MASKED == 0 {
            wrong.push("bad MASK".to_owned());
        }
        match opcode {
            Some(opcode) if wrong.is_empty() => Ok(opcode),
            _ => Err(wrong.join(", ")),
        }
    }
}

/// What a control frame says.
fn control(opcode: Opcode, mut content: Bytes) -> Result<FrameEvent, String> {
    match opcode {
        Opcode::Ping => Ok(FrameEvent::Ping(content)),
        Opcode::Close if content.len() >= 2 => {
            let code = content.get_u16();
            if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) {
                return Err(format!("bad close code {code}"));
            }
            if std::str::from_utf8(&content).is_err() {
                return Err("invalid utf8 payload in close frame".to_owned());
            }
            Ok(FrameEvent::Close(Some(code)))
        }
        Opcode::Close => Ok(FrameEvent::Close(None)),
        _ => Ok(FrameEvent::Pong),
    }
}

/// Appends a server's frame, which has no mask.
pub(super) fn encode(opcode: Opcode, is_final: bool, content: &[u8], into: &mut Vec<u8>) {
    into.push(opcode.number() | if is_final { FINAL } else { 0 });
    match content.len() {
        length @ 0..126 => into.push(length as u8),
        length @ 126..0x1_0000 => {
            into.push(TWO_BYTES);
            into.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            into.push(EIGHT_BYTES);
            into.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    into.extend_from_slice(content);
}

/// Appends the frame that closes a connection.
pub(super) fn encode_close(code: Option<u16>, why: &str, into: &mut Vec<u8>) {
    let code = code.map(u16::to_be_bytes);
    let content = [code.as_ref().map_or(&[][..], |code| &code[..]), why.as_bytes()].concat();
    encode(Opcode::Close, true, &content, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame, with a mask.
    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(Opcode::Text, true, content, &mut bytes);
        let head = bytes.len() - content.len();
        bytes[0] = first;
        bytes[1] |= MASKED;
        let mask = [1, 2, 3, 4];
        let masked = content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&bytes[..head], &mask, &masked.collect::<Vec<_>>()].concat()
    }

    /// The events of bytes that arrive in pieces, with neighbouring data joined, and the error that ends them.
    fn events(bytes: &[u8], size: usize) -> (Vec<FrameEvent>, Option<String>) {
        let (mut decoder, mut found) = (Decoder::new(), Vec::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            loop {
                match (decoder.next_event(), found.last_mut()) {
                    (Err(why), _) => return (found, Some(why)),
                    (Ok(None), _) => break,
                    (Ok(Some(FrameEvent::Data(more))), Some(FrameEvent::Data(data))) => {
                        *data = [&data[..], &more].concat().into()
                    }
                    (Ok(Some(event)), _) => found.push(event),
                }
            }
            assert!(
                decoder.buffer.len() < 14 + CONTROL_BYTES_MAX as usize,
                "data is passed on at once"
            );
        }
        (found, None)
    }

    fn data(bytes: &[u8]) -> FrameEvent {
        FrameEvent::Data(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn messages_and_control_frames_are_read_in_pieces_of_any_size() {
        let long = vec![b'x'; 70_000];
        let bytes = [
            frame(0x81, b"one"),
            frame(0x89, b"hey"),
            frame(0x01, b"tw"),
            frame(0x8a, b""),
            frame(0x80, b"o"),
            frame(0x82, b""),
            frame(0x81, &long[..300]),
            frame(0x81, &long),
            frame(0x88, &[3, 0xe8, b'b']),
            frame(0x88, &[]),
        ]
        .concat();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let (found, error) = events(&bytes, size);
            assert_eq!(error, None);
            let expected = [
                data(b"one"),
                FrameEvent::End,
                FrameEvent::Ping(Bytes::from("hey")),
                data(b"tw"),
                FrameEvent::Pong,
                data(b"o"),
                FrameEvent::End,
                FrameEvent::End,
                data(&long[..300]),
                FrameEvent::End,
                data(&long),
                FrameEvent::End,
                FrameEvent::Close(Some(NORMAL)),
                FrameEvent::Close(None),
            ];
            assert_eq!(found, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_no_client_may_send_is_refused_in_etcds_words() {
        let mut unmasked = Vec::new();
        encode(Opcode::Text, true, b"x", &mut unmasked);
        let endless = [&[0x81, 0xff][..], &[0xff; 12]].concat();
        for (bytes, why) in [
            (unmasked, "bad MASK"),
            (frame(0xc1, b"x"), "RSV1 set"),
            (frame(0xb3, b"x"), "RSV2 set, RSV3 set, bad opcode 3"),
            (frame(0x80, b"x"), "continuation after FIN"),
            ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), "data before FIN"),
            (frame(0x89, &[0; 126]), "len > 125 for control"),
            (frame(0x08, b""), "FIN not set on control"),
            (frame(0x88, &[3, 0xed]), "bad close code 1005"),
            (frame(0x88, &[3, 0xe8, 0xff]), "invalid utf8 payload in close frame"),
            (endless, "bad length"),
        ] {
            assert_eq!(events(&bytes, 100).1.as_deref(), Some(why));
        }
    }

    #[test]
    fn a_close_frame_has_code_and_reason() {
        let mut bytes = Vec::new();
        encode_close(Some(PROTOCOL_ERROR), "why", &mut bytes);
        encode_close(None, "", &mut bytes);
        assert_eq!(bytes, [&[0x88, 5, 3, 0xea][..], b"why", &[0x88, 0]].concat());
    }
}
