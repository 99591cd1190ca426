//! The URLs of etcd's flags: `http`, `https`, `unix` and `unixs`, checked by etcd's rules and in its words.
//!
//! A [`Url`] prints exactly as etcd prints it, because member ids are hashes of that text. Names are not resolved here.

use core::net::IpAddr;
use std::fmt;

use super::gotext::quote;

/// The scheme of a URL: the transport, and whether TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain HTTP over TCP.
    Http,
    /// HTTP over TLS over TCP.
    Https,
    /// Plain HTTP over a Unix socket.
    Unix,
    /// HTTP over TLS over a Unix socket.
    Unixs,
}

impl Scheme {
    /// The scheme as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }
}

/// One URL a member listens on, advertises or finds its peers by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Everything after `scheme:`, as written; for TCP it is `//host:port`.
    rest: String,
}

impl Url {
    /// Reads one URL; surrounding blanks are ignored.
    ///
    /// # Errors
    /// etcd's text for the mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let refuse = |why: &str| format!("parse {}: {why}", quote(text));
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(refuse("net/url: invalid control character in URL"));
        }
        let wrong_scheme = || format!("URL scheme must be http, https, unix, or unixs: {text}");
        let Some((scheme, rest)) = split_scheme(text).map_err(refuse)? else {
            return Err(wrong_scheme());
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(wrong_scheme()),
        };
        match scheme {
            Scheme::Http | Scheme::Https => check_authority(text, rest)?,
            Scheme::Unix | Scheme::Unixs => {
                if unescape(socket_name(rest)).map_err(|why| refuse(&why))?.is_empty() {
                    return Err(format!("URL does not name a socket: {text}"));
                }
            }
        }
        Ok(Self {
            scheme,
            rest: rest.to_owned(),
        })
    }

    /// An `http` URL of a port of 127.0.0.1; port 0 is any free one.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self {
            scheme: Scheme::Http,
            rest: format!("//127.0.0.1:{port}"),
        }
    }

    /// A Unix socket at this path.
    #[must_use]
    pub fn unix(path: &str) -> Self {
        let mut rest = String::from("//");
        for char in path.chars() {
            if matches!(char, '%' | '?' | '#') || char.is_ascii_control() {
                rest.push_str(&format!("%{:02X}", u32::from(char)));
            } else {
                rest.push(char);
            }
        }
        let scheme = Scheme::Unix;
        Self { scheme, rest }
    }

    /// Reads a comma-separated list: sorted by text and without repeats, as etcd stores the value of a flag.
    ///
    /// # Errors
    /// The first URL that is wrong, in etcd's words.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut urls = Self::parse_every(text)?;
        urls.dedup();
        Ok(urls)
    }

    /// Reads a comma-separated list: sorted by text, with repeats, as etcd stores the value in a configuration file.
    ///
    /// # Errors
    /// The first URL that is wrong, in etcd's words.
    pub fn parse_every(text: &str) -> Result<Vec<Self>, String> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_cached_key(Self::to_string);
        Ok(urls)
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// True for the schemes that need TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// The path of the socket, for the Unix schemes: host and path of the URL together, as in etcd. So
    /// `unix://localhost:2379` is the file `localhost:2379` in the working directory.
    #[must_use]
    pub fn socket_path(&self) -> Option<String> {
        match self.scheme {
            // The escapes were checked when the URL was parsed.
            Scheme::Unix | Scheme::Unixs => unescape(socket_name(&self.rest)).ok(),
            Scheme::Http | Scheme::Https => None,
        }
    }

    /// `host:port` as written, for the TCP schemes.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        match self.scheme {
            Scheme::Http | Scheme::Https => self.rest.strip_prefix("//"),
            Scheme::Unix | Scheme::Unixs => None,
        }
    }

    /// The host without brackets, for the TCP schemes; it may be empty.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.authority()
            .and_then(|authority| split_host_port(authority).ok())
            .map(|(host, _)| host)
    }

    /// The port, for the TCP schemes; a missing number counts as 0, "any port".
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let (_, port) = split_host_port(self.authority()?).ok()?;
        if port.is_empty() { Some(0) } else { port.parse().ok() }
    }

    /// The same URL at another port, for the TCP schemes.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        self.host()
            .map_or_else(|| self.clone(), |host| self.with_host(host, port))
    }

    /// The same URL at another host.
    #[must_use]
    pub fn with_host(&self, host: &str, port: u16) -> Self {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        Self {
            scheme: self.scheme,
            rest: format!("//{host}:{port}"),
        }
    }

    /// A listener binds to an address, so names other than `localhost` are refused.
    pub(super) fn check_bind(&self) -> Result<(), String> {
        match self.host() {
            None | Some("localhost") => Ok(()),
            Some(host) if host.parse::<IpAddr>().is_ok() => Ok(()),
            Some(_) => Err(format!("expected IP in URL for binding ({self})")),
        }
    }

    /// An advertised URL must have a host that others can reach.
    pub(super) fn check_advertised(&self) -> Result<(), String> {
        match self.host() {
            Some("") => Err(format!("unexpected empty host ({self})")),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme.as_str(), self.rest)
    }
}

/// URLs joined by commas, as etcd prints a list.
#[must_use]
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

/// Splits `scheme:rest`; `None` if the text has no scheme.
fn split_scheme(text: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    let scheme_end = end.filter(|&i| text[i..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()));
    if let Some(i) = scheme_end {
        return Ok(Some((&text[..i], &text[i + 1..])));
    }
    if text.starts_with(':') {
        return Err("missing protocol scheme");
    }
    let first_segment = text.split('/').next().unwrap_or_default();
    if first_segment.contains(':') {
        return Err("first path segment in URL cannot contain colon");
    }
    Ok(None)
}

/// Checks that `rest` is `//host:port` and nothing else.
fn check_authority(text: &str, rest: &str) -> Result<(), String> {
    let no_host_port = || format!("URL address does not have the form \"host:port\": {text}");
    let after_slashes = rest.strip_prefix("//").ok_or_else(no_host_port)?;
    let end = after_slashes.find(['/', '?', '#']).unwrap_or(after_slashes.len());
    let (authority, tail) = after_slashes.split_at(end);
    if let Some(c) = authority
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:[]".contains(*c)))
    {
        if c == '@' {
            return Err(format!("URL must not contain user information: {text}"));
        }
        return Err(format!(
            "parse {}: invalid character {} in host name",
            quote(text),
            quote(&c.to_string())
        ));
    }
    let (_, port) = split_host_port(authority).map_err(|_| no_host_port())?;
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return Err(format!(
            "parse {}: invalid port {} after host",
            quote(text),
            quote(&format!(":{port}"))
        ));
    }
    if tail.starts_with('/') {
        return Err(format!("URL must not contain a path: {text}"));
    }
    if !tail.is_empty() {
        return Err(format!("URL must not contain a query or fragment: {text}"));
    }
    Ok(())
}

/// Host and path of a Unix URL, from what follows its scheme.
fn socket_name(rest: &str) -> &str {
    let name = rest.strip_prefix("//").unwrap_or(rest);
    name.split(['?', '#']).next().unwrap_or_default()
}

/// A text with `%xx` decoded to bytes, which must be UTF-8.
fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            let shown: String = part.chars().take(2).collect();
            return Err(format!("invalid URL escape {}", quote(&format!("%{shown}"))));
        };
        bytes.push(byte);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).map_err(|_| "the path is not UTF-8".to_owned())
}

/// Go's `net.SplitHostPort`: brackets around an IPv6 address are removed.
fn split_host_port(address: &str) -> Result<(&str, &str), &'static str> {
    const MISSING_PORT: &str = "missing port in address";
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("missing ']' in address")?;
        return after.strip_prefix(':').map(|port| (host, port)).ok_or(MISSING_PORT);
    }
    let (host, port) = address.rsplit_once(':').ok_or(MISSING_PORT)?;
    if host.contains(':') {
        return Err("too many colons in address");
    }
    if host.contains(['[', ']']) {
        Err("unexpected bracket in address")
    } else {
        Ok((host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_print_as_written_and_have_their_parts() {
        for (text, host, port) in [
            ("http://localhost:2379", Some("localhost"), Some(2379)),
            ("http://127.0.0.1:0", Some("127.0.0.1"), Some(0)),
            ("https://[::1]:2380", Some("::1"), Some(2380)),
            ("http://:2379", Some(""), Some(2379)),
            ("http://Example.COM:80", Some("Example.COM"), Some(80)),
            ("http://host:", Some("host"), Some(0)),
            ("unix:///run/etcd.sock", None, None),
            ("unixs:/run/etcd.sock", None, None),
            ("unix://localhost:2379", None, None),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (text, host, port));
        }
        assert_eq!(Url::parse(" HTTP://h:1 ").unwrap().to_string(), "http://h:1");
        for (text, path) in [
            ("unix:///run/s", "/run/s"),
            ("unix:///run/a%20b?c#d", "/run/a b"),
            ("unixs:run/s", "run/s"),
            ("unix://localhost:2379", "localhost:2379"),
            ("unix://run/s", "run/s"),
        ] {
            assert_eq!(Url::parse(text).unwrap().socket_path().as_deref(), Some(path));
        }
    }

    #[test]
    fn a_path_becomes_a_url_with_that_path() {
        for path in ["/run/s", "/a b/100%?#", "rel/s"] {
            let url = Url::unix(path);
            assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url));
            assert_eq!(url.socket_path().as_deref(), Some(path));
        }
        assert_eq!(Url::parse("http://127.0.0.1:7"), Ok(Url::loopback(7)));
    }

    #[test]
    fn bad_urls_are_refused_in_etcds_words() {
        for (text, error) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            ("://h:1", "parse \"://h:1\": missing protocol scheme"),
            ("ftp://h:1", "URL scheme must be http, https, unix, or unixs: ftp://h:1"),
            ("http://h", "URL address does not have the form \"host:port\": http://h"),
            ("http:h:1", "URL address does not have the form \"host:port\": http:h:1"),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            ("http://h:1/", "URL must not contain a path: http://h:1/"),
            ("http://h:1?a", "URL must not contain a query or fragment: http://h:1?a"),
            ("http://u@h:1", "URL must not contain user information: http://u@h:1"),
            ("http://h:x", "parse \"http://h:x\": invalid port \":x\" after host"),
            (
                "http://h:65536",
                "parse \"http://h:65536\": invalid port \":65536\" after host",
            ),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
            (
                "http://h:1\u{1}",
                "parse \"http://h:1\\x01\": net/url: invalid control character in URL",
            ),
            ("unix://", "URL does not name a socket: unix://"),
            ("unix://?a", "URL does not name a socket: unix://?a"),
            ("unix:///a%2", "parse \"unix:///a%2\": invalid URL escape \"%2\""),
            ("unix:///a%zzb", "parse \"unix:///a%zzb\": invalid URL escape \"%zz\""),
        ] {
            assert_eq!(Url::parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_and_without_repeats() {
        let urls = Url::parse_list("http://b:1,http://a:1, http://b:1").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:1");
    }
}
