//! Finds the end of the JSON value at the beginning of a text that arrives in pieces, and refuses what is not JSON. It
//! is the scanner of Go's `encoding/json` as a machine: it takes one byte after the other, and its errors have Go's
//! words.

use quoin_core::config::quote;

/// Arrays and objects that may be nested, as in Go.
const MAX_DEPTH: usize = 10_000;

/// What the bytes so far contain.
#[derive(Debug, PartialEq)]
pub(crate) enum Scanned {
    /// A value, which ends before this index; or with the last byte, if that ends an array or an object.
    Value(usize),
    /// Nothing, or the beginning of a value.
    More,
}

/// An array or an object that is open.
#[derive(Clone, Copy, Debug)]
enum Open {
    Array,
    /// An object, before the colon.
    Key,
    /// An object, after the colon.
    Field,
}

/// What may come next.
#[derive(Clone, Copy, Debug)]
enum Expects {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    AfterValue,
    Text,
    Escape,
    /// This many hexadecimal digits of an escape.
    Hex(u8),
    Minus,
    /// After a leading zero.
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentDigit,
    ExponentDigits,
    /// A word, of which this many bytes were read.
    Word(&'static str, usize),
}

/// The scanner of one value.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: Expects,
    open: Vec<Open>,
    /// Bytes of the text that were scanned.
    at: usize,
    /// A byte other than white space was found.
    begun: bool,
}

/// A step's result: whether the value has ended, and whether the byte at hand still belongs to it.
enum Outcome {
    On,
    EndsHere,
    EndedBefore,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self {
            state: Expects::Value,
            open: Vec::new(),
            at: 0,
            begun: false,
        }
    }

    /// Continues with a text that begins with all bytes given before.
    ///
    /// # Errors
    /// If the text is no JSON, in Go's words.
    pub(crate) fn scan(&mut self, text: &[u8]) -> Result<Scanned, String> {
        while let Some(&byte) = text.get(self.at) {
            match self.step(byte)? {
                Outcome::On => {}
                Outcome::EndsHere => return Ok(Scanned::Value(self.at + 1)),
                Outcome::EndedBefore => return Ok(Scanned::Value(self.at)),
            }
            self.begun |= !is_space(byte);
            self.at += 1;
        }
        Ok(Scanned::More)
    }

    /// The end of the text: the length of its value, or `None` if there is nothing but white space.
    ///
    /// # Errors
    /// If the value is not complete.
    pub(crate) fn end(&mut self) -> Result<Option<usize>, String> {
        match self.step(b' ') {
            Ok(Outcome::EndedBefore) => Ok(Some(self.at)),
            _ if !self.begun => Ok(None),
            _ => Err("unexpected EOF".to_owned()),
        }
    }

    fn step(&mut self, byte: u8) -> Result<Outcome, String> {
        let next = match (self.state, byte) {
            (Expects::Value | Expects::ValueOrEnd | Expects::KeyOrEnd | Expects::Key | Expects::AfterValue, byte)
                if is_space(byte) && !self.is_over() =>
            {
                self.state
            }
            (Expects::ValueOrEnd, b']') | (Expects::KeyOrEnd, b'}') => return Ok(self.close()),
            (Expects::Value | Expects::ValueOrEnd, byte) => self.begin(byte)?,
            (Expects::Key | Expects::KeyOrEnd, b'"') => Expects::Text,
            (Expects::Key | Expects::KeyOrEnd, byte) => {
                return refuse(byte, "looking for beginning of object key string");
            }
            (Expects::Text, b'"') => Expects::AfterValue,
            (Expects::Text, b'\\') => Expects::Escape,
            (Expects::Text, ..b' ') => return refuse(byte, "in string literal"),
            (Expects::Text, _) | (Expects::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Expects::Text,
            (Expects::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => Expects::Text,
            (Expects::Escape, b'u') => Expects::Hex(4),
            (Expects::Escape, byte) => return refuse(byte, "in string escape code"),
            (Expects::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Expects::Hex(left - 1),
            (Expects::Hex(_), byte) => return refuse(byte, "in \\u hexadecimal character escape"),
            (Expects::Minus, b'0') => Expects::Zero,
            (Expects::Minus, b'1'..=b'9') | (Expects::Digits, b'0'..=b'9') => Expects::Digits,
            (Expects::Minus, byte) => return refuse(byte, "in numeric literal"),
            (Expects::Zero | Expects::Digits, b'.') => Expects::Point,
            (Expects::Zero | Expects::Digits | Expects::Fraction, b'e' | b'E') => Expects::Exponent,
            (Expects::Point | Expects::Fraction, b'0'..=b'9') => Expects::Fraction,
            (Expects::Point, byte) => return refuse(byte, "after decimal point in numeric literal"),
            (Expects::Exponent, b'+' | b'-') => Expects::ExponentDigit,
            (Expects::Exponent | Expects::ExponentDigit | Expects::ExponentDigits, b'0'..=b'9') => {
                Expects::ExponentDigits
            }
            (Expects::Exponent | Expects::ExponentDigit, byte) => {
                return refuse(byte, "in exponent of numeric literal");
            }
            (Expects::Word(word, read), byte) => word_after(word, read, byte)?,
            (
                Expects::AfterValue | Expects::Zero | Expects::Digits | Expects::Fraction | Expects::ExponentDigits,
                byte,
            ) => {
                return self.after_value(byte);
            }
        };
        self.state = next;
        Ok(Outcome::On)
    }

    /// Whether a value at the top was read to its end.
    fn is_over(&self) -> bool {
        self.open.is_empty() && matches!(self.state, Expects::AfterValue)
    }

    /// The first byte of a value.
    fn begin(&mut self, byte: u8) -> Result<Expects, String> {
        Ok(match byte {
            b'{' => self.push(Open::Key, byte, Expects::KeyOrEnd)?,
            b'[' => self.push(Open::Array, byte, Expects::ValueOrEnd)?,
            b'"' => Expects::Text,
            b'-' => Expects::Minus,
            b'0' => Expects::Zero,
            b'1'..=b'9' => Expects::Digits,
            b't' => Expects::Word("true", 1),
            b'f' => Expects::Word("false", 1),
            b'n' => Expects::Word("null", 1),
            byte => return refuse(byte, "looking for beginning of value"),
        })
    }

    fn push(&mut self, open: Open, byte: u8, next: Expects) -> Result<Expects, String> {
        if self.open.len() == MAX_DEPTH {
            return refuse(byte, "exceeded max depth");
        }
        self.open.push(open);
        Ok(next)
    }

    /// An array or an object ends.
    fn close(&mut self) -> Outcome {
        self.open.pop();
        self.state = Expects::AfterValue;
        if self.open.is_empty() {
            Outcome::EndsHere
        } else {
            Outcome::On
        }
    }

    /// A byte after a value, a key or a number.
    fn after_value(&mut self, byte: u8) -> Result<Outcome, String> {
        let Some(open) = self.open.last_mut() else {
            return Ok(Outcome::EndedBefore);
        };
        self.state = match (*open, byte) {
            (_, byte) if is_space(byte) => Expects::AfterValue,
            (Open::Key, b':') => {
                *open = Open::Field;
                Expects::Value
            }
            (Open::Key, byte) => return refuse(byte, "after object key"),
            (Open::Field, b',') => {
                *open = Open::Key;
                Expects::Key
            }
            (Open::Array, b',') => Expects::Value,
            (Open::Field, b'}') | (Open::Array, b']') => return Ok(self.close()),
            (Open::Field, byte) => return refuse(byte, "after object key:value pair"),
            (Open::Array, byte) => return refuse(byte, "after array element"),
        };
        Ok(Outcome::On)
    }
}

/// The state after the next byte of a word.
fn word_after(word: &'static str, read: usize, byte: u8) -> Result<Expects, String> {
    let expected = word.as_bytes()[read];
    if byte != expected {
        let expected = char::from(expected);
        return refuse(byte, &format!("in literal {word} (expecting '{expected}')"));
    }
    Ok(if read + 1 == word.len() {
        Expects::AfterValue
    } else {
        Expects::Word(word, read + 1)
    })
}

fn refuse<T>(byte: u8, place: &str) -> Result<T, String> {
    // Go shows a byte as the character of this number.
    let shown = match char::from(byte) {
        '\'' => "\\'".to_owned(),
        '"' => "\"".to_owned(),
        // Go's `%q` escapes what it cannot print.
        unprintable @ ('\u{80}'..='\u{a0}' | '\u{ad}') => format!("\\u{:04x}", u32::from(unprintable)),
        character => quote(&character.to_string()).trim_matches('"').to_owned(),
    };
    Err(format!("invalid character '{shown}' {place}"))
}

/// White space of JSON.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at the beginning of a text that arrives in pieces of `size`; `None` if there is only white space.
    fn value(text: &[u8], size: usize) -> Result<Option<&[u8]>, String> {
        let mut scanner = Scanner::new();
        for end in (0..=text.len()).step_by(size).chain([text.len()]) {
            if let Scanned::Value(length) = scanner.scan(&text[..end])? {
                return Ok(Some(&text[..length]));
            }
        }
        Ok(scanner.end()?.map(|length| &text[..length]))
    }

    #[test]
    fn a_value_ends_where_go_ends_it() {
        let table: [(&str, Option<&str>); 16] = [
            ("", None),
            (" \r\n\t", None),
            ("{}", Some("{}")),
            (" {} x", Some(" {}")),
            ("{}}", Some("{}")),
            ("[1, 2,[]]3", Some("[1, 2,[]]")),
            ("1 x", Some("1")),
            ("1x", Some("1")),
            ("-0.5e+7", Some("-0.5e+7")),
            ("0", Some("0")),
            ("true", Some("true")),
            ("null,", Some("null")),
            ("\"a\\u00e9\\n\"", Some("\"a\\u00e9\\n\"")),
            ("\"a\"b", Some("\"a\"")),
            (
                r#"{"a" : {"b":[null ,false]} , "c":1}{"#,
                Some(r#"{"a" : {"b":[null ,false]} , "c":1}"#),
            ),
            ("{ }", Some("{ }")),
        ];
        for (text, expected) in table {
            for size in [1, 2, 3, 100] {
                let found = value(text.as_bytes(), size);
                assert_eq!(found, Ok(expected.map(str::as_bytes)), "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn errors_have_the_words_of_go() {
        let table: [(&[u8], &str); 27] = [
            (b"x", "invalid character 'x' looking for beginning of value"),
            (b"{\"a\":1", "unexpected EOF"),
            (b"tru", "unexpected EOF"),
            (b"-", "unexpected EOF"),
            (
                b"{a:1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            (
                b"{'a':1}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
            (
                b"{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            (b"{\"a\" 1}", "invalid character '1' after object key"),
            (
                b"{\"a\":1 \"b\":2}",
                "invalid character '\"' after object key:value pair",
            ),
            (b"{\"a\":01}", "invalid character '1' after object key:value pair"),
            (b"[1 2]", "invalid character '2' after array element"),
            (b"[1,]", "invalid character ']' looking for beginning of value"),
            (b"[,", "invalid character ',' looking for beginning of value"),
            (b"[tru]", "invalid character ']' in literal true (expecting 'e')"),
            (b"[nil", "invalid character 'i' in literal null (expecting 'u')"),
            (b"[-}", "invalid character '}' in numeric literal"),
            (b"[1.}", "invalid character '}' after decimal point in numeric literal"),
            (b"[1e}", "invalid character '}' in exponent of numeric literal"),
            (b"[1e+}", "invalid character '}' in exponent of numeric literal"),
            (b"\"\\x", "invalid character 'x' in string escape code"),
            (
                b"\"\\u12\"",
                "invalid character '\"' in \\u hexadecimal character escape",
            ),
            (b"\"\n", "invalid character '\\n' in string literal"),
            (b"\"\x01", "invalid character '\\x01' in string literal"),
            (
                b"\xef\xbb\xbf{}",
                "invalid character '\u{ef}' looking for beginning of value",
            ),
            (b"\x85", "invalid character '\\u0085' looking for beginning of value"),
            (b"\x7f", "invalid character '\\x7f' looking for beginning of value"),
            (
                b"{]",
                "invalid character ']' looking for beginning of object key string",
            ),
        ];
        for (text, expected) in table {
            for size in [1, 100] {
                assert_eq!(value(text, size).unwrap_err(), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn nesting_ends_at_the_depth_of_go() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(value(nested(10_000).as_bytes(), 4096).is_ok());
        let refused = value(nested(100_000).as_bytes(), 4096).unwrap_err();
        assert_eq!(refused, "invalid character '[' exceeded max depth");
    }
}
