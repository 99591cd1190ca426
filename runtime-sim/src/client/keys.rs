//! The keys that clients use: few, so that clients meet; neighbours and prefixes of each other, so that ranges have
//! edges.

use std::collections::BTreeSet;

use bytes::Bytes;
use quoin_core::random::Prng;

use crate::choose::one_of;

/// "From the key on" as a range's end, and the first key of all.
pub const ZERO: Bytes = Bytes::from_static(b"\0");

/// Length of the longest key there is.
pub const LONGEST_KEY_BYTES: usize = 4_096;

/// Keys at the edges.
const EDGES: [&[u8]; 13] = [
    b"a",
    b"a\0",
    b"b",
    b"ab",
    b"b/",
    b"b/1",
    b"b/10",
    b"b0",
    b"\0",
    b"\0\0",
    b"\xff",
    b"\xff\xff",
    b"\xc3\x28",
];

/// The key space of a run.
#[derive(Clone, Debug)]
pub struct Keys {
    all: Vec<Bytes>,
    /// Whether a few keys get half of the requests.
    hot: bool,
}

impl Keys {
    /// A key space.
    pub fn draw(prng: &mut Prng) -> Self {
        let size = one_of(prng, &[3, 5, 12, 40, 200]);
        let mut seen = BTreeSet::new();
        let mut all = Vec::with_capacity(size);
        while all.len() < size {
            let key = match prng.below(4) {
                0 | 1 if seen.len() < EDGES.len() => Bytes::from_static(one_of(prng, &EDGES)),
                0 | 1 => Bytes::from(format!("k/{:03}", prng.below(1_000))),
                2 => (0..prng.range(1..7)).map(|_| one_of(prng, &BINARY)).collect(),
                _ if prng.below(10) == 0 => Bytes::from(vec![b'l'; LONGEST_KEY_BYTES]),
                _ => Bytes::from(format!("b/{}", prng.below(200))),
            };
            if seen.insert(key.clone()) {
                all.push(key);
            }
        }
        Self {
            all,
            hot: prng.below(2) == 0,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Bytes] {
        &self.all
    }

    /// One of them.
    pub fn one(&self, prng: &mut Prng) -> Bytes {
        let among = if self.hot && prng.below(2) == 0 {
            3
        } else {
            self.all.len()
        };
        let at = prng.below(among as u64);
        self.all[usize::try_from(at).expect("a key's place")].clone()
    }

    /// A range of more than one key: start and end.
    pub fn range(&self, prng: &mut Prng) -> (Bytes, Bytes) {
        match prng.below(8) {
            0 => (ZERO, ZERO),
            1 => (self.one(prng), ZERO),
            2 | 3 => {
                let prefix = self.one(prng);
                let length = usize::try_from(prng.range(1..prefix.len() as u64 + 1)).unwrap_or(1);
                let prefix = prefix.slice(..length);
                let end = prefix_end(&prefix);
                (prefix, end)
            }
            // In any order: sometimes the end is before the start, and the range is empty.
            4 => (self.one(prng), self.one(prng)),
            _ => {
                let (one, other) = (self.one(prng), self.one(prng));
                if one <= other { (one, other) } else { (other, one) }
            }
        }
    }
}

/// Bytes with a special meaning.
const BINARY: [u8; 8] = [0, 1, b'/', b'a', b'b', 0x7f, 0x80, 0xff];

/// The end of the range of all keys that start with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    match kept {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => ZERO,
    }
}
