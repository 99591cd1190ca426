//! Prometheus' text format, as far as etcd uses it.

use std::collections::BTreeMap;

use crate::server::Server;
use crate::trouble::{During as _, Trouble};

/// The kind of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Quantiles; only Go's own runtime has any.
    Summary,
}

/// Everything on `/metrics` at one moment.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// The families by name.
    pub families: BTreeMap<String, Kind>,
    /// Every sample by name and labels; histograms have those that end in `_count`, `_sum` and `_bucket`.
    pub samples: BTreeMap<String, f64>,
}

/// Labels whose values differ between servers; `own` replaces the value.
const OWN_VALUES: [&str; 3] = ["server_id", "server_version", "cluster_version"];

impl Exposition {
    /// Scrapes a server.
    ///
    /// # Errors
    /// If it does not answer, or not in this format.
    pub fn of(server: &Server) -> Result<Self, Trouble> {
        let answer = server.http("/metrics").during("asking for metrics")?;
        Self::parse(&body(&answer)?)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// The first line that is invalid.
    pub fn parse(text: &str) -> Result<Self, Trouble> {
        let mut read = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let nonsense = || Trouble::new(format!("not a line of metrics: {line}"));
            if let Some(about) = line.strip_prefix("# TYPE ") {
                let (name, kind) = about.split_once(' ').ok_or_else(nonsense)?;
                let kind = match kind {
                    "counter" => Kind::Counter,
                    "gauge" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    "summary" => Kind::Summary,
                    _ => return Err(nonsense()),
                };
                read.families.insert(name.to_owned(), kind);
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').ok_or_else(nonsense)?;
                let value = value.parse().map_err(|_| nonsense())?;
                read.samples.insert(comparable(series).ok_or_else(nonsense)?, value);
            }
        }
        Ok(read)
    }

    /// A sample; 0 if there is none, as for a counter that was never increased.
    #[must_use]
    pub fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or(0.0)
    }

    /// The family that a sample is of.
    #[must_use]
    pub fn family(&self, series: &str) -> Option<(&str, Kind)> {
        let name = series.split('{').next().unwrap_or(series);
        let stems = ["", "_count", "_sum", "_bucket"].map(|end| name.strip_suffix(end));
        let mut known = stems
            .into_iter()
            .flatten()
            .filter_map(|stem| self.families.get_key_value(stem));
        known.next().map(|(name, kind)| (name.as_str(), *kind))
    }
}

/// A series with sorted labels, without values that differ between servers.
fn comparable(series: &str) -> Option<String> {
    let Some((name, labels)) = series.split_once('{') else {
        return Some(series.to_owned());
    };
    let labels = labels.strip_suffix('}')?;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        // No label here has a quote in its value.
        let (value, after) = after.split_once('"')?;
        pairs.push((label, if OWN_VALUES.contains(&label) { "own" } else { value }));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    Some(format!("{name}{{{}}}", pairs.join(",")))
}

/// The body of an HTTP/1.1 answer.
pub(super) fn body(answer: &str) -> Result<String, Trouble> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| Trouble::new(format!("an answer without a body: {answer}")))?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if is_chunked {
        unchunked(body)
    } else {
        Ok(body.to_owned())
    }
}

/// The body of a chunked answer.
fn unchunked(mut rest: &str) -> Result<String, Trouble> {
    let mut body = String::new();
    loop {
        let (size, after) = rest
            .split_once("\r\n")
            .ok_or_else(|| Trouble::new("an answer that was cut off"))?;
        let size = usize::from_str_radix(size, 16).during("reading the size of a chunk")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = after
            .get(..size)
            .ok_or_else(|| Trouble::new("a chunk that was cut off"))?;
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_are_read() {
        let text = "# HELP a Help.\n# TYPE a counter\na{z=\"1\",b=\"x, y\"} 2\n# TYPE h histogram\n\
                    h_bucket{le=\"+Inf\"} 3\nh_sum 1.5\nh_count 3\n# TYPE v gauge\nv{server_id=\"8e9e\"} 1e+06\n";
        let read = Exposition::parse(text).unwrap();
        assert_eq!(read.value("a{b=\"x, y\",z=\"1\"}"), 2.0);
        assert_eq!(read.family("h_bucket{le=\"+Inf\"}"), Some(("h", Kind::Histogram)));
        assert_eq!(read.family("h_sum"), Some(("h", Kind::Histogram)));
        assert_eq!(read.value("v{server_id=\"own\"}"), 1_000_000.0);
        assert_eq!(read.value("nothing"), 0.0);
        assert!(Exposition::parse("nonsense").is_err());
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), "abcde");
        assert!(unchunked("5\r\nabc").is_err());
    }
}
