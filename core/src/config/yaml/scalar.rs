//! The value of a YAML scalar, by the rules of Go's yaml.v2: YAML 1.1 without base-60 numbers.
//!
//! The parser gives the text, whether it was without quotes, and the tag if there is one.

use super::super::gotext::{parse_int, parse_uint};

/// Prefix of the tags that YAML itself defines; `!!int` is short for this prefix followed by `int`.
const YAML_TAGS: &str = "tag:yaml.org,2002:";

/// A scalar's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// The tag that stands for this kind of value, without its prefix.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
        }
    }
}

/// The value of `text`. `plain` is true for text without quotes.
///
/// # Errors
/// yaml.v2's words for a text that does not fit its tag.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(if plain {
            implied(text)
        } else {
            Scalar::Text(text.to_owned())
        });
    };
    let wanted = match tag.strip_prefix(YAML_TAGS) {
        Some("str") => return Ok(Scalar::Text(text.to_owned())),
        Some("binary") => return decode_base64(text).map(Scalar::Text),
        Some(kind @ ("bool" | "float" | "int" | "null" | "timestamp")) => kind,
        // yaml.v2 ignores tags it does not know, and reads the text as text.
        _ => return Ok(Scalar::Text(text.to_owned())),
    };
    match implied(text) {
        Scalar::Int(number) if wanted == "float" => Ok(Scalar::Float(number as f64)),
        Scalar::Text(text) if wanted == "timestamp" && is_date(&text) => Ok(Scalar::Text(text)),
        value if value.kind() == wanted => Ok(value),
        value => Err(format!("cannot decode !!{} `{text}` as a !!{wanted}", value.kind())),
    }
}

/// The value of text without quotes and tag.
fn implied(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            let whole = parse_int(&digits).map(Scalar::Int);
            whole
                .or_else(|_| parse_uint(&digits).map(Scalar::Uint))
                .ok()
                .or_else(|| float(&digits))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, if it fits a double.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fits = digits(whole) && digits(part) && digits(exponent) && !exponent.is_empty();
    if !fits || whole.is_empty() && part.is_empty() {
        return None;
    }
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
        .map(Scalar::Float)
}

/// Whether the text begins with a date: year, month and day as numbers.
fn is_date(text: &str) -> bool {
    let mut pieces = text.splitn(3, '-');
    let (year, month, rest) = (pieces.next(), pieces.next(), pieces.next().unwrap_or_default());
    let day = rest.split(|c: char| !c.is_ascii_digit()).next();
    let within = |piece: Option<&str>, most: u32| {
        let number = piece
            .filter(|piece| piece.len() <= 2)
            .and_then(|piece| piece.parse().ok());
        number.is_some_and(|number: u32| (1..=most).contains(&number))
    };
    year.is_some_and(|year| year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()))
        && within(month, 12)
        && within(day, 31)
}

/// The value of a `!!binary` text; bytes that are not UTF-8 become U+FFFD, as in Go's JSON.
fn decode_base64(text: &str) -> Result<String, String> {
    let refuse = || "!!binary value contains invalid base64 data".to_owned();
    let text = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<_>>();
    if !text.len().is_multiple_of(4) {
        return Err(refuse());
    }
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 2 {
        return Err(refuse());
    }
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(refuse()),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_read_by_yaml_1_1() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        for (plain, value) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("NULL", Scalar::Null),
            ("nULL", text("nULL")),
            ("y", Scalar::Bool(true)),
            ("On", Scalar::Bool(true)),
            ("oN", text("oN")),
            ("OFF", Scalar::Bool(false)),
            ("20_000_000", Scalar::Int(20_000_000)),
            ("1__0_", Scalar::Int(10)),
            ("_1", text("_1")),
            ("0x1F", Scalar::Int(31)),
            ("0x_f", Scalar::Int(15)),
            ("-0b11", Scalar::Int(-3)),
            ("0o17", Scalar::Int(15)),
            ("017", Scalar::Int(15)),
            ("08", Scalar::Float(8.0)),
            ("+7", Scalar::Int(7)),
            ("-9223372036854775808", Scalar::Int(i64::MIN)),
            ("18446744073709551615", Scalar::Uint(u64::MAX)),
            ("18446744073709551616", Scalar::Float(18_446_744_073_709_551_616.0)),
            ("8.589934592e+09", Scalar::Float(8_589_934_592.0)),
            ("2147483648.0", Scalar::Float(2_147_483_648.0)),
            ("1_0.5", Scalar::Float(10.5)),
            ("1.", Scalar::Float(1.0)),
            (".5E1", Scalar::Float(5.0)),
            ("1e3", Scalar::Float(1_000.0)),
            ("1e400", text("1e400")),
            ("1e", text("1e")),
            (".", text(".")),
            ("-", text("-")),
            ("0x", text("0x")),
            ("0x1p4", text("0x1p4")),
            ("1:30", text("1:30")),
            ("2020-01-02", text("2020-01-02")),
            ("+.INF", Scalar::Float(f64::INFINITY)),
            ("inf", text("inf")),
        ] {
            assert_eq!(resolve(plain, true, None), Ok(value), "{plain}");
        }
        assert_eq!(resolve("yes", false, None), Ok(text("yes")));
    }

    #[test]
    fn a_tag_selects_the_type_and_the_text_must_fit_it() {
        let tagged = |text: &str, tag: &str| resolve(text, false, Some(&format!("{YAML_TAGS}{tag}")));
        assert_eq!(tagged("5", "int"), Ok(Scalar::Int(5)));
        assert_eq!(tagged("5", "str"), Ok(Scalar::Text("5".to_owned())));
        assert_eq!(tagged("5", "float"), Ok(Scalar::Float(5.0)));
        assert_eq!(tagged("", "null"), Ok(Scalar::Null));
        assert_eq!(tagged("aGk=\n", "binary"), Ok(Scalar::Text("hi".to_owned())));
        for tag in ["!mine", "!"] {
            assert_eq!(resolve("5", true, Some(tag)), Ok(Scalar::Text("5".to_owned())));
        }
        assert_eq!(
            tagged("2020-1-2 10:00:00", "timestamp"),
            Ok(Scalar::Text("2020-1-2 10:00:00".to_owned()))
        );
        for (text, tag, why) in [
            ("x", "int", "cannot decode !!str `x` as a !!int"),
            ("5.0", "int", "cannot decode !!float `5.0` as a !!int"),
            ("5", "bool", "cannot decode !!int `5` as a !!bool"),
            ("x", "null", "cannot decode !!str `x` as a !!null"),
            (
                "2020-13-02",
                "timestamp",
                "cannot decode !!str `2020-13-02` as a !!timestamp",
            ),
            ("a", "binary", "!!binary value contains invalid base64 data"),
        ] {
            assert_eq!(tagged(text, tag), Err(why.to_owned()), "{text}");
        }
    }
}
