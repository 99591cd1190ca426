//! What is true of every tree, asserted by tests.

use super::node::{Child, NODE_MAX, Node};
use super::{Live, Size, Tree};
use crate::mvcc::keys::KeyArray;

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
