//! A WebSocket client that shows every frame, and can send wrong ones.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Answer, PATIENCE, Request, comparable};
use crate::trouble::{During as _, Trouble};

/// The example of RFC 6455.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x1d, 0x2c, 0x3b, 0x4a];

/// The first byte of whole messages, of other frames, and of pieces of a message.
pub const TEXT: u8 = 0x81;
/// A binary message.
pub const BINARY: u8 = 0x82;
/// The client closes the connection.
pub const CLOSE: u8 = 0x88;
/// A ping.
pub const PING: u8 = 0x89;
/// The first piece of a text.
pub const FIRST: u8 = 0x01;
/// The last piece of a message.
pub const LAST: u8 = 0x80;

/// A client's frame.
#[must_use]
pub fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        length @ 0..126 => vec![0x80 | length as u8],
        length @ 126..0x1_0000 => [&[0xfe][..], &(length as u16).to_be_bytes()].concat(),
        length => [&[0xff][..], &(length as u64).to_be_bytes()].concat(),
    };
    let masked = content.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [&[first][..], &length, &MASK, &masked.collect::<Vec<_>>()].concat()
}

/// What a server does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// It sends a text, here without what differs between servers.
    Text(String),
    /// It answers a ping.
    Pong(Vec<u8>),
    /// It closes, with this code and reason.
    Close(Vec<u8>),
    /// It ends the connection.
    End,
    /// It sends nothing for the time that it was given.
    Silence,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl WebSocket {
    /// A request for a WebSocket at this path. A header that is given replaces the usual one; an empty one leaves it out.
    #[must_use]
    pub fn request(path: &str, headers: &[(&'static str, &str)]) -> Request {
        let usual = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        let is_given = |name: &str| headers.iter().any(|(given, _)| *given == name);
        let usual = usual.into_iter().filter(|(name, _)| !is_given(name));
        let given = headers.iter().copied().filter(|(_, value)| !value.is_empty());
        let all = usual.chain(given).map(|(name, value)| (name, value.to_owned()));
        Request {
            method: "GET",
            path: path.to_owned(),
            headers: all.collect(),
            body: Vec::new(),
        }
    }

    /// Opens a WebSocket; also returns the answer that began it.
    ///
    /// # Errors
    /// If the server does not begin one.
    pub fn open(address: SocketAddr, request: &Request) -> Result<(Answer, Self), Trouble> {
        let doing = || format!("a WebSocket at {}", request.path);
        let mut stream = request.send(address).during(doing())?;
        stream.set_read_timeout(Some(PATIENCE)).during("setting a limit")?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).during(doing())? == 1 {
            head.push(byte[0]);
        }
        let answer = Answer::read(&head).filter(|answer| answer.status == 101);
        let answer = answer.ok_or_else(|| Trouble::new(format!("{}: {}", doing(), String::from_utf8_lossy(&head))))?;
        let bytes = Vec::new();
        Ok((answer, Self { stream, bytes }))
    }

    /// Sends bytes, such as a [`frame`].
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(bytes).during("sending to a WebSocket")
    }

    /// A frame that cannot be sent within this time is an error.
    ///
    /// # Panics
    /// If the time is zero.
    pub fn limit_writes(&self, limit: Duration) {
        let set = self.stream.set_write_timeout(Some(limit));
        set.expect("a time above zero");
    }

    /// What the server does next: within the usual limit, or within `silence`.
    ///
    /// # Errors
    /// If it sends what no server may.
    pub fn receive(&mut self, silence: Option<Duration>) -> Result<Received, Trouble> {
        let mut text = Vec::new();
        loop {
            while let Some((first, content)) = self.take() {
                match first {
                    // A message in one frame, or a piece of one.
                    0x01 | 0x00 => text.extend_from_slice(&content),
                    TEXT | LAST => {
                        text.extend_from_slice(&content);
                        return Ok(Received::Text(comparable(
                            &String::from_utf8_lossy(&text).replace('\u{a0}', " "),
                        )));
                    }
                    CLOSE => return Ok(Received::Close(content)),
                    0x8a => return Ok(Received::Pong(content)),
                    other => return Err(Trouble::new(format!("a frame begins with {other:#x}"))),
                }
            }
            let limit = silence.unwrap_or(PATIENCE);
            self.stream.set_read_timeout(Some(limit)).during("setting a limit")?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(length) if length > 0 => self.bytes.extend_from_slice(&piece[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(Received::Silence);
                }
                Ok(_) | Err(_) => return Ok(Received::End),
            }
        }
    }

    /// The next frame, if it is complete.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.bytes.first()?, *self.bytes.get(1)?);
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = self.bytes.get(2..2 + extended)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let length = if extended == 0 { usize::from(second) } else { length };
        let content = self.bytes.get(2 + extended..2 + extended + length)?.to_vec();
        self.bytes.drain(..2 + extended + length);
        Some((first, content))
    }
}
