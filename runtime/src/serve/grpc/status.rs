//! The status of a call: gRPC's codes, and the conversion of core's errors.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use quoin_core::error::Error;

/// Names of the codes by number, as metrics spell them.
pub(crate) const CODE_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The code of a call that succeeded.
pub(crate) const OK: u8 = 0;
/// The client cancelled the call.
pub(crate) const CANCELED: u8 = 1;
/// An error that has no other code.
pub(crate) const UNKNOWN: u8 = 2;
/// The request is wrong in any state.
pub(crate) const INVALID_ARGUMENT: u8 = 3;
/// The client's deadline passed.
pub(crate) const DEADLINE_EXCEEDED: u8 = 4;
/// There is no such thing.
pub(crate) const NOT_FOUND: u8 = 5;
/// A size or a number exceeds its limit.
pub(crate) const RESOURCE_EXHAUSTED: u8 = 8;
/// The method is not implemented.
pub(crate) const UNIMPLEMENTED: u8 = 12;
/// Frames or messages are malformed.
pub(crate) const INTERNAL: u8 = 13;

/// The client is not known.
pub(crate) const UNAUTHENTICATED: u8 = 16;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A failed call's code and text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    /// gRPC's code.
    pub(crate) code: u8,
    /// The text, which clients match on.
    pub(crate) message: Cow<'static, str>,
}

impl Status {
    pub(crate) fn new(code: u8, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The client's deadline passed, in the words of grpc-go's context.
    pub(crate) fn deadline_exceeded() -> Self {
        Self::new(DEADLINE_EXCEEDED, "context deadline exceeded")
    }

    /// The trailers with the status.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(4);
        self.write(&mut trailers);
        trailers
    }

    /// Adds it to headers or trailers.
    pub(crate) fn write(&self, into: &mut HeaderMap) {
        into.insert(GRPC_STATUS, number(self.code));
        into.insert(GRPC_MESSAGE, percent_encoded(&self.message));
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code().number(), error.message())
    }
}

/// The trailers of a call that succeeded.
pub(crate) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, number(OK));
    trailers
}

/// A code as a header value, without allocating.
fn number(code: u8) -> HeaderValue {
    const NUMBERS: [&str; CODE_NAMES.len()] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    ];
    HeaderValue::from_static(NUMBERS.get(usize::from(code)).copied().unwrap_or("2"))
}

/// A message as gRPC sends it: printable ASCII except `%` stays, every other byte becomes `%XX`.
fn percent_encoded(message: &str) -> HeaderValue {
    let mut encoded = Vec::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    HeaderValue::from_bytes(&encoded).expect("only printable ASCII is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        let table = [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("100%", "100%25"),
            ("\"leader\" field", "\"leader\" field"),
            ("a\nb", "a%0Ab"),
            ("ü", "%C3%BC"),
        ];
        for (message, encoded) in table {
            assert_eq!(percent_encoded(message), encoded, "{message}");
        }
    }

    #[test]
    fn every_error_of_the_core_has_a_named_code() {
        for error in Error::ALL {
            let status = Status::from(*error);
            assert!(CODE_NAMES.get(usize::from(status.code)).is_some(), "{error}");
            let trailers = status.trailers();
            assert_eq!(trailers["grpc-status"], status.code.to_string());
        }
        assert_eq!(ok_trailers()["grpc-status"], "0");
    }
}
