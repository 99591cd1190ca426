//! The keys a watcher watches: etcd's key and range end, normalised once.

use bytes::Bytes;

/// The first key there is; a request without a key means it.
const FIRST_KEY: Bytes = Bytes::from_static(b"\0");

/// Keys a watcher watches. Never empty.
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

/// Where a span ends; the later, the greater.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// Just before this key.
    Before(Bytes),
    /// Nowhere.
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
    /// What `key` and `range_end` of a request mean; nothing where no key can be between them.
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
    fn ranges_are_read_as_etcd_reads_them() {
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
    fn an_open_end_is_after_every_other() {
        assert!(End::Open > End::Before(Bytes::from_static(b"\xff\xff")));
        assert!(End::Open.is_after(b"\xff\xff\xff"));
        assert!(!End::Before(Bytes::from_static(b"b")).is_after(b"b"));
    }
}
