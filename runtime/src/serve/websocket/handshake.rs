//! The beginning of a WebSocket: a request over HTTP/1.1 asks for it (RFC 6455, section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use sha1::{Digest as _, Sha1};

use super::super::http::go_error;
use super::super::reply::Reply;

const VERSION: HeaderValue = HeaderValue::from_static("13");
/// What is hashed with the client's key (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
/// The protocol by which browsers, which cannot set other headers, send a token.
const BEARER: &str = "Bearer";
/// The cookie whose value is a token.
const TOKEN_COOKIE: &str = "token";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(','));
    tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// The response that begins the WebSocket.
///
/// # Errors
/// The status for a request that is none for a WebSocket of this version.
pub(super) fn accept(head: &Parts) -> Result<Response<Reply>, StatusCode> {
    if head.method != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key.filter(|_| has_token(&head.headers, &SEC_WEBSOCKET_VERSION, "13")) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    let mut response = Response::new(Reply::Ended);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accepted) = HeaderValue::from_str(&STANDARD.encode(digest)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    }
    if text(&head.headers, &SEC_WEBSOCKET_PROTOCOL).starts_with(BEARER) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    Ok(response)
}

fn is_key(key: &HeaderValue) -> bool {
    STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES)
}

/// The response to a request without a WebSocket.
pub(super) fn refusal(status: StatusCode) -> Response<Reply> {
    let mut response = go_error(status, status.canonical_reason().unwrap_or_default());
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, VERSION);
    response
}

/// The headers of the call. As in etcd, it has none of the request but the token: that of the protocol `Bearer, TOKEN`,
/// or of the cookie `token`.
pub(super) fn headers_of_call(headers: &HeaderMap) -> HeaderMap {
    let mut of_call = HeaderMap::new();
    let protocol = text(headers, &SEC_WEBSOCKET_PROTOCOL);
    let of_protocol = (!protocol.is_empty()).then(|| {
        let token = protocol.split_once("Bearer,").map(|(_, token)| token.trim_matches(' '));
        token.map_or_else(String::new, |token| format!("{BEARER} {token}"))
    });
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='));
    let of_cookie = cookies.find(|(name, _)| *name == TOKEN_COOKIE);
    let of_cookie = of_cookie.map(|(_, token)| format!("{BEARER} {}", token.trim_matches('"')));
    let authorization = of_cookie.or(of_protocol).map(HeaderValue::try_from);
    if let Some(Ok(authorization)) = authorization {
        of_call.insert(AUTHORIZATION, authorization);
    }
    of_call
}

/// The first value of a header; empty if there is none.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// A request for a WebSocket, with some headers set or, if empty, removed.
    fn request(method: Method, changes: &[(HeaderName, &'static str)]) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method;
        let usual = [
            (CONNECTION, "keep-alive, Upgrade"),
            (UPGRADE, "WebSocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            // The example of the RFC.
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.iter().chain(changes) {
            head.headers.insert(name, HeaderValue::from_static(value));
        }
        head.headers = head
            .headers
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        head
    }

    #[test]
    fn a_request_of_the_right_version_is_accepted() {
        let head = request(Method::GET, &[]);
        assert!(is_asked_for(&head.headers));
        let accepted = accept(&head).unwrap();
        assert_eq!(accepted.status(), 101);
        assert_eq!(accepted.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!accepted.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        for (method, change, status) in [
            (Method::POST, (UPGRADE, "websocket"), 405),
            (Method::GET, (SEC_WEBSOCKET_VERSION, "8"), 400),
            (Method::GET, (SEC_WEBSOCKET_VERSION, ""), 400),
            (Method::GET, (SEC_WEBSOCKET_KEY, ""), 400),
            (Method::GET, (SEC_WEBSOCKET_KEY, "YWJj"), 400),
        ] {
            assert_eq!(accept(&request(method, &[change])).err().unwrap(), status);
        }
        assert_eq!(refusal(StatusCode::BAD_REQUEST).headers()[SEC_WEBSOCKET_VERSION], "13");
        assert!(!is_asked_for(&request(Method::GET, &[(UPGRADE, "h2c")]).headers));
        assert!(!is_asked_for(&request(Method::GET, &[(CONNECTION, "close")]).headers));
    }

    #[test]
    fn a_token_comes_with_the_protocol_or_a_cookie() {
        let token = |changes: &[(HeaderName, &'static str)]| {
            let headers = headers_of_call(&request(Method::GET, changes).headers);
            headers
                .get(AUTHORIZATION)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(token(&[(AUTHORIZATION, "abc")]), None);
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer, abc")]).unwrap(), "Bearer abc");
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer,abc")]).unwrap(), "Bearer abc");
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "chat")]).unwrap(), "");
        let both = [(SEC_WEBSOCKET_PROTOCOL, "Bearer, abc"), (COOKIE, "a=b; token=def")];
        assert_eq!(token(&both).unwrap(), "Bearer def");
        let head = request(Method::GET, &both);
        assert_eq!(accept(&head).ok().unwrap().headers()[SEC_WEBSOCKET_PROTOCOL], BEARER);
    }
}
