//! The bytes of an answer as WebSocket messages: one for each line.

use super::frames::{self, Opcode};

/// A longer line is sent in several frames, so that it needs no more memory than this.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Splits an answer into frames.
#[derive(Default)]
pub(super) struct LineFrames {
    /// The part of a line that is not sent yet.
    line: Vec<u8>,
    /// A part of the line was sent.
    is_begun: bool,
}

impl LineFrames {
    /// Appends the frames of the answer's next bytes.
    pub(super) fn push(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, is_end) = part
                .strip_suffix(b"\n")
                .map_or((part, false), |content| (content, true));
            self.line.extend_from_slice(content);
            if is_end || self.line.len() >= FRAME_BYTES_MAX {
                self.send(is_end, into);
            }
        }
    }

    /// Appends the last line's frame, if the answer does not end with a line's end.
    pub(super) fn finish(&mut self, into: &mut Vec<u8>) {
        self.send(true, into);
    }

    fn send(&mut self, is_final: bool, into: &mut Vec<u8>) {
        // An empty line is no message.
        if self.is_begun || !self.line.is_empty() {
            let opcode = if self.is_begun {
                Opcode::Continuation
            } else {
                Opcode::Text
            };
            frames::encode(opcode, is_final, &self.line, into);
        }
        self.line = Vec::new();
        self.is_begun = !is_final;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_message_and_a_long_one_has_several_frames() {
        let (mut lines, mut sent) = (LineFrames::default(), Vec::new());
        for piece in ["on", "e\n\ntwo\nth", "ree"] {
            lines.push(piece.as_bytes(), &mut sent);
        }
        assert_eq!(sent, b"\x81\x03one\x81\x03two");
        lines.finish(&mut sent);
        assert_eq!(&sent[10..], b"\x81\x05three");
        sent.clear();
        let long = vec![b'x'; FRAME_BYTES_MAX];
        lines.push(&long, &mut sent);
        assert_eq!(sent[..2], [0x01, 127], "the message goes on");
        sent.clear();
        lines.push(b"y\nz\n", &mut sent);
        assert_eq!(sent, b"\x80\x01y\x81\x01z");
        sent.clear();
        lines.finish(&mut sent);
        assert_eq!(sent, b"");
    }
}
