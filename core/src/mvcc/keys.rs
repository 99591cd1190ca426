//! The keys of one node of a [tree](super::tree): a vector, or byte strings packed into one buffer.

use std::cmp::Ordering;

use super::tree::GROWTH;

/// The largest number of bytes reserved in advance for later byte strings.
const ROOM_BYTES: usize = 1024;

/// Distinct keys in ascending order.
pub(crate) trait KeyList: Clone + Default {
    /// The type of a key in a look-up.
    type Key: Ord + ToOwned + ?Sized;

    /// The number of keys.
    fn len(&self) -> usize;
    /// The key at a position.
    fn at(&self, at: usize) -> &Self::Key;
    /// The position of a key, or where to insert it.
    fn search(&self, key: &Self::Key) -> Result<usize, usize>;
    /// Inserts a key at the position that [`Self::search`] returned.
    fn insert(&mut self, at: usize, key: &Self::Key);
    /// Removes and returns the key at a position.
    fn remove(&mut self, at: usize) -> Owned<Self>;
    /// Removes and returns the keys at and after a position.
    fn split_off(&mut self, at: usize) -> Self;
    /// Appends the keys of `right`, the next node.
    fn append(&mut self, right: Self);

    /// A list of one.
    fn one(key: &Self::Key) -> Self {
        let mut list = Self::default();
        list.insert(0, key);
        list
    }

    /// How many keys are at most `key`.
    fn count_to(&self, key: &Self::Key) -> usize {
        match self.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }
}

/// An owned key, as a list returns it.
pub(super) type Owned<L> = <<L as KeyList>::Key as ToOwned>::Owned;

impl<K: Clone + Ord> KeyList for Vec<K> {
    type Key = K;

    fn len(&self) -> usize {
        self.len()
    }

    fn at(&self, at: usize) -> &K {
        &self[at]
    }

    fn search(&self, key: &K) -> Result<usize, usize> {
        self.binary_search(key)
    }

    fn insert(&mut self, at: usize, key: &K) {
        if self.len() == self.capacity() {
            self.reserve_exact(GROWTH);
        }
        self.insert(at, key.clone());
    }

    fn remove(&mut self, at: usize) -> K {
        self.remove(at)
    }

    fn split_off(&mut self, at: usize) -> Self {
        self.split_off(at)
    }

    fn append(&mut self, right: Self) {
        self.extend(right);
    }
}

/// Byte strings in one buffer, one after another: a search reads only the node's memory, and a key needs little memory
/// beyond its bytes.
#[derive(Clone, Default)]
pub(crate) struct ByteKeys {
    bytes: Vec<u8>,
    /// The end of each in `bytes`.
    ends: Vec<usize>,
}

impl ByteKeys {
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

impl KeyList for ByteKeys {
    type Key = [u8];

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn at(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at]]
    }

    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.at(middle).cmp(key) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    fn insert(&mut self, at: usize, key: &[u8]) {
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(GROWTH);
        }
        if self.bytes.len() + key.len() > self.bytes.capacity() {
            // Reserves `GROWTH` times this length, at most `ROOM_BYTES`, and no less than this key needs.
            self.bytes
                .reserve_exact(key.len().max(ROOM_BYTES.min(key.len() * GROWTH)));
        }
        let start = self.start(at);
        self.bytes.splice(start..start, key.iter().copied());
        self.ends.insert(at, start);
        self.ends[at..].iter_mut().for_each(|end| *end += key.len());
    }

    fn remove(&mut self, at: usize) -> Vec<u8> {
        let start = self.start(at);
        let key: Vec<u8> = self.bytes.drain(start..self.ends[at]).collect();
        self.ends.remove(at);
        self.ends[at..].iter_mut().for_each(|end| *end -= key.len());
        key
    }

    fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let mut ends = self.ends.split_off(at);
        ends.iter_mut().for_each(|end| *end -= start);
        let bytes = self.bytes.split_off(start);
        self.bytes.shrink_to(start + start / 4);
        Self { bytes, ends }
    }

    fn append(&mut self, right: Self) {
        let start = self.bytes.len();
        self.bytes.extend(right.bytes);
        self.ends.extend(right.ends.into_iter().map(|end| start + end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &ByteKeys) -> Vec<&[u8]> {
        (0..keys.len()).map(|at| keys.at(at)).collect()
    }

    #[test]
    fn packed_keys_behave_as_a_list_of_keys() {
        let mut keys = ByteKeys::default();
        for key in [&b"b"[..], b"", b"abc", b"c\0", b"c"] {
            let at = keys.search(key).unwrap_err();
            keys.insert(at, key);
        }
        assert_eq!(all(&keys), [&b""[..], b"abc", b"b", b"c", b"c\0"]);
        assert_eq!((keys.search(b"b"), keys.search(b"bb")), (Ok(2), Err(3)));
        assert_eq!(
            (keys.count_to(b"b"), keys.count_to(b"a"), keys.count_to(b"")),
            (3, 1, 1)
        );
        assert_eq!(keys.remove(1), b"abc");
        let right = keys.split_off(2);
        assert_eq!(
            (all(&keys), all(&right)),
            (vec![&b""[..], b"b"], vec![&b"c"[..], b"c\0"])
        );
        keys.append(right);
        assert_eq!(all(&keys), [&b""[..], b"b", b"c", b"c\0"]);
    }
}
