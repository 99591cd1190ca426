//! An ordered map whose clone costs nothing: clones share every node until one of them changes.
//!
//! It holds what a published view must keep while the writer goes on, where values are few bytes: leases and the keys
//! attached to them. Keys with their history live in [`crate::mvcc`], whose tree also counts.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A height-balanced search tree. A change copies the path to it, and only the nodes that a clone still shares.
#[derive(Clone, Debug)]
pub(super) struct Map<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Option<Arc<Node<K, V>>>;

#[derive(Clone, Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    left: Link<K, V>,
    right: Link<K, V>,
    height: u8,
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// Sets the value of a key and returns the one before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = insert(&mut self.root, key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a key and returns its value. An absent key copies nothing.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        self.len -= 1;
        remove(&mut self.root, key)
    }

    /// The value of a key, to change in place. An absent key copies nothing.
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let mut link = &mut self.root;
        while let Some(node) = link {
            let node = Arc::make_mut(node);
            link = match key.cmp(node.key.borrow()) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => &mut node.left,
                Ordering::Greater => &mut node.right,
            };
        }
        None
    }

    /// The value of a key.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(node.key.borrow()) {
                Ordering::Equal => return Some(&node.value),
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
            };
        }
        None
    }
}

impl<K, V> Map<K, V> {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keys and values in the order of the keys.
    pub(super) fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { pending: Vec::new() };
        iter.descend(&self.root);
        iter
    }
}

/// Walks a map in order.
pub(super) struct Iter<'a, K, V> {
    /// Nodes still to be visited, with their right sides; the next one is last.
    pending: Vec<&'a Node<K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut link: &'a Link<K, V>) {
        while let Some(node) = link {
            self.pending.push(node);
            link = &node.left;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.pending.pop()?;
        self.descend(&node.right);
        Some((&node.key, &node.value))
    }
}

impl<K, V> Node<K, V> {
    /// Sets the height from the children's.
    fn measure(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
    }
}

fn height<K, V>(link: &Link<K, V>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn insert<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: K, value: V) -> Option<V> {
    let Some(node) = link else {
        *link = Some(Arc::new(Node { key, value, left: None, right: None, height: 1 }));
        return None;
    };
    let node = Arc::make_mut(node);
    let before = match key.cmp(&node.key) {
        Ordering::Equal => return Some(std::mem::replace(&mut node.value, value)),
        Ordering::Less => insert(&mut node.left, key, value),
        Ordering::Greater => insert(&mut node.right, key, value),
    };
    if before.is_none() {
        rebalance(link);
    }
    before
}

fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(link: &mut Link<K, V>, key: &Q) -> Option<V> {
    let node = Arc::make_mut(link.as_mut()?);
    let removed = match key.cmp(node.key.borrow()) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            let Node { value, left, mut right, .. } = Arc::unwrap_or_clone(link.take()?);
            *link = match pop_first(&mut right) {
                None => left,
                Some((key, value)) => Some(Arc::new(Node { key, value, left, right, height: 0 })),
            };
            Some(value)
        }
    };
    rebalance(link);
    removed
}

/// Takes out the first key.
fn pop_first<K: Clone, V: Clone>(link: &mut Link<K, V>) -> Option<(K, V)> {
    let node = Arc::make_mut(link.as_mut()?);
    if node.left.is_some() {
        let first = pop_first(&mut node.left);
        rebalance(link);
        return first;
    }
    let Node { key, value, right, .. } = Arc::unwrap_or_clone(link.take()?);
    *link = right;
    Some((key, value))
}

/// Restores the height of a node whose children changed by one, turning where one side became two higher.
fn rebalance<K: Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(node) = link else { return };
    let node = Arc::make_mut(node);
    let (left, right) = (height(&node.left), height(&node.right));
    if left > right + 1 {
        if node.left.as_ref().is_some_and(|child| height(&child.left) < height(&child.right)) {
            raise_right(&mut node.left);
        }
        raise_left(link);
    } else if right > left + 1 {
        if node.right.as_ref().is_some_and(|child| height(&child.right) < height(&child.left)) {
            raise_left(&mut node.right);
        }
        raise_right(link);
    } else {
        node.measure();
    }
}

/// Puts a node's left child in its place and the node below on the right.
fn raise_left<K: Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let node = Arc::make_mut(&mut top);
    let Some(mut child) = node.left.take() else {
        *link = Some(top);
        return;
    };
    let raised = Arc::make_mut(&mut child);
    node.left = raised.right.take();
    node.measure();
    raised.right = Some(top);
    raised.measure();
    *link = Some(child);
}

/// Puts a node's right child in its place and the node below on the left.
fn raise_right<K: Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let node = Arc::make_mut(&mut top);
    let Some(mut child) = node.right.take() else {
        *link = Some(top);
        return;
    };
    let raised = Arc::make_mut(&mut child);
    node.right = raised.left.take();
    node.measure();
    raised.left = Some(top);
    raised.measure();
    *link = Some(child);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Asserts order and balance, and returns the number of nodes.
    fn check(link: &Link<u32, u32>) -> usize {
        let Some(node) = link else { return 0 };
        let (left, right) = (height(&node.left), height(&node.right));
        assert!(left.abs_diff(right) <= 1, "unbalanced at {}", node.key);
        assert_eq!(node.height, 1 + left.max(right));
        assert!(node.left.as_ref().is_none_or(|child| child.key < node.key));
        assert!(node.right.as_ref().is_none_or(|child| child.key > node.key));
        check(&node.left) + check(&node.right) + 1
    }

    #[test]
    fn it_agrees_with_a_btree_map_and_clones_stay_as_they_were() {
        let mut map = Map::default();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        let mut random = 1u64;
        for step in 0..4_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) as u32 % 500;
            match random >> 62 {
                0 => assert_eq!(map.remove(&key), model.remove(&key)),
                1 => {
                    if let Some(value) = map.get_mut(&key) {
                        *value += 1;
                    }
                    model.entry(key).and_modify(|value| *value += 1);
                }
                _ => assert_eq!(map.insert(key, step), model.insert(key, step)),
            }
            assert_eq!(map.get(&key), model.get(&key));
            if step % 400 == 0 {
                assert_eq!(check(&map.root), map.len());
                kept.push((map.clone(), model.clone()));
            }
        }
        kept.push((map, model));
        for (map, model) in kept {
            assert_eq!(map.len(), model.len());
            assert!(map.iter().eq(model.iter()));
        }
    }
}
