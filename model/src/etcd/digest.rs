//! A hash of 128 bits to compare states by. It does not resist deliberate collisions.

use bytes::Bytes;
use quoin_core::proto::mvccpb::KeyValue;

/// A hash of everything it was fed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest(u128);

impl Default for Digest {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Digest {
    pub(super) fn value(self) -> u128 {
        self.0
    }

    pub(super) fn number(&mut self, number: u64) {
        const PRIME: u128 = (1 << 88) + 0x13b;
        self.0 = (self.0 ^ u128::from(number)).wrapping_mul(PRIME);
        // The product carries only upward: without this, the high bits of a word would not reach the low half.
        self.0 ^= self.0 >> 61;
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number(number.cast_unsigned());
    }

    /// Feeds the length before the bytes, so that `ab`, `c` and `a`, `bc` have different hashes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    pub(super) fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    pub(super) fn key_value(&mut self, kv: &KeyValue) {
        let KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        } = kv;
        for bytes in [key, value] {
            let bytes: &Bytes = bytes;
            self.bytes(bytes);
        }
        for number in [create_revision, mod_revision, version, lease] {
            self.signed(*number);
        }
    }
}
