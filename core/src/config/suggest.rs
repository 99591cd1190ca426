//! "Did you mean": the known name that a mistyped one is closest to.

/// A name may have one mistake for each four letters.
const LETTERS_FOR_EACH_TYPO: usize = 4;

/// The closest of the known names, if it is close enough. Two letters in the wrong order count as one mistake. Case is
/// ignored.
pub(super) fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let most = (given.chars().count() / LETTERS_FOR_EACH_TYPO).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, &name.to_lowercase()), name))
        .filter(|(mistakes, _)| *mistakes <= most)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_close_and_other_words_are_not() {
        let known = [
            "name",
            "data-dir",
            "listen-client-urls",
            "listen-peer-urls",
            "advertise-client-urls",
        ];
        for (given, name) in [
            ("nmae", Some("name")),
            ("datadir", Some("data-dir")),
            ("data_dir", Some("data-dir")),
            ("listen-client-url", Some("listen-client-urls")),
            ("listen-peers-url", Some("listen-peer-urls")),
            ("nope", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(given, known), name, "{given}");
        }
    }
}
