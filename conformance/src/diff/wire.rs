//! gRPC over plain HTTP/2: one connection with any number of calls, without a gRPC library.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use quoin_model::call::Refusal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::trouble::{During as _, Trouble};

/// The code in refusals that no server sent: the connection broke, or no answer came.
pub(crate) const NO_ANSWER: i32 = -1;
/// The limit for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Larger than every answer here, so that none waits for flow control.
const WINDOW_BYTES: u32 = 64 << 20;
/// Flags and length before each message.
const FRAME_BYTES: usize = 5;

/// A connection.
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    authority: String,
    /// Drives the connection, and ends it when dropped.
    _driver: JoinSet<()>,
}

/// A call in progress.
pub(crate) struct Exchange {
    response: Option<ResponseFuture>,
    receiving: Option<RecvStream>,
    sending: SendStream<Bytes>,
    buffer: BytesMut,
    /// The status in the headers, for answers without a body.
    early: Option<Result<(), Refusal>>,
}

impl Wire {
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Result<Self, Trouble> {
        Self::connect_narrow(address, WINDOW_BYTES).await
    }

    /// As [`Wire::connect`], with windows of this many bytes: the server may send that much before the client reads.
    pub(crate) async fn connect_narrow(address: std::net::SocketAddr, window_bytes: u32) -> Result<Self, Trouble> {
        let stream = TcpStream::connect(address).await.during("connecting")?;
        stream.set_nodelay(true).during("connecting")?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(window_bytes)
            .initial_connection_window_size(window_bytes)
            .max_frame_size(1 << 20);
        let (requests, connection) = builder.handshake(stream).await.during("greeting")?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // If the connection fails, its requests report it.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            authority: address.to_string(),
            _driver: driver,
        })
    }

    /// Sends the first message of a call; it is the last one if `ends`.
    pub(crate) async fn call(&self, path: &str, message: &impl Message, ends: bool) -> Result<Exchange, Refusal> {
        self.call_with(path, message, ends, None).await
    }

    /// As [`Wire::call`], with one more header.
    pub(crate) async fn call_with(
        &self,
        path: &str,
        message: &impl Message,
        ends: bool,
        header: Option<(&str, &[u8])>,
    ) -> Result<Exchange, Refusal> {
        let mut request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|error| broken(&error))?;
        let mut requests = self.requests.clone().ready().await.map_err(|error| broken(&error))?;
        let (response, mut sending) = requests.send_request(request, false).map_err(|error| broken(&error))?;
        sending
            .send_data(framed(message), ends)
            .map_err(|error| broken(&error))?;
        Ok(Exchange {
            response: Some(response),
            receiving: None,
            sending,
            buffer: BytesMut::new(),
            early: None,
        })
    }

    /// Sends a request and waits for its only answer.
    pub(crate) async fn ask<M: Message + Default>(&self, path: &str, message: &impl Message) -> Result<M, Refusal> {
        decoded(self.call(path, message, true).await?.only().await?)
    }
}

impl Exchange {
    /// Sends one more message.
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), Refusal> {
        self.sending
            .send_data(framed(message), false)
            .map_err(|error| broken(&error))
    }

    /// Ends the client's side.
    pub(crate) fn end(&mut self) {
        // A call that has ended needs no end.
        let _over = self.sending.send_data(Bytes::new(), true);
    }

    /// The next message; `None` if the call ended with status OK.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        match tokio::time::timeout(ANSWER_LIMIT, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(refusal(NO_ANSWER, "no answer came")),
        }
    }

    /// The only message of a call.
    pub(crate) async fn only(mut self) -> Result<Bytes, Refusal> {
        let message = self.next().await?;
        match (message, self.next().await?) {
            (Some(message), None) => Ok(message),
            (None, _) => Err(refusal(NO_ANSWER, "ended without an answer")),
            (Some(_), Some(_)) => Err(refusal(NO_ANSWER, "more than one answer")),
        }
    }

    /// The next message, without a limit of time.
    pub(crate) async fn receive(&mut self) -> Result<Option<Bytes>, Refusal> {
        // The caller may drop this future at any point and call again: a message is taken only when it is complete.
        if let Some(response) = &mut self.response {
            let response = response.await.map_err(|error| broken(&error))?;
            self.response = None;
            if response.status() != 200 {
                return Err(refusal(NO_ANSWER, &format!("http {}", response.status())));
            }
            self.early = status(response.headers());
            self.receiving = Some(response.into_body());
        }
        loop {
            if let Some(message) = self.whole_message() {
                return Ok(Some(message));
            }
            let Some(receiving) = &mut self.receiving else {
                return Err(refusal(NO_ANSWER, "the call is over"));
            };
            match receiving.data().await {
                Some(data) => {
                    let data = data.map_err(|error| broken(&error))?;
                    receiving
                        .flow_control()
                        .release_capacity(data.len())
                        .map_err(|error| broken(&error))?;
                    self.buffer.extend_from_slice(&data);
                }
                None => {
                    let trailers = receiving.trailers().await.map_err(|error| broken(&error))?;
                    let late = trailers.as_ref().and_then(status);
                    let status = late.or(self.early.take());
                    return match status {
                        Some(status) => status.map(|()| None),
                        None => Err(refusal(NO_ANSWER, "ended without a status")),
                    };
                }
            }
        }
    }

    /// A message that has arrived whole.
    fn whole_message(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..FRAME_BYTES)?.try_into().ok()?;
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < FRAME_BYTES + length {
            return None;
        }
        self.buffer.advance(FRAME_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }
}

/// Decodes a message. Refuses unknown fields, because decoding would drop them silently.
pub(crate) fn decoded<M: Message + Default>(bytes: Bytes) -> Result<M, Refusal> {
    let length = bytes.len();
    let message = M::decode(bytes).map_err(|error| refusal(NO_ANSWER, &format!("cannot be read: {error}")))?;
    if message.encoded_len() != length {
        return Err(refusal(NO_ANSWER, "has an unknown field"));
    }
    Ok(message)
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(&mut frame).expect("there is room for it");
    frame.freeze()
}

fn status(headers: &HeaderMap) -> Option<Result<(), Refusal>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers
        .get("grpc-message")
        .map_or(&b""[..], http::HeaderValue::as_bytes);
    Some(Err(refusal(code, &percent_decoded(message))))
}

fn percent_decoded(text: &[u8]) -> String {
    let mut plain = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match (first, byte) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                &tail[2..]
            }
            (byte, _) => {
                plain.push(*byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

pub(crate) fn refusal(code: i32, message: &str) -> Refusal {
    Refusal {
        code,
        message: message.to_owned(),
    }
}

fn broken(error: &dyn std::error::Error) -> Refusal {
    refusal(NO_ANSWER, &format!("the connection is broken: {error}"))
}
