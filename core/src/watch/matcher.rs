//! The watchers of a key: single keys by name, spans in an interval tree, without a walk over all watchers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::interval::IntervalTree;
use super::range::KeyRange;

/// Slots by the keys they watch.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    keys: BTreeMap<Bytes, BTreeSet<u32>>,
    spans: IntervalTree,
}

impl Matcher {
    /// Lets `slot` watch `range`.
    pub(super) fn insert(&mut self, range: &KeyRange, slot: u32) {
        match range {
            KeyRange::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(slot);
            }
            KeyRange::Span(span) => self.spans.insert(span.clone(), slot),
        }
    }

    /// Ends the watch of `slot` on `range`.
    pub(super) fn remove(&mut self, range: &KeyRange, slot: u32) {
        match range {
            KeyRange::Key(key) => {
                if let Some(slots) = self.keys.get_mut(key) {
                    slots.remove(&slot);
                    if slots.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            KeyRange::Span(span) => self.spans.remove(span, slot),
        }
    }

    /// Calls `found` with every slot that watches `key`, each once.
    pub(super) fn stab(&self, key: &[u8], mut found: impl FnMut(u32)) {
        if let Some(slots) = self.keys.get(key) {
            slots.iter().copied().for_each(&mut found);
        }
        self.spans.stab(key, &mut found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_keys_and_by_spans_until_they_are_removed() {
        let mut matcher = Matcher::default();
        let ranges = [("a", ""), ("a", ""), ("a", "b"), ("b", "\0"), ("a", "\0")]
            .map(|(key, end)| KeyRange::new(key.into(), end.into()).unwrap());
        for (slot, range) in (0..).zip(&ranges) {
            matcher.insert(range, slot);
        }
        let watching = |matcher: &Matcher, key: &str| {
            let mut slots = Vec::new();
            matcher.stab(key.as_bytes(), |slot| slots.push(slot));
            slots.sort_unstable();
            slots
        };
        assert_eq!(watching(&matcher, "a"), [0, 1, 2, 4]);
        assert_eq!(watching(&matcher, "a1"), [2, 4]);
        assert_eq!(watching(&matcher, "b"), [3, 4]);
        assert!(watching(&matcher, "A").is_empty());
        matcher.remove(&ranges[0], 0);
        matcher.remove(&ranges[2], 2);
        assert_eq!(watching(&matcher, "a"), [1, 4]);
        for (slot, range) in (0..).zip(&ranges) {
            matcher.remove(range, slot);
        }
        assert!(watching(&matcher, "a").is_empty() && matcher.keys.is_empty());
    }
}
