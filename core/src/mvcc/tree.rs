//! A persistent ordered map: a B+tree of shared nodes that are copied only where a clone still holds them.
//!
//! Cloning is O(1) and the clone never changes. Each branch knows how many entries, and how many *live* ones, are below
//! each child, so ranks and counts cost a walk from the root. How keys lie in a node is a [`KeyArray`]'s business.

mod iter;
mod node;

#[cfg(test)]
mod check;

use std::mem;

pub(crate) use iter::Iter;

use super::keys::KeyArray;
use node::{Branch, Child, Leaf, Node};

/// What the tree counts besides its entries.
pub(crate) trait Live {
    /// Whether this value counts as live. It may only change through [`Tree::change`].
    fn is_live(&self) -> bool;
}

impl Live for () {
    fn is_live(&self) -> bool {
        false
    }
}

/// How much is below a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// All entries.
    pub(crate) entries: usize,
    /// The live ones among them.
    pub(crate) live: usize,
}

impl Size {
    fn of(value: &impl Live) -> Self {
        Self {
            entries: 1,
            live: usize::from(value.is_live()),
        }
    }

    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.live += other.live;
    }

    fn subtract(&mut self, other: Self) {
        self.entries -= other.entries;
        self.live -= other.live;
    }
}

/// The map from `A::Key` to `V`.
#[derive(Clone)]
pub(crate) struct Tree<A, V> {
    root: Option<Child<A, V>>,
}

impl<A, V> Default for Tree<A, V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<A: KeyArray, V: Clone + Live> Tree<A, V> {
    /// Changes the value of a key in one walk: `change` is given the value there is to change it in place, or `None` to
    /// return one that is inserted. The path to the key is copied even when nothing changes.
    pub(crate) fn change(&mut self, key: &A::Key, change: impl FnOnce(Option<&mut V>) -> Option<V>) {
        let Some(root) = &mut self.root else {
            self.root = change(None).map(|value| Child::leaf(Leaf::of(key, value)));
            return;
        };
        if let Some(right) = root.change(key, change, true).split {
            let mut branch = Branch {
                separators: A::default(),
                children: vec![root.clone()],
            };
            branch.insert_child(0, right);
            *root = Child::branch(branch);
        }
    }

    /// Changes the value of a key where there is one; the path to it is copied even when there is none.
    pub(crate) fn update<R>(&mut self, key: &A::Key, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let mut result = None;
        self.change(key, |present| {
            result = present.map(change);
            None
        });
        result
    }

    /// Sets a key's value and returns the one it had.
    pub(crate) fn insert(&mut self, key: &A::Key, value: V) -> Option<V> {
        let mut old = None;
        self.change(key, |present| match present {
            None => Some(value),
            Some(present) => {
                old = Some(mem::replace(present, value));
                None
            }
        });
        old
    }

    /// Takes a key out and returns its value. The path to the key is copied even when it is absent.
    pub(crate) fn remove(&mut self, key: &A::Key) -> Option<V> {
        let root = self.root.as_mut()?;
        let removed = root.remove(key);
        while let Node::Branch(Branch { children, .. }) = &*root.node
            && let [only] = &children[..]
        {
            *root = only.clone();
        }
        if root.size.entries == 0 {
            self.root = None;
        }
        removed
    }
}

impl<A: KeyArray, V: Live> Tree<A, V> {
    /// How much the tree holds.
    pub(crate) fn size(&self) -> Size {
        self.root.as_ref().map_or(Size::default(), |root| root.size)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &A::Key) -> Option<&V> {
        let mut node = &self.root.as_ref()?.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.keys.find(key).ok().map(|at| &leaf.values[at]),
                Node::Branch(branch) => node = &branch.children[branch.separators.count_up_to(key)].node,
            }
        }
    }

    /// The entry with the greatest key that is at most `key`.
    pub(crate) fn floor(&self, key: &A::Key) -> Option<(&A::Key, &V)> {
        let mut child = self.root.as_ref()?;
        let mut left_neighbour = None;
        loop {
            match &*child.node {
                Node::Leaf(leaf) => {
                    return match leaf.keys.count_up_to(key).checked_sub(1) {
                        Some(at) => Some((leaf.keys.get(at), &leaf.values[at])),
                        None => left_neighbour.and_then(Child::last),
                    };
                }
                Node::Branch(branch) => {
                    let at = branch.separators.count_up_to(key);
                    left_neighbour = at.checked_sub(1).map(|left| &branch.children[left]).or(left_neighbour);
                    child = &branch.children[at];
                }
            }
        }
    }

    /// The entry with the smallest key.
    pub(crate) fn first(&self) -> Option<(&A::Key, &V)> {
        self.iter().next()
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> Iter<'_, A, V> {
        Iter::new(self.root.as_ref(), self.size().entries, |_| 0, |_| 0)
    }

    /// Entries with `from <= key`, and `key < to` where there is a `to`, ascending.
    pub(crate) fn range(&self, from: &A::Key, to: Option<&A::Key>) -> Iter<'_, A, V> {
        let child_of = |branch: &Branch<A, V>| branch.separators.count_up_to(from);
        let entry_of = |leaf: &Leaf<A, V>| leaf.keys.find(from).unwrap_or_else(|at| at);
        Iter::new(self.root.as_ref(), self.entries_between(from, to), child_of, entry_of)
    }

    /// How much lies in `from <= key < to`.
    pub(crate) fn count(&self, from: &A::Key, to: Option<&A::Key>) -> Size {
        let below = self.below(from, true);
        let upto = to.map_or(self.size(), |to| self.below(to, true));
        Size {
            entries: upto.entries.saturating_sub(below.entries),
            live: upto.live.saturating_sub(below.live),
        }
    }

    /// How many entries lie in `from <= key < to`; cheaper than [`Self::count`], for it looks at no value.
    pub(crate) fn entries_between(&self, from: &A::Key, to: Option<&A::Key>) -> usize {
        let upto = to.map_or(self.size(), |to| self.below(to, false));
        upto.entries.saturating_sub(self.below(from, false).entries)
    }

    /// What lies below `key`, which is not counted itself.
    fn below(&self, key: &A::Key, with_live: bool) -> Size {
        let mut size = Size::default();
        let mut next = self.root.as_ref();
        while let Some(child) = next {
            match &*child.node {
                Node::Leaf(leaf) => {
                    let at = leaf.keys.find(key).unwrap_or_else(|at| at);
                    size.entries += at;
                    if with_live {
                        size.live += leaf.values[..at].iter().filter(|value| value.is_live()).count();
                    }
                    next = None;
                }
                Node::Branch(branch) => {
                    let at = branch.separators.count_up_to(key);
                    branch.children[..at].iter().for_each(|left| size.add(left.size));
                    next = Some(&branch.children[at]);
                }
            }
        }
        size
    }
}
