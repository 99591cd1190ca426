//! Compares two lists of URLs. A host name equals the address it resolves to; `localhost` is not resolved and equals
//! only itself.

use std::collections::BTreeMap;

use crate::config::Url;
use crate::config::gotext::quote;

/// The result of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sameness {
    /// The same endpoints.
    Same,
    /// Different endpoints; the text is etcd's.
    Different(String),
    /// These names must be resolved first.
    Unknown(Vec<Url>),
}

/// Compares two lists, ignoring order. `addresses` has `host:port` of each resolved URL, or why resolving failed.
pub(super) fn compare(a: &[Url], b: &[Url], addresses: &BTreeMap<Url, Result<String, String>>) -> Sameness {
    if a.len() != b.len() {
        return Sameness::Different(format!("len({}) != len({})", quote_list(a), quote_list(b)));
    }
    let (a, b) = (sorted(a), sorted(b));
    if a == b {
        return Sameness::Same;
    }
    let unknown = a
        .iter()
        .chain(&b)
        .filter(|url| needs_resolving(url) && !addresses.contains_key(url));
    let mut unknown = unknown.cloned().collect::<Vec<_>>();
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        return Sameness::Unknown(unknown);
    }
    match (resolve(&a, addresses), resolve(&b, addresses)) {
        (Ok(a), Ok(b)) => match a.iter().zip(&b).find(|(a, b)| a != b) {
            None => Sameness::Same,
            Some((a, b)) => Sameness::Different(format!("resolved urls: {} != {}", quote(a), quote(b))),
        },
        (Err(why), _) | (_, Err(why)) => Sameness::Different(why),
    }
}

/// Go's `%q` of a list.
fn quote_list(urls: &[Url]) -> String {
    format!(
        "[{}]",
        urls.iter()
            .map(|url| quote(&url.to_string()))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

fn sorted(urls: &[Url]) -> Vec<Url> {
    let mut urls = urls.to_vec();
    urls.sort_by_cached_key(Url::to_string);
    urls
}

fn needs_resolving(url: &Url) -> bool {
    url.host().is_some_and(|host| host != "localhost")
}

fn resolve(urls: &[Url], addresses: &BTreeMap<Url, Result<String, String>>) -> Result<Vec<String>, String> {
    let resolved = urls.iter().map(|url| match addresses.get(url) {
        Some(Ok(address)) if needs_resolving(url) => Ok(format!("{}://{address}", url.scheme().as_str())),
        Some(Err(why)) if needs_resolving(url) => Err(format!("failed to resolve {} ({why})", quote(&url.to_string()))),
        _ => Ok(url.to_string()),
    });
    let mut resolved = resolved.collect::<Result<Vec<_>, _>>()?;
    resolved.sort();
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Url> {
        Url::parse_list(text).unwrap()
    }

    #[test]
    fn lists_are_compared_without_order_and_names_by_their_addresses() {
        let a1 = list("http://a:1");
        let known = BTreeMap::from([
            (a1[0].clone(), Ok("10.0.0.1:1".to_owned())),
            (list("http://b:1")[0].clone(), Err("no such host".to_owned())),
            (list("http://10.0.0.1:1")[0].clone(), Ok("10.0.0.1:1".to_owned())),
            (list("http://10.0.0.2:1")[0].clone(), Ok("10.0.0.2:1".to_owned())),
        ]);
        let different = |why: &str| Sameness::Different(why.to_owned());
        for (left, right, answer) in [
            ("http://a:1,http://z:1", "http://z:1,http://a:1", Sameness::Same),
            ("http://a:1", "http://10.0.0.1:1", Sameness::Same),
            (
                "http://a:1",
                "http://10.0.0.2:1",
                different("resolved urls: \"http://10.0.0.1:1\" != \"http://10.0.0.2:1\""),
            ),
            (
                "http://a:1",
                "http://b:1",
                different("failed to resolve \"http://b:1\" (no such host)"),
            ),
            (
                "http://a:1",
                "http://a:1,http://b:1",
                different("len([\"http://a:1\"]) != len([\"http://a:1\" \"http://b:1\"])"),
            ),
            (
                "http://localhost:1",
                "http://10.0.0.1:1",
                different("resolved urls: \"http://localhost:1\" != \"http://10.0.0.1:1\""),
            ),
            (
                "unix:///s",
                "unix:///t",
                different("resolved urls: \"unix:///s\" != \"unix:///t\""),
            ),
            ("http://a:1", "http://new:1", Sameness::Unknown(list("http://new:1"))),
        ] {
            assert_eq!(compare(&list(left), &list(right), &known), answer, "{left} {right}");
        }
    }
}
