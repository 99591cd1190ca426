//! A persistent ordered map: a B+tree of shared nodes; a node is copied on a change only while a clone holds it.
//!
//! Cloning is O(1), and a change to the original never changes the clone. Each branch has the number of entries, and of
//! *live* ones, in each child, so ranks and counts cost a walk from the root. A node's keys are shared separately from
//! its values and children: replacing a value, the commonest change, copies no keys.

use std::borrow::Borrow as _;
use std::mem;
use std::sync::Arc;

use super::keys::{KeyList, Owned};

/// The largest number of entries of a leaf, and of children of a branch.
///
/// Small enough that copying a path for one change is cheap, large enough that a tree of a million keys is five deep.
const NODE_MAX: usize = 32;
/// A node with fewer joins its neighbour.
const NODE_MIN: usize = NODE_MAX / 3;
/// A full vector grows by this much instead of doubling, to save memory: nodes filled in random order are two thirds
/// full on average, and a tree has many nodes.
pub(super) const GROWTH: usize = 8;

/// A value that may be live. The tree counts its live entries separately from all entries.
pub(crate) trait Live {
    /// Whether this value counts as live. The result for a stored value may change only through [`Tree::insert_or`],
    /// [`Tree::update`] and [`Tree::remove`], because branches hold the counts.
    fn is_live(&self) -> bool;
}

impl Live for () {
    fn is_live(&self) -> bool {
        false
    }
}

/// The counts of a child's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// All entries.
    pub(crate) entries: usize,
    /// The live ones among them.
    pub(crate) live: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.live += other.live;
    }

    fn subtract(&mut self, other: Self) {
        self.entries -= other.entries;
        self.live -= other.live;
    }
}

/// The map. `L` is the kind of its keys.
#[derive(Clone)]
pub(crate) struct Tree<L, V> {
    root: Option<Child<L, V>>,
}

struct Child<L, V> {
    node: Arc<Node<L, V>>,
    size: Size,
}

#[derive(Clone)]
enum Node<L, V> {
    Leaf(Leaf<L, V>),
    Branch(Branch<L, V>),
}

#[derive(Clone)]
struct Leaf<L, V> {
    keys: Arc<L>,
    values: Vec<V>,
}

/// Every key in `children[i]` < `separators[i]` <= every key in `children[i + 1]`.
#[derive(Clone)]
struct Branch<L, V> {
    separators: Arc<L>,
    children: Vec<Child<L, V>>,
}

/// A new right neighbour of a node that was full, and the key that separates the two.
type Split<L, V> = Option<(Owned<L>, Child<L, V>)>;

impl<L, V> Clone for Child<L, V> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            size: self.size,
        }
    }
}

impl<L, V> Default for Tree<L, V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<L: KeyList, V: Clone + Live> Tree<L, V> {
    /// Sets a key's value and returns the old one.
    pub(crate) fn insert(&mut self, key: &L::Key, value: V) -> Option<V> {
        self.insert_or(key, value, mem::replace)
    }

    /// Sets a key's value if it has none; otherwise calls `change` with the old value and the new one, and returns its
    /// result.
    pub(crate) fn insert_or<R>(&mut self, key: &L::Key, value: V, change: impl FnOnce(&mut V, V) -> R) -> Option<R> {
        let Some(root) = &mut self.root else {
            self.root = Some(Child::leaf(L::one(key), vec![value]));
            return None;
        };
        let (changed, split) = root.insert_or(key, value, true, change);
        if let Some((separator, right)) = split {
            let left = root.clone();
            *root = Child::branch(L::one(separator.borrow()), vec![left, right]);
        }
        changed
    }

    /// Changes the value of a key in place. Shared nodes on the path are copied even if the key is absent. So call this
    /// only for a key that is there.
    pub(crate) fn update<R>(&mut self, key: &L::Key, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.root.as_mut()?.update(key, change)
    }

    /// Removes a key and returns its value.
    pub(crate) fn remove(&mut self, key: &L::Key) -> Option<V> {
        self.get(key)?;
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

impl<L: KeyList, V> Tree<L, V> {
    /// The counts of the whole tree.
    pub(crate) fn size(&self) -> Size {
        self.root.as_ref().map_or(Size::default(), |root| root.size)
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> Iter<'_, L, V> {
        let mut iter = Iter {
            above: Vec::new(),
            leaf: None,
            at: 0,
            remaining: self.size().entries,
        };
        if let Some(root) = &self.root {
            iter.descend(root, |_| 0, |_| 0);
        }
        iter
    }
}

impl<L: KeyList, V: Live> Tree<L, V> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &L::Key) -> Option<&V> {
        let mut node = &self.root.as_ref()?.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.values[at]),
                Node::Branch(branch) => node = &branch.children[branch.child_for(key)].node,
            }
        }
    }

    /// The entry with the greatest key that is at most `key`.
    pub(crate) fn floor(&self, key: &L::Key) -> Option<(&L::Key, &V)> {
        let mut child = self.root.as_ref()?;
        let mut left_neighbour = None;
        loop {
            match &*child.node {
                Node::Leaf(leaf) => {
                    let after = leaf.keys.count_to(key);
                    return match after.checked_sub(1) {
                        Some(at) => Some(leaf.entry(at)),
                        None => left_neighbour.and_then(Self::last_below),
                    };
                }
                Node::Branch(branch) => {
                    let at = branch.child_for(key);
                    left_neighbour = at.checked_sub(1).map(|left| &branch.children[left]).or(left_neighbour);
                    child = &branch.children[at];
                }
            }
        }
    }

    /// The entry with the smallest key.
    pub(crate) fn first(&self) -> Option<(&L::Key, &V)> {
        self.iter().next()
    }

    /// Entries with `from <= key`, and `key < to` if there is a `to`, ascending.
    pub(crate) fn range(&self, from: &L::Key, to: Option<&L::Key>) -> Iter<'_, L, V> {
        let remaining = self.entries_between(from, to);
        let mut iter = Iter {
            above: Vec::new(),
            leaf: None,
            at: 0,
            remaining,
        };
        if remaining > 0
            && let Some(root) = &self.root
        {
            iter.descend(
                root,
                |branch| branch.child_for(from),
                |leaf| leaf.find(from).unwrap_or_else(|at| at),
            );
        }
        iter
    }

    /// The counts of entries with `from <= key < to`.
    pub(crate) fn count(&self, from: &L::Key, to: Option<&L::Key>) -> Size {
        let below = self.below(from, true);
        let upto = to.map_or(self.size(), |to| self.below(to, true));
        Size {
            entries: upto.entries.saturating_sub(below.entries),
            live: upto.live.saturating_sub(below.live),
        }
    }

    /// The number of entries with `from <= key < to`; cheaper than [`Self::count`], because it reads no value.
    pub(crate) fn entries_between(&self, from: &L::Key, to: Option<&L::Key>) -> usize {
        let upto = to.map_or(self.size(), |to| self.below(to, false));
        upto.entries.saturating_sub(self.below(from, false).entries)
    }

    /// The counts of all entries with a key less than `key`; `live` is correct only if `with_live` is true.
    fn below(&self, key: &L::Key, with_live: bool) -> Size {
        let mut size = Size::default();
        let mut next = self.root.as_ref();
        while let Some(child) = next {
            match &*child.node {
                Node::Leaf(leaf) => {
                    let at = leaf.find(key).unwrap_or_else(|at| at);
                    size.entries += at;
                    if with_live {
                        size.live += leaf.values[..at].iter().filter(|value| value.is_live()).count();
                    }
                    next = None;
                }
                Node::Branch(branch) => {
                    let at = branch.child_for(key);
                    branch.children[..at].iter().for_each(|left| size.add(left.size));
                    next = Some(&branch.children[at]);
                }
            }
        }
        size
    }

    fn last_below(child: &Child<L, V>) -> Option<(&L::Key, &V)> {
        let mut node = &child.node;
        loop {
            match &**node {
                Node::Leaf(leaf) => return leaf.values.len().checked_sub(1).map(|last| leaf.entry(last)),
                Node::Branch(branch) => node = &branch.children.last()?.node,
            }
        }
    }
}

impl<L: KeyList, V: Live> Child<L, V> {
    fn leaf(keys: L, values: Vec<V>) -> Self {
        let live = values.iter().filter(|value| value.is_live()).count();
        let size = Size {
            entries: values.len(),
            live,
        };
        Self {
            node: Arc::new(Node::Leaf(Leaf {
                keys: Arc::new(keys),
                values,
            })),
            size,
        }
    }

    fn branch(separators: L, children: Vec<Self>) -> Self {
        let mut size = Size::default();
        children.iter().for_each(|child| size.add(child.size));
        Self {
            node: Arc::new(Node::Branch(Branch {
                separators: Arc::new(separators),
                children,
            })),
            size,
        }
    }
}

impl<L: KeyList, V: Clone + Live> Child<L, V> {
    /// `rightmost`: the tree has no node of this depth to the right of this one.
    fn insert_or<R>(
        &mut self,
        key: &L::Key,
        value: V,
        rightmost: bool,
        change: impl FnOnce(&mut V, V) -> R,
    ) -> (Option<R>, Split<L, V>) {
        let (changed, split) = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => match leaf.find(key) {
                Ok(at) => {
                    let old = &mut leaf.values[at];
                    self.size.live -= usize::from(old.is_live());
                    let changed = change(old, value);
                    self.size.live += usize::from(old.is_live());
                    return (Some(changed), None);
                }
                Err(at) => {
                    self.size.entries += 1;
                    self.size.live += usize::from(value.is_live());
                    (None, leaf.insert(at, key, value, rightmost))
                }
            },
            Node::Branch(branch) => {
                let at = branch.child_for(key);
                let rightmost = rightmost && at + 1 == branch.children.len();
                let child = &mut branch.children[at];
                self.size.subtract(child.size);
                let (changed, split) = child.insert_or(key, value, rightmost, change);
                self.size.add(child.size);
                let split = split.and_then(|(separator, right)| {
                    self.size.add(right.size);
                    branch.insert_child(at, separator, right);
                    branch.split_if_too_long(rightmost)
                });
                (changed, split)
            }
        };
        if let Some((_, right)) = &split {
            self.size.subtract(right.size);
        }
        (changed, split)
    }

    fn update<R>(&mut self, key: &L::Key, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => {
                let at = leaf.find(key).ok()?;
                let value = &mut leaf.values[at];
                let was_live = value.is_live();
                let result = change(value);
                self.size.live -= usize::from(was_live);
                self.size.live += usize::from(value.is_live());
                Some(result)
            }
            Node::Branch(branch) => {
                let at = branch.child_for(key);
                let child = &mut branch.children[at];
                let live_before = child.size.live;
                let result = child.update(key, change)?;
                self.size.live -= live_before;
                self.size.live += child.size.live;
                Some(result)
            }
        }
    }

    fn remove(&mut self, key: &L::Key) -> Option<V> {
        let removed = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => {
                let at = leaf.find(key).ok()?;
                Arc::make_mut(&mut leaf.keys).remove(at);
                leaf.values.remove(at)
            }
            Node::Branch(branch) => {
                let at = branch.child_for(key);
                let removed = branch.children[at].remove(key)?;
                branch.rebalance(at);
                removed
            }
        };
        self.size.entries -= 1;
        self.size.live -= usize::from(removed.is_live());
        Some(removed)
    }

    /// Appends the entries or children of `right`, the next node, whose smallest key is at least `separator`.
    fn join(&mut self, separator: Owned<L>, right: Self) {
        self.size.add(right.size);
        match (Arc::make_mut(&mut self.node), Arc::unwrap_or_clone(right.node)) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                Arc::make_mut(&mut left.keys).append(Arc::unwrap_or_clone(right.keys));
                left.values.extend(right.values);
            }
            (Node::Branch(left), Node::Branch(right)) => {
                let separators = Arc::make_mut(&mut left.separators);
                separators.insert(separators.len(), separator.borrow());
                separators.append(Arc::unwrap_or_clone(right.separators));
                left.children.extend(right.children);
            }
            (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
                unreachable!("neighbours are at the same depth")
            }
        }
    }

    /// Cuts off everything at and after position `at`.
    fn split(&mut self, at: usize) -> (Owned<L>, Self) {
        let (separator, right) = match Arc::make_mut(&mut self.node) {
            Node::Leaf(leaf) => leaf.split(at),
            Node::Branch(branch) => branch.split(at),
        };
        self.size.subtract(right.size);
        (separator, right)
    }
}

impl<L: KeyList, V> Node<L, V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.values.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }
}

impl<L: KeyList, V> Leaf<L, V> {
    fn find(&self, key: &L::Key) -> Result<usize, usize> {
        self.keys.search(key)
    }

    fn entry(&self, at: usize) -> (&L::Key, &V) {
        (self.keys.at(at), &self.values[at])
    }
}

impl<L: KeyList, V: Clone + Live> Leaf<L, V> {
    /// Inserts an entry whose key belongs at this place.
    fn insert(&mut self, at: usize, key: &L::Key, value: V, rightmost: bool) -> Split<L, V> {
        let full = self.keys.len() >= NODE_MAX;
        if full && rightmost && at == self.keys.len() {
            // Not split in halves: if keys are inserted in ascending order, as in a log, the leaves stay full.
            return Some((key.to_owned(), Child::leaf(L::one(key), vec![value])));
        }
        Arc::make_mut(&mut self.keys).insert(at, key);
        insert_at(&mut self.values, at, value);
        full.then(|| self.split(NODE_MAX / 2))
    }

    fn split(&mut self, at: usize) -> (Owned<L>, Child<L, V>) {
        let keys = Arc::make_mut(&mut self.keys).split_off(at);
        (keys.at(0).to_owned(), Child::leaf(keys, self.values.split_off(at)))
    }
}

impl<L: KeyList, V> Branch<L, V> {
    fn child_for(&self, key: &L::Key) -> usize {
        self.separators.count_to(key)
    }
}

impl<L: KeyList, V: Clone + Live> Branch<L, V> {
    fn split_if_too_long(&mut self, rightmost: bool) -> Split<L, V> {
        let keep = if rightmost { NODE_MAX } else { NODE_MAX / 2 };
        (self.children.len() > NODE_MAX).then(|| self.split(keep))
    }

    fn insert_child(&mut self, left: usize, separator: Owned<L>, right: Child<L, V>) {
        Arc::make_mut(&mut self.separators).insert(left, separator.borrow());
        insert_at(&mut self.children, left + 1, right);
    }

    fn split(&mut self, at: usize) -> (Owned<L>, Child<L, V>) {
        let separators = Arc::make_mut(&mut self.separators);
        let right_separators = separators.split_off(at);
        let separator = separators.remove(at - 1);
        (separator, Child::branch(right_separators, self.children.split_off(at)))
    }

    /// Joins a child that lost an entry with a neighbour if it has become too short, and splits the result if that is
    /// too long.
    fn rebalance(&mut self, at: usize) {
        if self.children[at].size.entries == 0 {
            self.children.remove(at);
            if self.separators.len() > 0 {
                Arc::make_mut(&mut self.separators).remove(at.saturating_sub(1));
            }
            return;
        }
        if self.children[at].node.len() >= NODE_MIN || self.children.len() == 1 {
            return;
        }
        let left = if at + 1 < self.children.len() { at } else { at - 1 };
        let right = self.children.remove(left + 1);
        let separator = Arc::make_mut(&mut self.separators).remove(left);
        let joined = &mut self.children[left];
        joined.join(separator, right);
        let len = joined.node.len();
        if len > NODE_MAX {
            let (separator, right) = joined.split(len / 2);
            self.insert_child(left, separator, right);
        }
    }
}

fn insert_at<T>(vec: &mut Vec<T>, at: usize, item: T) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(GROWTH);
    }
    vec.insert(at, item);
}

/// Entries in ascending order; a step needs no search.
pub(crate) struct Iter<'a, L, V> {
    /// For each branch on the way down, its children that are still to come.
    above: Vec<&'a [Child<L, V>]>,
    /// The leaf last reached. The next entry is in it, or, if `at` is its end, in the leaf after it.
    leaf: Option<&'a Leaf<L, V>>,
    at: usize,
    /// Entries until the end of the range, including those that will be skipped.
    remaining: usize,
}

impl<'a, L: KeyList, V> Iter<'a, L, V> {
    /// Goes down to a leaf. Entries to the left of the path are skipped; those to the right come later.
    fn descend(
        &mut self,
        mut child: &'a Child<L, V>,
        child_of: impl Fn(&Branch<L, V>) -> usize,
        entry_of: impl Fn(&Leaf<L, V>) -> usize,
    ) {
        loop {
            match &*child.node {
                Node::Leaf(leaf) => {
                    let at = entry_of(leaf);
                    (self.leaf, self.at) = (Some(leaf), at);
                    return;
                }
                Node::Branch(branch) => {
                    let (first, rest) = branch.children[child_of(branch)..]
                        .split_first()
                        .expect("a branch has children, and a search ends at one of them");
                    self.above.push(rest);
                    child = first;
                }
            }
        }
    }

    /// Goes to the next leaf, skipping children without live entries if only those are wanted.
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
                    (self.leaf, self.at) = (Some(leaf), 0);
                    return Some(());
                }
                Node::Branch(branch) => self.above.push(&branch.children),
            }
        }
    }

    fn advance(&mut self, live_only: bool) -> Option<(&'a L::Key, &'a V)> {
        while self.remaining > 0 {
            if let Some(leaf) = self.leaf
                && self.at < leaf.values.len()
            {
                self.at += 1;
                self.remaining -= 1;
                return Some(leaf.entry(self.at - 1));
            }
            self.next_leaf(live_only)?;
        }
        None
    }
}

impl<'a, L: KeyList, V: Live> Iter<'a, L, V> {
    /// The next live entry; whole subtrees without one are skipped.
    pub(crate) fn next_live(&mut self) -> Option<(&'a L::Key, &'a V)> {
        loop {
            let (key, value) = self.advance(true)?;
            if value.is_live() {
                return Some((key, value));
            }
        }
    }
}

impl<'a, L: KeyList, V> Iterator for Iter<'a, L, V> {
    type Item = (&'a L::Key, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(false)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining))
    }
}

#[cfg(test)]
impl<L: KeyList, V: Live> Tree<L, V> {
    /// Asserts the shape: sorted, balanced, with correct counts in branches, dense apart from the right edge.
    pub(crate) fn check(&self) {
        if let Some(root) = &self.root {
            assert!(root.size.entries > 0, "an empty tree has no root");
            root.check(None, None, true, true);
        }
    }

    /// The number of nodes.
    pub(crate) fn nodes(&self) -> usize {
        fn below<L, V>(child: &Child<L, V>) -> usize {
            match &*child.node {
                Node::Leaf(_) => 1,
                Node::Branch(branch) => 1 + branch.children.iter().map(below).sum::<usize>(),
            }
        }
        self.root.as_ref().map_or(0, below)
    }
}

#[cfg(test)]
impl<L: KeyList, V: Live> Child<L, V> {
    /// Returns the depth below; every key is at least `from` and less than `to`.
    fn check(&self, from: Option<&L::Key>, to: Option<&L::Key>, root: bool, right_edge: bool) -> usize {
        assert!(self.node.len() <= NODE_MAX, "no node is too long");
        assert!(
            root || right_edge || self.node.len() >= NODE_MIN,
            "only the root and nodes at the right edge may be short"
        );
        match &*self.node {
            Node::Leaf(leaf) => {
                let keys = || (0..leaf.keys.len()).map(|at| leaf.keys.at(at));
                assert!(keys().is_sorted_by(|a, b| a < b), "a leaf is sorted");
                assert_eq!(leaf.keys.len(), leaf.values.len(), "every key has a value");
                assert!(
                    from.is_none_or(|from| keys().all(|key| from <= key)),
                    "no key is too small"
                );
                assert!(to.is_none_or(|to| keys().all(|key| key < to)), "no key is too great");
                let live = leaf.values.iter().filter(|value| value.is_live()).count();
                assert_eq!(
                    self.size,
                    Size {
                        entries: leaf.keys.len(),
                        live
                    },
                    "a leaf's recorded size is correct"
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
                        Some(branch.separators.at(at - 1))
                    };
                    let upto = if at == last { to } else { Some(branch.separators.at(at)) };
                    child.check(from, upto, false, right_edge && at == last)
                });
                let depth = depths.next().expect("a branch has children");
                assert!(depths.all(|other| other == depth), "all leaves are equally deep");
                assert_eq!(self.size, size, "a branch's recorded size is the sum of its children's");
                depth + 1
            }
        }
    }
}
