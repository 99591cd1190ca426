//! One call: what its headers ask for, and its metrics. A call that was counted as started is also counted when it
//! ends, however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use prometheus::IntCounter;
use quoin_core::api::{Credentials, Kind, Method};
use quoin_core::error::Error;
use quoin_core::time::Instant;
use std::future::{Future, poll_fn};

use super::super::{Context, facts};
use super::message::{self, Encoding, Messages};
use super::status::{CANCELED, INTERNAL, Status, UNKNOWN};
use crate::metrics::MethodMetrics;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
/// The metadata in which a gateway passes on the `Accept` header of its client.
pub(crate) const GATEWAY_ACCEPT: HeaderName = HeaderName::from_static("grpcgateway-accept");
const TOKEN: HeaderName = HeaderName::from_static("token");

/// A shorter timeout counts as passed once the call's headers are read.
const TIMEOUT_MIN: Duration = Duration::from_micros(1);

/// A call in progress.
pub(crate) struct Call {
    pub(crate) context: Arc<Context>,
    pub(crate) method: Method,
    /// The content type of the response.
    pub(crate) content_type: HeaderValue,
    /// The compression of its messages, in both directions.
    pub(crate) encoding: Encoding,
    /// The client's deadline.
    pub(crate) deadline: Option<Instant>,
    /// The call must fail without a leader.
    pub(crate) require_leader: bool,
    /// What its client has shown.
    pub(crate) credentials: Credentials,
    began: Instant,
    /// The counter of the client's version; `None` until the header with the version has been read.
    client: Option<IntCounter>,
    /// Whether it was counted as started.
    counted: AtomicBool,
    over: bool,
}

impl Call {
    pub(crate) fn begin(context: Arc<Context>, method: Method, content_type: HeaderValue) -> Self {
        let began = context.clock.now();
        Self {
            context,
            method,
            content_type,
            encoding: Encoding::Identity,
            deadline: None,
            require_leader: false,
            credentials: Credentials::NONE,
            began,
            client: None,
            counted: AtomicBool::new(false),
            over: false,
        }
    }

    /// Counts the call as started, once. As in etcd, a stream is counted when its headers are there, and a unary call
    /// when its message was read: one whose message cannot be read is not counted.
    fn count(&self) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.metrics().started.inc();
            self.client.iter().for_each(IntCounter::inc);
        }
    }

    /// Counts a call that is refused for its headers. As in etcd, the message of such a unary call counts as received,
    /// although it has not been read.
    fn refused(&self, error: Error) -> Status {
        if self.method.parts().2 == Kind::Unary && !self.counted.load(Ordering::Relaxed) {
            self.metrics().received.inc();
        }
        self.count();
        error.into()
    }

    /// Reads the headers, and refuses what etcd's interceptors refuse.
    pub(crate) fn read_headers(&mut self, headers: &HeaderMap, timeout: Option<Duration>) -> Result<(), Status> {
        self.encoding = Encoding::parse(headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes))?;
        self.deadline = match timeout {
            // The call's time is over before its message is read. As in etcd, such a call is not counted.
            Some(timeout) if timeout < TIMEOUT_MIN => return Err(Status::deadline_exceeded()),
            timeout => timeout.map(|timeout| self.context.clock.now() + timeout),
        };
        let version = match headers.get(CLIENT_API_VERSION) {
            Some(version) => match std::str::from_utf8(version.as_bytes()) {
                Ok(version) => Some(version),
                Err(_) => return Err(self.refused(Error::InvalidClientApiVersion)),
            },
            None => None,
        };
        let (_, _, kind) = self.method.parts();
        // Metadata of both names are etcd's.
        if headers.contains_key(GATEWAY_ACCEPT) {
            // As in etcd: behind a gateway, the certificate is that of the gateway and not the client's.
            self.credentials.common_name = None;
        }
        let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION));
        self.credentials.token = token.map(|token| String::from_utf8_lossy(token.as_bytes()).into());
        self.require_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        self.client = Some(self.context.metrics.grpc.clients.of(kind, version));
        if kind != Kind::Unary {
            self.count();
        }
        if self.require_leader && !facts::has_leader(&self.context) {
            return Err(self.refused(Error::NoLeader));
        }
        Ok(())
    }

    /// Receives the single request of a unary or server-streaming call, and counts its bytes. The message is counted
    /// later, after it is decoded ([`Self::count_request`]).
    pub(crate) async fn receive_bytes<B>(&self, messages: &mut Messages<B>) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes, Error = Status> + Unpin,
    {
        let message = match poll_fn(|cx| messages.poll_next(cx)).await {
            Some(Err(status)) if self.is_unary() && status == Status::new(INTERNAL, message::UNEXPECTED_END) => {
                return Err(Status::new(UNKNOWN, status.message));
            }
            Some(message) => message?,
            None if self.is_unary() => return Err(Status::new(UNKNOWN, "EOF")),
            None => {
                let text = "cardinality violation: received no request message from non-client-streaming RPC";
                return Err(Status::new(INTERNAL, text));
            }
        };
        self.context.metrics.grpc.received_bytes.inc_by(message.len() as u64);
        Ok(message)
    }

    /// Counts a call's single request as received, and a unary call as started. As in etcd, to be called after the
    /// request is decoded.
    pub(crate) fn count_request(&self) {
        self.metrics().received.inc();
        self.count();
    }

    fn is_unary(&self) -> bool {
        self.method.parts().2 == Kind::Unary
    }

    /// Counts a message to be sent.
    pub(crate) fn sent(&self, length: usize) {
        self.metrics().sent.inc();
        self.context.metrics.grpc.sent_bytes.inc_by(length as u64);
    }

    /// Counts the end of the call.
    pub(crate) fn finish(&mut self, code: u8) {
        if std::mem::replace(&mut self.over, true) || !self.counted.load(Ordering::Relaxed) {
            return;
        }
        let metrics = self.metrics();
        if let Some(handled) = metrics.handled.get(usize::from(code)) {
            handled.inc();
        }
        let took = self.context.clock.now().saturating_since(self.began);
        if let Some(seconds) = &metrics.seconds {
            seconds.observe(took.as_secs_f64());
        }
        if self.is_unary() && took > self.context.settings.warning_unary_request_duration {
            let (service, method, _) = self.method.parts();
            tracing::warn!(
                "time spent" = ?took,
                "response type" = format!("/{service}/{method}"),
                "request stats"
            );
        }
    }

    fn metrics(&self) -> &MethodMetrics {
        self.context.metrics.grpc.method(self.method)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A call that has not ended by now was cancelled; for others this does nothing.
        self.finish(CANCELED);
    }
}

/// Runs `work` until the client's deadline. Work that is ready at once needs no timer.
pub(crate) async fn within<T>(
    context: &Context,
    deadline: Option<Instant>,
    mut work: Pin<&mut impl Future<Output = Result<T, Status>>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else { return work.await };
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

/// The client's timeout, if its headers have one.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let parsed = parse_timeout(value.as_bytes());
    parsed
        .map(Some)
        .map_err(|why| Status::new(INTERNAL, format!("malformed grpc-timeout: {why}")))
}

/// Reads `grpc-timeout`: at most eight digits and a unit. Errors are in grpc-go's words.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let shown = String::from_utf8_lossy(value);
    let (unit, digits) = match value {
        [] | [_] => return Err(format!("transport: timeout string is too short: {shown:?}")),
        [digits @ .., unit] if value.len() <= 9 => (unit, digits),
        _ => return Err(format!("transport: timeout string is too long: {shown:?}")),
    };
    let one = match unit {
        b'H' => Duration::from_secs(3600),
        b'M' => Duration::from_secs(60),
        b'S' => Duration::from_secs(1),
        b'm' => Duration::from_millis(1),
        b'u' => Duration::from_micros(1),
        b'n' => Duration::from_nanos(1),
        _ => return Err(format!("transport: timeout unit is not recognized: {shown:?}")),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        return Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"));
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Ok(one * number)
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

    #[test]
    fn errors_of_a_timeout_are_in_grpc_gos_words() {
        let table = [
            ("", "transport: timeout string is too short: \"\""),
            ("5", "transport: timeout string is too short: \"5\""),
            ("123456789S", "transport: timeout string is too long: \"123456789S\""),
            ("5s", "transport: timeout unit is not recognized: \"5s\""),
            ("-5S", "strconv.ParseUint: parsing \"-5\": invalid syntax"),
        ];
        for (text, why) in table {
            assert_eq!(parse_timeout(text.as_bytes()).unwrap_err(), why, "{text:?}");
        }
    }
}
