//! Numbers of JSON as integers, by the rules of Go's `protojson`: `1.50e1` is 15.

/// Digits of the longest number that is looked at: those of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// An integer.
#[derive(Debug)]
pub(crate) struct Number {
    is_negative: bool,
    magnitude: u64,
}

impl Number {
    pub(crate) fn int64(&self) -> Option<i64> {
        if self.is_negative {
            return 0_i64.checked_sub_unsigned(self.magnitude);
        }
        i64::try_from(self.magnitude).ok()
    }

    /// As an `i32`, with its sign in all bits.
    pub(crate) fn int32(&self) -> Option<i64> {
        self.int64().filter(|number| i32::try_from(*number).is_ok())
    }

    pub(crate) fn uint64(&self) -> Option<u64> {
        (!self.is_negative).then_some(self.magnitude)
    }

    pub(crate) fn uint32(&self) -> Option<u64> {
        self.uint64().filter(|number| u32::try_from(*number).is_ok())
    }
}

/// Whether a number, or a word that is read as one, may have this byte.
pub(crate) fn may_have(byte: u8) -> bool {
    matches!(byte, b'-' | b'+' | b'.' | b'_') || byte.is_ascii_alphanumeric()
}

/// The integer at the beginning of a text. As in the version of `protojson` that etcd 3.5 has, anything that cannot
/// belong to a number may follow.
pub(crate) fn parse(text: &[u8]) -> Option<Number> {
    let (is_negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, rest) = match rest {
        [b'0', rest @ ..] => (&b""[..], rest),
        [b'1'..=b'9', ..] => split_digits(rest),
        _ => return None,
    };
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] if digits.first().is_some_and(u8::is_ascii_digit) => split_digits(digits),
        _ => (&b""[..], rest),
    };
    let (exponent, rest) = match rest {
        [b'e' | b'E', exponent @ ..] if !exponent.is_empty() => split_exponent(exponent),
        _ => (&b""[..], rest),
    };
    if rest.first().is_some_and(|byte| may_have(*byte)) {
        return None;
    }
    let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    let fraction = &fraction[..fraction.len() - zeros];
    let magnitude = shifted(whole, fraction, exponent)?;
    Some(Number {
        is_negative: is_negative && magnitude != 0,
        magnitude,
    })
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let length = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(length)
}

fn split_exponent(text: &[u8]) -> (&[u8], &[u8]) {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let (digits, _) = split_digits(&text[sign..]);
    text.split_at(sign + digits.len())
}

/// The digits of a number without its sign, moved by the exponent; `None` if it is no integer or too long.
fn shifted(whole: &[u8], fraction: &[u8], exponent: &[u8]) -> Option<u64> {
    if whole.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let exponent: i32 = match exponent {
        [] => 0,
        digits => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    let by = usize::try_from(exponent.unsigned_abs()).ok()?;
    let mut digits = whole.to_vec();
    if exponent >= 0 {
        if fraction.len() > by || whole.len() + by > MAX_DIGITS {
            return None;
        }
        digits.extend_from_slice(fraction);
        digits.resize(whole.len() + by, b'0');
    } else {
        let left = whole.len().checked_sub(by).filter(|_| fraction.is_empty())?;
        if whole[left..].iter().any(|digit| *digit != b'0') {
            return None;
        }
        digits.truncate(left);
    }
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
