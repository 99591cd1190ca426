//! The nodes of a tree, and how one change of one entry goes through them.

use std::sync::Arc;

use super::{Live, Size};
use crate::mvcc::keys::{KEYS_MAX, KeyArray, insert_at};

/// Most entries of a leaf and most children of a branch.
///
/// Small enough that copying a path for one change stays cheap, large enough that a tree of a million is five deep.
pub(super) const NODE_MAX: usize = 32;
/// Fewer than this and a node joins its neighbour.
const NODE_MIN: usize = NODE_MAX / 3;
/// A node with this many bytes of keys is full with only [`LONG_KEYS_MAX`], for long keys make it dear to copy.
const NODE_KEY_BYTES: usize = 8 * 1024;
/// Most entries of a node of long keys.
const LONG_KEYS_MAX: usize = 4;

const _: () = assert!(
    NODE_MAX + NODE_MIN <= KEYS_MAX,
    "a short node and a full one can be joined, then split"
);

pub(super) struct Child<A, V> {
    pub(super) node: Arc<Node<A, V>>,
    pub(super) size: Size,
}

#[derive(Clone)]
pub(super) enum Node<A, V> {
    Leaf(Leaf<A, V>),
    Branch(Branch<A, V>),
}

/// Never empty.
#[derive(Clone)]
pub(super) struct Leaf<A, V> {
    pub(super) keys: A,
    pub(super) values: Vec<V>,
}

/// Separator `i` is at most every key below child `i + 1` and greater than every key below child `i`.
#[derive(Clone)]
pub(super) struct Branch<A, V> {
    pub(super) separators: A,
    pub(super) children: Vec<Child<A, V>>,
}

/// What a change of one entry did to a node.
pub(super) struct Changed<A, V> {
    /// Size of the entry before.
    before: Size,
    /// Size of the entry after.
    after: Size,
    /// A new right neighbour, if the node was full.
    pub(super) split: Option<Child<A, V>>,
}

impl<A, V> Clone for Child<A, V> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            size: self.size,
        }
    }
}

impl<A: KeyArray, V: Live> Child<A, V> {
    pub(super) fn leaf(leaf: Leaf<A, V>) -> Self {
        let live = leaf.values.iter().filter(|value| value.is_live()).count();
        let size = Size {
            entries: leaf.values.len(),
            live,
        };
        Self {
            node: Arc::new(Node::Leaf(leaf)),
            size,
        }
    }

    pub(super) fn branch(branch: Branch<A, V>) -> Self {
        let mut size = Size::default();
        branch.children.iter().for_each(|child| size.add(child.size));
        Self {
            node: Arc::new(Node::Branch(branch)),
            size,
        }
    }

    pub(super) fn first_key(&self) -> &A::Key {
        let mut node = &self.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.keys.get(0),
                Node::Branch(branch) => node = &branch.children[0].node,
            }
        }
    }

    pub(super) fn last(&self) -> Option<(&A::Key, &V)> {
        let mut node = &self.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => {
                    return leaf
                        .values
                        .last()
                        .map(|value| (leaf.keys.get(leaf.keys.len() - 1), value));
                }
                Node::Branch(branch) => node = &branch.children.last()?.node,
            }
        }
    }
}

impl<A: KeyArray, V: Clone + Live> Child<A, V> {
    /// `rightmost`: nothing in the whole tree is to the right of this node.
    pub(super) fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
    where
        F: FnOnce(Option<&mut V>) -> Option<V>,
    {
        let changed = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => leaf.change(key, change, rightmost),
            Node::Branch(branch) => branch.change(key, change, rightmost),
        };
        self.size.add(changed.after);
        self.size.subtract(changed.before);
        if let Some(right) = &changed.split {
            self.size.subtract(right.size);
        }
        changed
    }

    pub(super) fn remove(&mut self, key: &A::Key) -> Option<V> {
        let removed = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => {
                let at = leaf.keys.find(key).ok()?;
                leaf.keys.remove(at);
                leaf.values.remove(at)
            }
            Node::Branch(branch) => {
                let at = branch.separators.count_up_to(key);
                let removed = branch.children[at].remove(key)?;
                branch.rebalance(at);
                removed
            }
        };
        self.size.subtract(Size {
            entries: 1,
            live: usize::from(removed.is_live()),
        });
        Some(removed)
    }

    /// Appends the node to the right.
    fn join(&mut self, right: &Self) {
        self.size.add(right.size);
        match (Arc::make_mut(&mut self.node), &*right.node) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.values.extend_from_slice(&right.values);
            }
            (Node::Branch(left), Node::Branch(right_branch)) => {
                left.separators.insert(left.separators.len(), right.first_key());
                left.separators.append(&right_branch.separators);
                left.children.extend_from_slice(&right_branch.children);
            }
            (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
                unreachable!("neighbours are at the same depth")
            }
        }
    }

    /// Cuts off the right half.
    fn split(&mut self) -> Self {
        let right = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => leaf.split(),
            Node::Branch(branch) => branch.split(branch.children.len() / 2),
        };
        self.size.subtract(right.size);
        right
    }
}

impl<A: KeyArray, V> Node<A, V> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.values.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    pub(super) fn key_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.key_bytes(),
            Self::Branch(branch) => branch.separators.key_bytes(),
        }
    }

    fn is_too_long(&self) -> bool {
        is_too_long(self.len(), self.key_bytes())
    }

    pub(super) fn is_too_short(&self) -> bool {
        self.len() < NODE_MIN && self.key_bytes() < NODE_KEY_BYTES / 2
    }
}

fn is_too_long(len: usize, key_bytes: usize) -> bool {
    len > NODE_MAX || (len > LONG_KEYS_MAX && key_bytes > NODE_KEY_BYTES)
}

impl<A: KeyArray, V: Clone + Live> Leaf<A, V> {
    pub(super) fn of(key: &A::Key, value: V) -> Self {
        let mut keys = A::default();
        keys.insert(0, key);
        Self {
            keys,
            values: vec![value],
        }
    }

    pub(super) fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
    where
        F: FnOnce(Option<&mut V>) -> Option<V>,
    {
        let nothing = Size::default();
        match self.keys.find(key) {
            Ok(at) => {
                let value = &mut self.values[at];
                let before = Size::of(value);
                change(Some(value));
                Changed {
                    before,
                    after: Size::of(value),
                    split: None,
                }
            }
            Err(at) => match change(None) {
                None => Changed {
                    before: nothing,
                    after: nothing,
                    split: None,
                },
                Some(value) => {
                    let after = Size::of(&value);
                    Changed {
                        before: nothing,
                        after,
                        split: self.insert(at, key, value, rightmost),
                    }
                }
            },
        }
    }

    fn insert(&mut self, at: usize, key: &A::Key, value: V, rightmost: bool) -> Option<Child<A, V>> {
        if rightmost && at == self.keys.len() && is_too_long(at + 1, self.keys.key_bytes()) {
            // Ascending keys, as in a log, leave full leaves behind.
            return Some(Child::leaf(Self::of(key, value)));
        }
        self.keys.insert(at, key);
        insert_at(&mut self.values, at, value);
        is_too_long(self.keys.len(), self.keys.key_bytes()).then(|| self.split())
    }

    fn split(&mut self) -> Child<A, V> {
        let at = self.values.len() / 2;
        Child::leaf(Self {
            keys: self.keys.split_off(at),
            values: self.values.split_off(at),
        })
    }
}

impl<A: KeyArray, V: Clone + Live> Branch<A, V> {
    pub(super) fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
    where
        F: FnOnce(Option<&mut V>) -> Option<V>,
    {
        let at = self.separators.count_up_to(key);
        let rightmost = rightmost && at + 1 == self.children.len();
        let mut changed = self.children[at].change(key, change, rightmost);
        if let Some(right) = changed.split.take() {
            self.insert_child(at, right);
            let len = self.children.len();
            let keep = if rightmost { len - 1 } else { len / 2 };
            changed.split = is_too_long(len, self.separators.key_bytes()).then(|| self.split(keep));
        }
        changed
    }

    /// Inserts a child to the right of the one at `left`.
    pub(super) fn insert_child(&mut self, left: usize, right: Child<A, V>) {
        self.separators.insert(left, right.first_key());
        insert_at(&mut self.children, left + 1, right);
    }

    fn split(&mut self, at: usize) -> Child<A, V> {
        let separators = self.separators.split_off(at);
        self.separators.remove(at - 1);
        Child::branch(Self {
            separators,
            children: self.children.split_off(at),
        })
    }

    /// Restores the density around a child that lost an entry.
    fn rebalance(&mut self, at: usize) {
        if self.children[at].size.entries == 0 {
            self.children.remove(at);
            if self.separators.len() > 0 {
                self.separators.remove(at.saturating_sub(1));
            }
            return;
        }
        if self.children.len() == 1 || !self.children[at].node.is_too_short() {
            return;
        }
        let left = if at + 1 < self.children.len() { at } else { at - 1 };
        let right = self.children.remove(left + 1);
        self.separators.remove(left);
        let joined = &mut self.children[left];
        joined.join(&right);
        if joined.node.is_too_long() {
            let right = joined.split();
            self.insert_child(left, right);
        }
    }
}
