//! Walking a tree in order.

use super::Live;
use super::node::{Branch, Child, Leaf, Node};
use crate::mvcc::keys::KeyArray;

/// Entries in ascending order; a step costs no search.
pub(crate) struct Iter<'a, A, V> {
    /// For each branch on the way down, its children that are still to come.
    above: Vec<&'a [Child<A, V>]>,
    /// The leaf reached, and how many of its entries are behind.
    leaf: Option<(&'a Leaf<A, V>, usize)>,
    /// Entries until the end of the range, skipped ones included.
    remaining: usize,
}

impl<'a, A: KeyArray, V: Live> Iter<'a, A, V> {
    /// Goes down to a leaf: what is left of the way never comes, what is right of it comes later.
    pub(super) fn new(
        root: Option<&'a Child<A, V>>,
        remaining: usize,
        child_of: impl Fn(&Branch<A, V>) -> usize,
        entry_of: impl Fn(&Leaf<A, V>) -> usize,
    ) -> Self {
        let mut iter = Self {
            above: Vec::new(),
            leaf: None,
            remaining,
        };
        let mut next = root.filter(|_| remaining > 0);
        while let Some(child) = next {
            next = match &*child.node {
                Node::Leaf(leaf) => {
                    iter.leaf = Some((leaf, entry_of(leaf)));
                    None
                }
                Node::Branch(branch) => {
                    let at = child_of(branch);
                    iter.above.push(&branch.children[at + 1..]);
                    Some(&branch.children[at])
                }
            };
        }
        iter
    }

    /// The next live entry; whole subtrees without one are passed over.
    pub(crate) fn next_live(&mut self) -> Option<(&'a A::Key, &'a V)> {
        loop {
            let (key, value) = self.advance(true)?;
            if value.is_live() {
                return Some((key, value));
            }
        }
    }

    fn advance(&mut self, live_only: bool) -> Option<(&'a A::Key, &'a V)> {
        while self.remaining > 0 {
            if let Some((leaf, behind)) = &mut self.leaf
                && let Some(value) = leaf.values.get(*behind)
            {
                let key = leaf.keys.get(*behind);
                *behind += 1;
                self.remaining -= 1;
                return Some((key, value));
            }
            self.next_leaf(live_only)?;
        }
        None
    }

    /// Goes to the next leaf, past children without live entries when only those are asked for.
    fn next_leaf(&mut self, live_only: bool) -> Option<()> {
        loop {
            let rest = self.above.last_mut()?;
            let Some((child, rest_of_rest)) = rest.split_first() else {
                self.above.pop();
                continue;
            };
            *rest = rest_of_rest;
            if live_only && child.size.live == 0 {
                self.remaining = self.remaining.saturating_sub(child.size.entries);
                continue;
            }
            match &*child.node {
                Node::Leaf(leaf) => {
                    self.leaf = Some((leaf, 0));
                    return Some(());
                }
                Node::Branch(branch) => self.above.push(&branch.children),
            }
        }
    }
}

impl<'a, A: KeyArray, V: Live> Iterator for Iter<'a, A, V> {
    type Item = (&'a A::Key, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(false)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining))
    }
}
