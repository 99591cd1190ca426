//! Spans of keys, and which of them contain a key: a balanced (AVL) tree in which every node has the farthest end of
//! its subtree. Watchers appear only as slots.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::range::{End, Span};
use super::slab::Slab;

/// The link to a node that does not exist.
const NONE: u32 = u32::MAX;

/// Spans with their slots. A change costs O(log n), a search O(log n) for each span found.
#[derive(Debug)]
pub(super) struct IntervalTree {
    nodes: Slab<Node>,
    root: u32,
}

/// One span, of at least one slot.
#[derive(Debug)]
struct Node {
    span: Span,
    slots: BTreeSet<u32>,
    left: u32,
    right: u32,
    height: u32,
    /// The node of this subtree whose span ends last.
    farthest: u32,
}

impl Default for IntervalTree {
    fn default() -> Self {
        Self {
            nodes: Slab::default(),
            root: NONE,
        }
    }
}

impl IntervalTree {
    /// Adds `span` for `slot`.
    pub(super) fn insert(&mut self, span: Span, slot: u32) {
        self.root = self.insert_below(self.root, span, slot);
    }

    /// Removes `span` of `slot`.
    pub(super) fn remove(&mut self, span: &Span, slot: u32) {
        self.root = self.remove_below(self.root, span, slot);
    }

    /// Calls `found` with every slot whose spans contain `key`, once for each such span.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE || !self.farthest_end(at).is_after(key) {
            return;
        }
        let node = &self.nodes[at];
        self.stab_below(node.left, key, found);
        // Every span to the right starts no earlier than this node's.
        if node.span.start <= key {
            if node.span.end.is_after(key) {
                node.slots.iter().copied().for_each(&mut *found);
            }
            self.stab_below(node.right, key, found);
        }
    }

    fn insert_below(&mut self, at: u32, span: Span, slot: u32) -> u32 {
        if at == NONE {
            return self.leaf(span, slot);
        }
        match span.cmp(&self.nodes[at].span) {
            Ordering::Equal => {
                self.nodes[at].slots.insert(slot);
                return at;
            }
            Ordering::Less => {
                let left = self.insert_below(self.nodes[at].left, span, slot);
                self.nodes[at].left = left;
            }
            Ordering::Greater => {
                let right = self.insert_below(self.nodes[at].right, span, slot);
                self.nodes[at].right = right;
            }
        }
        self.balance(at)
    }

    fn leaf(&mut self, span: Span, slot: u32) -> u32 {
        let at = self.nodes.insert(Node {
            span,
            slots: BTreeSet::from([slot]),
            left: NONE,
            right: NONE,
            height: 1,
            farthest: NONE,
        });
        self.nodes[at].farthest = at;
        at
    }

    fn remove_below(&mut self, at: u32, span: &Span, slot: u32) -> u32 {
        if at == NONE {
            return NONE;
        }
        match span.cmp(&self.nodes[at].span) {
            Ordering::Equal => {
                self.nodes[at].slots.remove(&slot);
                if !self.nodes[at].slots.is_empty() {
                    return at;
                }
                return self.unlink(at);
            }
            Ordering::Less => {
                let left = self.remove_below(self.nodes[at].left, span, slot);
                self.nodes[at].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(self.nodes[at].right, span, slot);
                self.nodes[at].right = right;
            }
        }
        self.balance(at)
    }

    /// Removes the node `at`; returns the rest of its subtree.
    fn unlink(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = self.nodes.remove(at);
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        let (first, rest) = self.take_first(right);
        self.nodes[first].left = left;
        self.nodes[first].right = rest;
        self.balance(first)
    }

    /// The first node of the subtree `at`, and the subtree without it.
    fn take_first(&mut self, at: u32) -> (u32, u32) {
        let Node { left, right, .. } = self.nodes[at];
        if left == NONE {
            return (at, right);
        }
        let (first, rest) = self.take_first(left);
        self.nodes[at].left = rest;
        (first, self.balance(at))
    }

    /// Rotates until the heights of both sides of `at` differ by at most one; returns the new root.
    fn balance(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = self.nodes[at];
        if self.height(left) > self.height(right) + 1 {
            if self.height(self.nodes[left].left) < self.height(self.nodes[left].right) {
                self.nodes[at].left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if self.height(right) > self.height(left) + 1 {
            if self.height(self.nodes[right].right) < self.height(self.nodes[right].left) {
                self.nodes[at].right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.measure(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let top = self.nodes[at].right;
        self.nodes[at].right = self.nodes[top].left;
        self.nodes[top].left = at;
        self.measure(at);
        self.measure(top);
        top
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let top = self.nodes[at].left;
        self.nodes[at].left = self.nodes[top].right;
        self.nodes[top].right = at;
        self.measure(at);
        self.measure(top);
        top
    }

    /// Computes the height of `at` and the farthest end below it, from its children.
    fn measure(&mut self, at: u32) {
        let Node { left, right, .. } = self.nodes[at];
        let mut farthest = at;
        for child in [left, right] {
            if child != NONE && *self.farthest_end(child) > self.nodes[farthest].span.end {
                farthest = self.nodes[child].farthest;
            }
        }
        self.nodes[at].farthest = farthest;
        self.nodes[at].height = 1 + self.height(left).max(self.height(right));
    }

    fn height(&self, at: u32) -> u32 {
        if at == NONE { 0 } else { self.nodes[at].height }
    }

    fn farthest_end(&self, at: u32) -> &End {
        &self.nodes[self.nodes[at].farthest].span.end
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::random::Prng;

    impl IntervalTree {
        /// Checks order, balance and farthest ends in the subtree `at`; returns its height and its spans in order.
        fn check_below(&self, at: u32, spans: &mut Vec<Span>) -> u32 {
            if at == NONE {
                return 0;
            }
            let node = &self.nodes[at];
            let from = spans.len();
            let left = self.check_below(node.left, spans);
            spans.push(node.span.clone());
            let right = self.check_below(node.right, spans);
            assert!(left.abs_diff(right) <= 1, "balanced");
            assert_eq!(node.height, 1 + left.max(right));
            let reach = spans[from..].iter().map(|span| &span.end).max();
            assert_eq!(Some(self.farthest_end(at)), reach, "its reach is right");
            assert!(!node.slots.is_empty());
            node.height
        }
    }

    fn random_span(prng: &mut Prng) -> Span {
        let start = Bytes::from(vec![prng.below(40) as u8 + 1]);
        let end = match prng.below(8) {
            0 => End::Open,
            _ => End::Before(vec![start[0] + 1 + prng.below(12) as u8].into()),
        };
        Span { start, end }
    }

    #[test]
    fn a_tree_finds_what_a_list_finds() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let mut tree = IntervalTree::default();
            let mut list: Vec<(Span, u32)> = Vec::new();
            for slot in 0..400 {
                if prng.below(5) < 2 && !list.is_empty() {
                    let (span, slot) = list.swap_remove(prng.below(list.len() as u64) as usize);
                    tree.remove(&span, slot);
                } else {
                    let span = random_span(&mut prng);
                    tree.insert(span.clone(), slot);
                    list.push((span, slot));
                }
                let mut spans = Vec::new();
                tree.check_below(tree.root, &mut spans);
                assert!(spans.is_sorted_by(|a, b| a < b), "ordered, seed {seed}");

                let key = [prng.below(60) as u8];
                let mut found = Vec::new();
                tree.stab(&key, &mut |slot| found.push(slot));
                found.sort_unstable();
                let mut expected: Vec<u32> = list
                    .iter()
                    .filter(|(span, _)| span.start[..] <= key[..] && span.end.is_after(&key))
                    .map(|(_, slot)| *slot)
                    .collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "seed {seed} key {key:?}");
            }
        }
    }

    #[test]
    fn a_hundred_thousand_spans_in_order_stay_shallow() {
        let mut tree = IntervalTree::default();
        for slot in 0..100_000_u32 {
            let start = Bytes::copy_from_slice(&slot.to_be_bytes());
            let end = End::Before(Bytes::copy_from_slice(&(slot + 3).to_be_bytes()));
            tree.insert(Span { start, end }, slot);
        }
        assert!(tree.height(tree.root) <= 24);
        let mut found = Vec::new();
        tree.stab(&50_000_u32.to_be_bytes(), &mut |slot| found.push(slot));
        assert_eq!(found, [49_998, 49_999, 50_000]);
    }
}
