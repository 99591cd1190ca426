//! The characters of a configuration file: UTF-8, or UTF-16 after a byte-order mark, without control characters.

/// The text of a file, without its byte-order mark.
///
/// # Errors
/// libyaml's words for bytes that are not text.
pub(super) fn text_of(bytes: &[u8]) -> Result<String, &'static str> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest)?,
        _ => utf8(bytes)?,
    };
    if text.chars().all(is_allowed) {
        Ok(text)
    } else {
        Err("control characters are not allowed")
    }
}

fn is_allowed(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
            | '\u{10000}'..='\u{10ffff}'
    )
}

fn utf8(bytes: &[u8]) -> Result<String, &'static str> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    Err(match (error.error_len(), bytes[error.valid_up_to()]) {
        (None, _) => "incomplete UTF-8 octet sequence",
        (Some(_), 0xc2..=0xf4) => "invalid trailing UTF-8 octet",
        (Some(_), _) => "invalid leading UTF-8 octet",
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    if !bytes.len().is_multiple_of(2) {
        return Err("incomplete UTF-16 character");
    }
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units)
        .collect::<Result<String, _>>()
        .map_err(|_| "unexpected low surrogate area")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_order_mark_selects_the_encoding() {
        for bytes in [
            &b"\xef\xbb\xbfa: \xc3\xa9"[..],
            b"\xff\xfea\0:\0 \0\xe9\0",
            b"\xfe\xff\0a\0:\0 \0\xe9",
            "a: \u{e9}".as_bytes(),
        ] {
            assert_eq!(text_of(bytes).as_deref(), Ok("a: \u{e9}"));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        for (bytes, why) in [
            (&b"a\xff"[..], "invalid leading UTF-8 octet"),
            (b"\x80", "invalid leading UTF-8 octet"),
            (b"\xc3(", "invalid trailing UTF-8 octet"),
            (b"a\xc3", "incomplete UTF-8 octet sequence"),
            (b"\xff\xfea", "incomplete UTF-16 character"),
            (b"\xff\xfe\0\xdc", "unexpected low surrogate area"),
            (b"a\0b", "control characters are not allowed"),
            (b"\x7f", "control characters are not allowed"),
        ] {
            assert_eq!(text_of(bytes), Err(why));
        }
    }
}
