//! Changes in good bytes.

use quoin_core::random::Prng;

/// Numbers at which a length or a count may be wrong.
const NUMBERS: [u64; 8] = [0, 1, 127, 128, 0xffff, 1 << 31, 1 << 62, u64::MAX];
/// The longest part that is moved, removed or added.
const PART: u64 = 64;

/// Changes up to four places of the bytes.
pub(crate) fn damage(bytes: &mut Vec<u8>, prng: &mut Prng) {
    for _ in 0..prng.below(5) {
        if bytes.is_empty() {
            return;
        }
        change(bytes, prng);
    }
}

fn change(bytes: &mut Vec<u8>, prng: &mut Prng) {
    let at = prng.below(bytes.len() as u64) as usize;
    let end = (at + prng.below(PART) as usize).min(bytes.len());
    match prng.below(9) {
        0 => bytes[at] ^= 1 << prng.below(8),
        1 => bytes[at] = prng.next_u64() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            // The same part twice, or many times.
            let part = bytes[at..end].repeat(1 + prng.below(20) as usize);
            bytes.splice(at..at, part);
        }
        5 => bytes[at..end].fill(0),
        6 => number(bytes, at, &NUMBERS[prng.below(8) as usize].to_be_bytes()),
        7 => number(bytes, at, &NUMBERS[prng.below(8) as usize].to_le_bytes()),
        _ => {
            // A varint, as protobuf has them.
            let mut left = NUMBERS[prng.below(8) as usize];
            let mut varint = Vec::new();
            while left > 127 {
                varint.push(left as u8 | 128);
                left >>= 7;
            }
            varint.push(left as u8);
            bytes.splice(at..=at, varint);
        }
    }
}

/// Writes over the bytes at a place, as far as there are any.
fn number(bytes: &mut [u8], at: usize, number: &[u8]) {
    for (old, new) in bytes[at..].iter_mut().zip(number) {
        *old = *new;
    }
}
