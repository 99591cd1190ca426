//! Replaces values that differ from run to run by names: ids, addresses, terms, sizes, times.
//!
//! All other output is compared unchanged. A name works in both directions: a script's `<lease1>` is replaced by the
//! value before a command runs, and the value by the name in its output.

/// The names of one run.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Name and value, for commands.
    values: Vec<(String, String)>,
    /// Name and every printed spelling of its value, the longest first, because one may be part of another.
    spellings: Vec<(String, String)>,
    leases: usize,
    members: usize,
}

/// The characters of the given set that directly follow one of these texts are replaced by the name.
const FIELDS: &[(&str, Chars, &str)] = &[
    ("\"raft_term\":", Chars::Digits, "<term>"),
    ("\"raftTerm\":", Chars::Digits, "<term>"),
    ("\"raftIndex\":", Chars::Digits, "<index>"),
    ("\"raftAppliedIndex\":", Chars::Digits, "<index>"),
    ("\"dbSize\":", Chars::Digits, "<size>"),
    ("\"dbSizeInUse\":", Chars::Digits, "<size>"),
    ("\"ttl\":", Chars::Digits, "<left>"),
    ("\"took\":\"", Chars::Time, "<time>"),
    ("\"RaftTerm\" : ", Chars::Digits, "<term>"),
    ("\"RaftIndex\" : ", Chars::Digits, "<index>"),
    ("\"RaftAppliedIndex\" : ", Chars::Digits, "<index>"),
    ("\"DBSize\" : ", Chars::Digits, "<size>"),
    ("\"TTL\" : ", Chars::Digits, "<left>"),
    ("remaining(", Chars::Digits, "<left>"),
    ("took = ", Chars::Time, "<time>"),
    ("took ", Chars::Time, "<time>"),
    ("took: ", Chars::Time, "<time>"),
    ("{\"hash\":", Chars::Digits, "<hash>"),
    ("\"totalKey\":", Chars::Digits, "<keys>"),
    ("\"totalSize\":", Chars::Digits, "<size>"),
];

#[derive(Debug, Clone, Copy)]
enum Chars {
    Digits,
    Time,
}

impl Chars {
    fn hold(self, char: char) -> bool {
        match self {
            Self::Digits => char.is_ascii_digit(),
            Self::Time => char.is_ascii_digit() || "nµmsh.".contains(char),
        }
    }
}

impl Names {
    /// Names a number: `<name:dec>` in decimal and `<name>` in hexadecimal.
    pub fn number(&mut self, name: &str, number: u64) {
        self.text(&format!("<{name}>"), format!("{number:x}"));
        self.text(&format!("<{name}:dec>"), number.to_string());
        // etcdctl pads some ids with spaces and some with zeros.
        // The space before the padding tells it from a short id after a word.
        self.spell(&format!(" <{name}>"), format!(" {number:>16x}"));
        self.spell(&format!("<{name}>"), format!("{number:016x}"));
    }

    /// Names a text.
    pub fn text(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        self.values.push((name.to_owned(), value.clone()));
        self.spell(name, value);
    }

    fn spell(&mut self, name: &str, spelling: String) {
        self.spellings.push((name.to_owned(), spelling));
        self.spellings
            .sort_by_key(|(_, spelling)| std::cmp::Reverse(spelling.len()));
    }

    /// Sets how many members exist already, so that the next one is numbered after them.
    pub fn members_there(&mut self, count: usize) {
        self.members = count;
    }

    /// Names the leases and members that appear in an output: `<lease1>` is the first lease of the run, `<member2>` the
    /// first member added to the initial one.
    pub fn learn(&mut self, output: &str) {
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["lease", id, "granted", ..] => self.meet("lease", id),
                ["Member", id, "added", ..] => self.meet("member", id),
                // The keys of locks and elections end with the id of their lease.
                [key] if line.contains('/') => self.meet("lease", key.rsplit('/').next().unwrap_or_default()),
                _ => {}
            }
        }
    }

    /// Names an id at its first appearance. Shorter words are keys that the script itself made.
    fn meet(&mut self, what: &str, id: &str) {
        let hex = id.len() >= 13 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(number) = u64::from_str_radix(id, 16).ok().filter(|_| hex) else {
            return;
        };
        if self.spellings.iter().any(|(_, spelling)| spelling == id) {
            return;
        }
        let count = if what == "lease" {
            &mut self.leases
        } else {
            &mut self.members
        };
        *count += 1;
        let name = format!("{what}{count}");
        self.number(&name, number);
    }

    /// Replaces names by values.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.values {
            text = text.replace(name, value);
        }
        fill_bytes(&text)
    }

    /// Replaces values by names.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, spelling) in &self.spellings {
            text = text.replace(spelling, name);
        }
        for (before, chars, name) in FIELDS {
            text = hide_after(&text, before, *chars, name);
        }
        text
    }
}

fn hide_after(text: &str, before: &str, chars: Chars, name: &str) -> String {
    let mut pieces = text.split(before);
    let mut hidden = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        hidden.push_str(before);
        let rest = piece.trim_start_matches(|char| chars.hold(char));
        let digits = piece.starts_with(|char: char| char.is_ascii_digit());
        if digits {
            hidden.push_str(name);
        }
        hidden.push_str(if digits { rest } else { piece });
    }
    hidden
}

/// Replaces `<bytes:N>` by N letters, so that large values need not be in a script.
fn fill_bytes(text: &str) -> String {
    let Some((before, rest)) = text.split_once("<bytes:") else {
        return text.to_owned();
    };
    let Some((count, after)) = rest.split_once('>') else {
        return text.to_owned();
    };
    let count: usize = count.parse().unwrap_or_default();
    format!("{before}{}{}", "x".repeat(count), fill_bytes(after))
}

/// The number after the first occurrence of a JSON key.
#[must_use]
pub fn json_number(json: &str, key: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
    rest[..digits].parse().ok()
}

/// The text after the first occurrence of a JSON key; it must contain no escapes.
#[must_use]
pub fn json_text(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    rest.split_once('"').map(|(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_names_and_names_values() {
        let mut names = Names::default();
        names.number("member", 0x1f);
        names.text("<client>", "127.0.0.1:1234");
        names.members_there(1);
        names.learn("lease 694d000000000000 granted with TTL(60s)\nMember  e9e05c52164694d added to cluster 1");
        names.learn("mutex/0694e00000000000\nlease 694d000000000000 granted with TTL(60s)");
        let printed =
            "127.0.0.1:1234 31 1f lease 0694e00000000000 remaining(58s), \"raft_term\":7, took = 1.5ms revision 3";
        let hidden = "<client> <member:dec> <member> lease <lease2> remaining(<left>s), \"raft_term\":<term>, took = <time> revision 3";
        assert_eq!(names.hide(printed), hidden);
        assert_eq!(
            names.fill("revoke <lease1> put <bytes:3>"),
            "revoke 694d000000000000 put xxx"
        );
    }

    #[test]
    fn a_short_id_keeps_the_space_before_it_and_loses_its_padding() {
        let mut names = Names::default();
        names.number("four", 0x0123_4567_89ab_cdef);
        let printed = "to 123456789abcdef; Member  123456789abcdef added; 0123456789abcdef";
        assert_eq!(names.hide(printed), "to <four>; Member <four> added; <four>");
    }

    #[test]
    fn a_field_without_a_number_stays() {
        assert_eq!(
            Names::default().hide("took steps, remaining(-1s), \"ttl\":-1"),
            "took steps, remaining(-1s), \"ttl\":-1"
        );
    }

    #[test]
    fn json_fields_are_found() {
        let json = r#"[{"Status":{"header":{"cluster_id":12,"member_id":34},"version":"3.5.1"}}]"#;
        assert_eq!(
            (json_number(json, "member_id"), json_number(json, "none")),
            (Some(34), None)
        );
        assert_eq!(json_text(json, "version").as_deref(), Some("3.5.1"));
    }
}
