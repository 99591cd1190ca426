//! Numbered slots: values found by a small number in constant time. Numbers are used again, in an order that depends
//! only on the calls.

use std::ops::{Index, IndexMut};

/// Values by slot. A slot's number is used again once its value was taken.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Stores `value` and returns its slot.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(value);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("memory ends long before 2^32 values");
        self.slots.push(Some(value));
        slot
    }

    /// Takes the value of `slot`, which holds one.
    pub(super) fn remove(&mut self, slot: u32) -> T {
        let value = self.slots[slot as usize].take().expect(OCCUPIED);
        self.free.push(slot);
        value
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All values with their slots, in the order of slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, value)| Some((slot, value.as_ref()?)))
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.slots[slot as usize].as_ref().expect(OCCUPIED)
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].as_mut().expect(OCCUPIED)
    }
}

/// Why a slot in a caller's hands holds a value.
const OCCUPIED: &str = "the caller does not use a slot after freeing it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert_eq!(slab.remove(a), "a");
        assert_eq!(slab.insert("c"), a);
        slab[b] = "B";
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(a, &"c"), (b, &"B")]);
        assert_eq!(slab.len(), 2);
    }
}
