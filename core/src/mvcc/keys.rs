//! The keys of one node of a [tree](super::tree), side by side so that a search stays within few cache lines.

/// Most keys an array ever holds: a full node's and those of a short neighbour that joins it.
pub(crate) const KEYS_MAX: usize = 42;

/// A sorted sequence of keys; it does not see to the order itself.
pub(crate) trait KeyArray: Clone + Default {
    /// One key.
    type Key: Ord + ?Sized;

    fn len(&self) -> usize;
    fn get(&self, at: usize) -> &Self::Key;
    fn insert(&mut self, at: usize, key: &Self::Key);
    fn remove(&mut self, at: usize);
    /// Takes out the keys at `at` and after.
    fn split_off(&mut self, at: usize) -> Self;
    fn append(&mut self, right: &Self);

    /// Bytes that copying the array moves because of its keys' lengths; 0 where all are short.
    fn key_bytes(&self) -> usize {
        0
    }

    /// How many keys are less than `key`, and whether the next one equals it.
    fn find(&self, key: &Self::Key) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// How many keys are at most `key`.
    fn count_up_to(&self, key: &Self::Key) -> usize {
        self.find(key).map_or_else(|at| at, |at| at + 1)
    }
}

impl<K: Ord + Clone> KeyArray for Vec<K> {
    type Key = K;

    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, at: usize) -> &K {
        &self[at]
    }

    fn insert(&mut self, at: usize, key: &K) {
        insert_at(self, at, key.clone());
    }

    fn remove(&mut self, at: usize) {
        self.remove(at);
    }

    fn split_off(&mut self, at: usize) -> Self {
        self.split_off(at)
    }

    fn append(&mut self, right: &Self) {
        self.extend_from_slice(right);
    }
}

/// Byte strings in one buffer.
#[derive(Clone)]
pub(crate) struct PackedKeys {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: [u32; KEYS_MAX],
    len: usize,
}

impl Default for PackedKeys {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            ends: [0; KEYS_MAX],
            len: 0,
        }
    }
}

impl PackedKeys {
    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }
}

impl KeyArray for PackedKeys {
    type Key = [u8];

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        if self.bytes.len() + key.len() > self.bytes.capacity() {
            // Exactly enough for a few more like it: there are many nodes, and they stay as they are for long.
            self.bytes.reserve_exact(key.len().saturating_mul(GROWTH));
        }
        self.bytes.splice(start..start, key.iter().copied());
        self.ends.copy_within(at..self.len, at + 1);
        self.ends[at] = start as u32;
        self.len += 1;
        let grown = u32::try_from(key.len())
            .ok()
            .filter(|_| u32::try_from(self.bytes.len()).is_ok());
        let grown = grown.expect("a node holds a handful of keys where they are long, each less than a message");
        self.ends[at..self.len].iter_mut().for_each(|end| *end += grown);
    }

    fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at]);
        self.bytes.drain(start..end as usize);
        self.ends.copy_within(at + 1..self.len, at);
        self.len -= 1;
        let shrunk = end - start as u32;
        self.ends[at..self.len].iter_mut().for_each(|end| *end -= shrunk);
    }

    fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let mut right = Self {
            bytes: self.bytes.split_off(start),
            len: self.len - at,
            ..Self::default()
        };
        for (end, old) in right.ends.iter_mut().zip(&self.ends[at..self.len]) {
            *end = old - start as u32;
        }
        self.len = at;
        right
    }

    fn append(&mut self, right: &Self) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&right.bytes);
        for (end, appended) in self.ends[self.len..].iter_mut().zip(&right.ends[..right.len]) {
            *end = start + appended;
        }
        self.len += right.len;
    }

    fn key_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A full vector grows by this many elements: nodes are two thirds full on average, and there are many.
const GROWTH: usize = 8;

/// Inserts into a vector that grows in small steps.
pub(crate) fn insert_at<T>(vec: &mut Vec<T>, at: usize, item: T) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(GROWTH);
    }
    vec.insert(at, item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Prng;

    fn assert_same(packed: &PackedKeys, model: &[Vec<u8>]) {
        assert_eq!(packed.len(), model.len());
        assert!((0..model.len()).all(|at| packed.get(at) == model[at]));
        assert_eq!(packed.key_bytes(), model.concat().len());
    }

    #[test]
    fn packed_keys_are_those_put_in() {
        let mut random = Prng::new(1);
        let (mut packed, mut model) = (PackedKeys::default(), Vec::new());
        for step in 0..5_000 {
            let at = random.below(model.len() as u64 + 1) as usize;
            match random.below(20) {
                0 => {
                    let (right, right_model) = (packed.split_off(at), model.split_off(at));
                    assert_same(&right, &right_model);
                    if step % 2 == 0 {
                        packed.append(&right);
                        model.extend(right_model);
                    }
                }
                1..8 if at < model.len() => {
                    packed.remove(at);
                    model.remove(at);
                }
                _ if model.len() < KEYS_MAX => {
                    let key = vec![step as u8; random.below(20) as usize];
                    packed.insert(at, &key);
                    model.insert(at, key);
                }
                _ => {}
            }
            assert_same(&packed, &model);
        }
    }

    #[test]
    fn keys_are_found_by_order() {
        let mut packed = PackedKeys::default();
        for (at, key) in ["", "a", "ab", "b"].into_iter().enumerate() {
            packed.insert(at, key.as_bytes());
        }
        let table = [
            ("", Ok(0)),
            ("A", Err(1)),
            ("a", Ok(1)),
            ("aa", Err(2)),
            ("b", Ok(3)),
            ("c", Err(4)),
        ];
        for (key, found) in table {
            assert_eq!(packed.find(key.as_bytes()), found, "{key}");
            assert_eq!(
                packed.count_up_to(key.as_bytes()),
                found.map_or_else(|at| at, |at| at + 1),
                "{key}"
            );
        }
    }
}
