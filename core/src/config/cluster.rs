//! `--initial-cluster`: the first members, as `name=url` pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::url::Url;

/// Members by name with their peer URLs; a name given twice has the URLs of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<Url>>,
}

impl InitialCluster {
    /// Reads `name=url,name=url`; empty pieces are skipped.
    ///
    /// # Errors
    /// The first URL that is wrong, in etcd's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut members = BTreeMap::<String, Vec<Url>>::new();
        for piece in text.split(',').filter(|piece| !piece.is_empty()) {
            let (name, url) = piece.split_once('=').unwrap_or((piece, ""));
            members.entry(name.to_owned()).or_default().push(Url::parse(url)?);
        }
        for urls in members.values_mut() {
            urls.sort_by_cached_key(Url::to_string);
        }
        Ok(Self { members })
    }

    /// A cluster of one member.
    #[must_use]
    pub fn single(name: &str, urls: &[Url]) -> Self {
        Self {
            members: BTreeMap::from([(name.to_owned(), urls.to_vec())]),
        }
    }

    /// The peer URLs of the member with this name.
    #[must_use]
    pub fn urls_of(&self, name: &str) -> Option<&[Url]> {
        self.members.get(name).map(Vec::as_slice)
    }

    /// Names with their URLs, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Url])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// The number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if the list has no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// True if one URL occurs twice, within a member or across members.
    #[must_use]
    pub fn has_duplicate_url(&self) -> bool {
        let mut seen = BTreeSet::new();
        !self.members.values().flatten().all(|url| seen.insert(url))
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let mut pairs = pairs.collect::<Vec<_>>();
        pairs.sort();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_given_twice_has_both_urls() {
        let cluster = InitialCluster::parse("b=http://b:1,a=http://z:1,,a=http://a:1").unwrap();
        assert_eq!(cluster.to_string(), "a=http://a:1,a=http://z:1,b=http://b:1");
        assert_eq!((cluster.len(), cluster.has_duplicate_url()), (2, false));
    }

    #[test]
    fn a_url_given_twice_is_a_duplicate() {
        for text in ["a=http://h:1,b=http://h:1", "a=http://h:1,a=http://h:1"] {
            assert!(InitialCluster::parse(text).unwrap().has_duplicate_url(), "{text}");
        }
    }

    #[test]
    fn a_name_without_a_url_is_refused() {
        let error = "URL scheme must be http, https, unix, or unixs: ".to_owned();
        assert_eq!(InitialCluster::parse("a"), Err(error));
    }
}
