//! The query of a URL.

/// A request's query.
pub(super) struct Query<'a>(pub(super) &'a str);

impl Query<'_> {
    /// The values given for a name, decoded.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = String> {
        self.0
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter_map(move |pair| {
                let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
                (url_decoded(found) == name).then(|| url_decoded(value))
            })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }
}

/// Decodes a query; invalid escapes stay unchanged.
fn url_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = hex
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .filter(|_| first == b'%');
        bytes.push(match first {
            b'+' => b' ',
            _ => decoded.unwrap_or(first),
        });
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
