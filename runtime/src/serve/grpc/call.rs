//! One call: what its headers ask for, and its metrics, which must come out even however it ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Body;
use prost::Message;
use quoin_core::error::Error;
use quoin_core::time::Instant;
use std::future::{Future, poll_fn};

use super::super::{Context, facts};
use super::message::{self, Encoding, Messages};
use super::method::Method;
use super::status::{CANCELED, INTERNAL, Status};
use crate::metrics::MethodMetrics;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// A call under way.
pub(crate) struct Call {
    pub(crate) context: Arc<Context>,
    method: Method,
    /// When it began, if that is measured.
    began: Option<Instant>,
    over: bool,
}

/// What a call's headers ask for.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// How messages are compressed, in both directions.
    pub(crate) encoding: Encoding,
    /// When the client stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// The call is of no use without a leader.
    pub(crate) require_leader: bool,
}

impl Call {
    pub(crate) fn begin(context: Arc<Context>, method: Method) -> Self {
        let metrics = context.metrics.grpc.method(method);
        metrics.started.inc();
        let began = metrics.seconds.is_some().then(|| context.clock.now());
        Self {
            context,
            method,
            began,
            over: false,
        }
    }

    /// Reads the headers, and refuses what etcd's interceptors refuse.
    pub(crate) fn wishes(&self, headers: &HeaderMap) -> Result<Wishes, Status> {
        let encoding = Encoding::parse(headers.get(GRPC_ENCODING).map(http::HeaderValue::as_bytes))?;
        let deadline = match headers.get(GRPC_TIMEOUT) {
            Some(timeout) => Some(self.context.clock.now() + parse_timeout(timeout.as_bytes())?),
            None => None,
        };
        let version = match headers.get(CLIENT_API_VERSION) {
            Some(version) => Some(std::str::from_utf8(version.as_bytes()).map_err(|_| Error::InvalidClientApiVersion)?),
            None => None,
        };
        let (_, _, kind) = self.method.parts();
        let require_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        if self.method != Method::HealthCheck {
            self.context.metrics.grpc.clients.count(kind, version);
        }
        if require_leader && !facts::has_leader(&self.context) {
            return Err(Error::NoLeader.into());
        }
        Ok(Wishes {
            encoding,
            deadline,
            require_leader,
        })
    }

    /// Receives the one request of a call.
    pub(crate) async fn receive<M, B>(&self, messages: &mut Messages<B>) -> Result<M, Status>
    where
        M: Message + Default,
        B: Body<Data = Bytes> + Unpin,
    {
        match poll_fn(|cx| messages.poll_next(cx)).await {
            Some(message) => self.received(message?),
            None => Err(Status::new(INTERNAL, "unexpected EOF")),
        }
    }

    /// Decodes a message that was received.
    pub(crate) fn received<M: Message + Default>(&self, message: Bytes) -> Result<M, Status> {
        self.metrics().received.inc();
        self.context.metrics.grpc.received_bytes.inc_by(message.len() as u64);
        message::decode(message)
    }

    /// Encodes a message that is to be sent.
    pub(crate) fn encode(&self, response: &impl Message, encoding: Encoding) -> Bytes {
        self.sent(response.encoded_len());
        message::encode(response, encoding)
    }

    /// Counts a message that is to be sent.
    pub(crate) fn sent(&self, length: usize) {
        self.metrics().sent.inc();
        self.context.metrics.grpc.sent_bytes.inc_by(length as u64);
    }

    /// The call is over.
    pub(crate) fn finish(&mut self, code: u8) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let metrics = self.metrics();
        if let Some(handled) = metrics.handled.get(usize::from(code)) {
            handled.inc();
        }
        if let (Some(seconds), Some(began)) = (&metrics.seconds, self.began) {
            seconds.observe(self.context.clock.now().saturating_since(began).as_secs_f64());
        }
    }

    fn metrics(&self) -> &MethodMetrics {
        self.context.metrics.grpc.method(self.method)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody waited for the end.
        self.finish(CANCELED);
    }
}

/// Gives `work` until the client's deadline. Work that needs no waiting costs no timer.
pub(crate) async fn within<T>(
    context: &Context,
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else { return work.await };
    let mut work = pin!(work);
    let mut sleep = None;
    poll_fn(|cx| {
        let result = work.as_mut().poll(cx);
        if result.is_ready() {
            return result;
        }
        let sleep = sleep.get_or_insert_with(|| context.runtime.sleep_until(deadline));
        Pin::new(sleep).poll(cx).map(|()| Err(Status::deadline_exceeded()))
    })
    .await
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<Duration, Status> {
    let malformed = || {
        Status::new(
            INTERNAL,
            format!("malformed grpc-timeout: {:?}", String::from_utf8_lossy(value)),
        )
    };
    let (unit, digits) = value.split_last().ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(malformed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_at_most_eight_digits_and_a_unit() {
        let table = [
            ("5S", Some(Duration::from_secs(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("7m", Some(Duration::from_millis(7))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("123456789S", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_timeout(text.as_bytes()).ok(), expected, "{text:?}");
        }
    }
}
