//! Texts in JSON: reading them as Go's `protojson` does, and writing them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use quoin_core::config::quote_bytes;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
const PADDED: GeneralPurposeConfig = CONFIG.with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
const BARE: GeneralPurposeConfig = CONFIG.with_decode_padding_mode(DecodePaddingMode::RequireNone);

/// Why a text cannot be read.
#[derive(Debug, PartialEq)]
pub(crate) enum Malformed {
    /// Half of a character in UTF-16, and too few bytes after it for the other half.
    UnexpectedEnd,
    Because(String),
}

/// Reads the text at the beginning of `json`, which is known to be JSON. Returns it with its length there.
pub(crate) fn parse(json: &[u8]) -> Result<(String, usize), Malformed> {
    let mut text = Vec::new();
    let mut rest = &json[1..];
    loop {
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let length = length.unwrap_or(rest.len());
        if std::str::from_utf8(&rest[..length]).is_err() {
            return Err(Malformed::Because("invalid UTF-8 in string".to_owned()));
        }
        text.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
        match rest {
            [b'"', rest @ ..] => {
                let text = String::from_utf8(text).expect("its parts are UTF-8");
                return Ok((text, json.len() - rest.len()));
            }
            [b'\\', b'u', ..] => {
                let (character, length) = parse_unicode(rest)?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[length..];
            }
            [b'\\', escape, after @ ..] => {
                text.push(match escape {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    same => *same,
                });
                rest = after;
            }
            _ => return Err(Malformed::UnexpectedEnd),
        }
    }
}

/// The bytes of one `\uXXXX`.
const UNIT_BYTES: usize = 6;

/// Reads one `\uXXXX`, or two of them that are one character.
fn parse_unicode(json: &[u8]) -> Result<(char, usize), Malformed> {
    let first = unit(json).ok_or(Malformed::UnexpectedEnd)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Ok((character, UNIT_BYTES));
    }
    let Some(second) = json.get(UNIT_BYTES..2 * UNIT_BYTES) else {
        return Err(Malformed::UnexpectedEnd);
    };
    let pair = unit(second).and_then(|second| char::decode_utf16([first, second]).next());
    match pair {
        Some(Ok(character)) => Ok((character, 2 * UNIT_BYTES)),
        _ => {
            let shown = quote_bytes(second);
            Err(Malformed::Because(format!("invalid escape code {shown} in string")))
        }
    }
}

fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Appends a text in quotes. `for_html` also escapes what has a meaning in HTML, as Go does in streams.
pub(crate) fn write(text: &str, for_html: bool, json: &mut Vec<u8>) {
    json.push(b'"');
    for character in text.chars() {
        match character {
            '"' => json.extend_from_slice(b"\\\""),
            '\\' => json.extend_from_slice(b"\\\\"),
            '\u{8}' => json.extend_from_slice(b"\\b"),
            '\u{c}' => json.extend_from_slice(b"\\f"),
            '\n' => json.extend_from_slice(b"\\n"),
            '\r' => json.extend_from_slice(b"\\r"),
            '\t' => json.extend_from_slice(b"\\t"),
            ..' ' => write_unit(character, json),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if for_html => write_unit(character, json),
            other => json.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    json.push(b'"');
}

fn write_unit(character: char, json: &mut Vec<u8>) {
    json.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
}

/// Decodes base64 of either alphabet, with or without padding. As in Go, line breaks are ignored.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let config = if text.len().is_multiple_of(4) { PADDED } else { BARE };
    let engine = GeneralPurpose::new(alphabet, config);
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        let table = [
            (r#""""#, ""),
            (r#""a" rest"#, "a"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u00fc\ud83d\ude00\u0000""#, "\u{fc}\u{1f600}\0"),
            ("\"\u{fc}\"", "\u{fc}"),
        ];
        for (json, expected) in table {
            let (text, length) = parse(json.as_bytes()).unwrap();
            assert_eq!(text, expected, "{json}");
            assert_eq!(json[..length].chars().next_back(), Some('"'));
        }
    }

    #[test]
    fn halves_of_characters_are_refused() {
        let because = |why: &str| Err(Malformed::Because(why.to_owned()));
        assert_eq!(parse(br#""\ud800""#), Err(Malformed::UnexpectedEnd));
        assert_eq!(
            parse(br#""\ud800xxxxxxx""#),
            because("invalid escape code \"xxxxxx\" in string")
        );
        assert_eq!(
            parse(br#""\ude00\ud83d""#),
            because("invalid escape code \"\\\\ud83d\" in string")
        );
        assert_eq!(parse(b"\"\xff\""), because("invalid UTF-8 in string"));
    }

    #[test]
    fn what_json_cannot_have_is_escaped() {
        let written = |text, for_html| {
            let mut json = Vec::new();
            write(text, for_html, &mut json);
            String::from_utf8(json).unwrap()
        };
        assert_eq!(
            written("a\"\\\u{8}\u{c}\n\r\t\u{1}/\u{7f}\u{fc}", false),
            "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001/\u{7f}\u{fc}\""
        );
        assert_eq!(written("<&>\u{2028}", false), "\"<&>\u{2028}\"");
        assert_eq!(written("<&>\u{2028}", true), "\"\\u003c\\u0026\\u003e\\u2028\"");
    }
}
