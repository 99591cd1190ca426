//! The only source of randomness of a member: xoshiro256**, started from one seed. It is not for secrets.

use std::ops::Range;

/// A repeatable stream of numbers.
///
/// Give every concern its own stream by [`Prng::fork`]: then more draws for one concern do not change the draws of
/// another.
#[derive(Clone, Debug)]
pub struct Prng {
    seed: u64,
    state: [u64; 4],
}

impl Prng {
    /// The stream of `seed`; every seed is good, including 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self {
            seed,
            state: std::array::from_fn(|_| split_mix(&mut mixer)),
        }
    }

    /// The stream for the concern named `label`. It depends on seed and label, not on how much was drawn before.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        // FNV-1a gives labels different hashes; the mixer then spreads the difference over all bits.
        let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut mixer = self.seed ^ hash.rotate_left(32);
        Self::new(split_mix(&mut mixer))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`, all equally likely; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The high half of a 128-bit product is uniform except in a sliver of cases, which are drawn again.
        let sliver = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= sliver {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `range`, all equally likely; the start of the range if it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }
}

/// One step of splitmix64, which turns any seed into well spread bits.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_its_published_outputs() {
        let mut state = 1_234_567;
        let outputs: [u64; 3] = std::array::from_fn(|_| split_mix(&mut state));
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn xoshiro_matches_its_published_outputs() {
        let mut prng = Prng {
            seed: 0,
            state: [1, 2, 3, 4],
        };
        let outputs: [u64; 4] = std::array::from_fn(|_| prng.next_u64());
        assert_eq!(outputs, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn a_fork_depends_on_seed_and_label_only() {
        let mut drawn = Prng::new(7);
        drawn.next_u64();
        assert_eq!(
            drawn.fork("election").next_u64(),
            Prng::new(7).fork("election").next_u64()
        );
        assert_ne!(
            Prng::new(7).fork("election").next_u64(),
            Prng::new(7).fork("lease").next_u64()
        );
        assert_ne!(
            Prng::new(7).fork("election").next_u64(),
            Prng::new(8).fork("election").next_u64()
        );
    }

    #[test]
    fn bounded_numbers_stay_in_bounds_and_reach_all_of_them() {
        let mut prng = Prng::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[usize::try_from(prng.range(10..17)).unwrap() - 10] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(prng.below(0), 0);
        assert_eq!(prng.range(5..5), 5);
    }
}
