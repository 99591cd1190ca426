//! The keys a watcher watches: etcd's key and range end, normalised once.

use bytes::Bytes;

/// The first possible key; a request without a key means it.
const FIRST_KEY: Bytes = Bytes::from_static(b"\0");

/// The keys of a watcher; never empty.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum KeyRange {
    /// One key.
    Key(Bytes),
    /// More than one key.
    Span(Span),
}

/// The keys from `start` up to `end`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Span {
    /// The first key.
    pub(super) start: Bytes,
    /// Where it ends.
    pub(super) end: End,
}

/// The end of a span; ends are ordered.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// Just before this key.
    Before(Bytes),
    /// There is no end.
    Open,
}

impl End {
    /// Whether `key` comes before the end.
    pub(super) fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Open => true,
        }
    }
}

impl KeyRange {
    /// The keys of a request's `key` and `range_end`; `None` if there can be no key in the range.
    pub(super) fn new(key: Bytes, range_end: Bytes) -> Option<Self> {
        let start = if key.is_empty() { FIRST_KEY } else { key };
        match &range_end[..] {
            [] => Some(Self::Key(start)),
            [0] => Some(Self::Span(Span { start, end: End::Open })),
            end if end <= &start[..] => None,
            _ => Some(Self::Span(Span {
                start,
                end: End::Before(range_end),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, range_end: &'static str) -> String {
        let text = |bytes: &Bytes| bytes.escape_ascii().to_string();
        match KeyRange::new(key.into(), range_end.into()) {
            None => "empty".into(),
            Some(KeyRange::Key(key)) => format!("[{}]", text(&key)),
            Some(KeyRange::Span(Span { start, end })) => match end {
                End::Before(end) => format!("[{}, {})", text(&start), text(&end)),
                End::Open => format!("[{}, ..)", text(&start)),
            },
        }
    }

    #[test]
    fn key_and_range_end_mean_what_they_mean_in_etcd() {
        let table = [
            ("a", "", "[a]"),
            ("", "", r"[\x00]"),
            ("a", "b", "[a, b)"),
            ("", "b", r"[\x00, b)"),
            ("a", "\0", "[a, ..)"),
            ("", "\0", r"[\x00, ..)"),
            ("\0", "\0", r"[\x00, ..)"),
            ("a", "a", "empty"),
            ("b", "a", "empty"),
            ("a", "a\0", r"[a, a\x00)"),
            ("b", "\0\0", "empty"),
        ];
        for (key, range_end, meaning) in table {
            assert_eq!(range(key, range_end), meaning, "{key:?} {range_end:?}");
        }
    }

    #[test]
    fn an_open_end_is_greater_than_every_other() {
        assert!(End::Open > End::Before(Bytes::from_static(b"\xff\xff")));
        assert!(End::Open.is_after(b"\xff\xff\xff"));
        assert!(!End::Before(Bytes::from_static(b"b")).is_after(b"b"));
    }
}
