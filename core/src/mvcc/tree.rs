//! A persistent ordered map: a B+tree of shared nodes that are copied only where a clone still holds them.
//!
//! Cloning is O(1) and the clone never changes. Each branch knows how many entries, and how many *live* ones, are below
//! each child, so ranks and counts cost a walk from the root. How keys lie in a node is a [`KeyArray`]'s business.

use std::mem;
use std::sync::Arc;

use super::keys::{KEYS_MAX, KeyArray, insert_at};

/// Most entries of a leaf and most children of a branch.
///
/// Small enough that copying a path for one change stays cheap, large enough that a tree of a million is five deep.
const NODE_MAX: usize = 32;
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

struct Child<A, V> {
    node: Arc<Node<A, V>>,
    size: Size,
}

#[derive(Clone)]
enum Node<A, V> {
    Leaf(Leaf<A, V>),
    Branch(Branch<A, V>),
}

/// Never empty.
#[derive(Clone)]
struct Leaf<A, V> {
    keys: A,
    values: Vec<V>,
}

/// Separator `i` is at most every key below child `i + 1` and greater than every key below child `i`.
#[derive(Clone)]
struct Branch<A, V> {
    separators: A,
    children: Vec<Child<A, V>>,
}

/// What a change of one entry did to a node.
struct Changed<A, V> {
    /// Size of the entry before.
    before: Size,
    /// Size of the entry after.
    after: Size,
    /// A new right neighbour, if the node was full.
    split: Option<Child<A, V>>,
}

impl<A, V> Clone for Child<A, V> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            size: self.size,
        }
    }
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

impl<A: KeyArray, V: Live> Child<A, V> {
    fn leaf(leaf: Leaf<A, V>) -> Self {
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

    fn branch(branch: Branch<A, V>) -> Self {
        let mut size = Size::default();
        branch.children.iter().for_each(|child| size.add(child.size));
        Self {
            node: Arc::new(Node::Branch(branch)),
            size,
        }
    }

    fn first_key(&self) -> &A::Key {
        let mut node = &self.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.keys.get(0),
                Node::Branch(branch) => node = &branch.children[0].node,
            }
        }
    }

    fn last(&self) -> Option<(&A::Key, &V)> {
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
    fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
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

    fn remove(&mut self, key: &A::Key) -> Option<V> {
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
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.values.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    fn key_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.key_bytes(),
            Self::Branch(branch) => branch.separators.key_bytes(),
        }
    }

    fn is_too_long(&self) -> bool {
        is_too_long(self.len(), self.key_bytes())
    }

    fn is_too_short(&self) -> bool {
        self.len() < NODE_MIN && self.key_bytes() < NODE_KEY_BYTES / 2
    }
}

fn is_too_long(len: usize, key_bytes: usize) -> bool {
    len > NODE_MAX || (len > LONG_KEYS_MAX && key_bytes > NODE_KEY_BYTES)
}

impl<A: KeyArray, V: Clone + Live> Leaf<A, V> {
    fn of(key: &A::Key, value: V) -> Self {
        let mut keys = A::default();
        keys.insert(0, key);
        Self {
            keys,
            values: vec![value],
        }
    }

    fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
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
    fn change<F>(&mut self, key: &A::Key, change: F, rightmost: bool) -> Changed<A, V>
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
    fn insert_child(&mut self, left: usize, right: Child<A, V>) {
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
    fn new(
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

#[cfg(test)]
impl<A: KeyArray, V: Live> Tree<A, V> {
    /// Asserts the shape: sorted, balanced, sized as the branches say, dense apart from the right edge.
    pub(crate) fn check(&self) {
        if let Some(root) = &self.root {
            assert!(root.size.entries > 0, "an empty tree has no root");
            root.check(None, None, true, true);
        }
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        fn below<A, V>(child: &Child<A, V>) -> usize {
            match &*child.node {
                Node::Leaf(_) => 1,
                Node::Branch(branch) => 1 + branch.children.iter().map(below).sum::<usize>(),
            }
        }
        self.root.as_ref().map_or(0, below)
    }
}

#[cfg(test)]
impl<A: KeyArray, V: Live> Child<A, V> {
    /// Returns the depth below; every key is at least `from` and less than `to`.
    fn check(&self, from: Option<&A::Key>, to: Option<&A::Key>, root: bool, right_edge: bool) -> usize {
        assert!(self.node.len() <= NODE_MAX, "no node is too long");
        // A split among keys of very different lengths may leave a short node.
        let even_keys = self.node.key_bytes() == 0;
        assert!(
            root || right_edge || !even_keys || !self.node.is_too_short(),
            "no inner node is too short"
        );
        match &*self.node {
            Node::Leaf(leaf) => {
                let keys: Vec<_> = (0..leaf.keys.len()).map(|at| leaf.keys.get(at)).collect();
                assert!(keys.is_sorted_by(|a, b| a < b), "a leaf is sorted");
                assert_eq!(keys.len(), leaf.values.len(), "every key has a value");
                assert!(
                    from.is_none_or(|from| keys.iter().all(|key| from <= *key)),
                    "no key is too small"
                );
                assert!(
                    to.is_none_or(|to| keys.iter().all(|key| *key < to)),
                    "no key is too great"
                );
                let live = leaf.values.iter().filter(|value| value.is_live()).count();
                assert_eq!(
                    self.size,
                    Size {
                        entries: keys.len(),
                        live
                    },
                    "a leaf's size is known"
                );
                0
            }
            Node::Branch(branch) => {
                assert_eq!(
                    branch.separators.len() + 1,
                    branch.children.len(),
                    "separators stand between children"
                );
                let mut size = Size::default();
                let last = branch.children.len() - 1;
                let mut depths = branch.children.iter().enumerate().map(|(at, child)| {
                    size.add(child.size);
                    let from = if at == 0 {
                        from
                    } else {
                        Some(branch.separators.get(at - 1))
                    };
                    let to = if at == last {
                        to
                    } else {
                        Some(branch.separators.get(at))
                    };
                    child.check(from, to, false, right_edge && at == last)
                });
                let depth = depths.next().expect("a branch has children");
                assert!(depths.all(|other| other == depth), "all leaves are equally deep");
                assert_eq!(self.size, size, "a branch's size is that of its children");
                depth + 1
            }
        }
    }
}
