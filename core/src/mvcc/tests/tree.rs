//! Compares the tree with a `BTreeMap`, and checks that clones do not change.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::mvcc::keys::{ByteKeys, KeyList};
use crate::mvcc::tree::{Live, Size, Tree};
use crate::random::Prng;

/// Odd values are live.
impl Live for u64 {
    fn is_live(&self) -> bool {
        self % 2 == 1
    }
}

fn size_of<'a>(values: impl Iterator<Item = &'a u64>) -> Size {
    values.fold(Size::default(), |size, value| Size {
        entries: size.entries + 1,
        live: size.live + usize::from(value.is_live()),
    })
}

/// A kind of keys: their layout in nodes, and the key of a number.
trait Keys: KeyList<Key: Debug> {
    type Owned: Clone + Debug + Ord;

    fn key(number: u64) -> Self::Owned;
    fn lent(owned: &Self::Owned) -> &Self::Key;
}

impl Keys for Vec<u64> {
    type Owned = u64;

    fn key(number: u64) -> u64 {
        number
    }

    fn lent(owned: &u64) -> &u64 {
        owned
    }
}

impl Keys for ByteKeys {
    type Owned = Vec<u8>;

    /// The digits of the number, repeated up to 10 times; 1,001 times if the first digit is a nine.
    fn key(number: u64) -> Vec<u8> {
        let text = number.to_string();
        let times = if text.starts_with('9') {
            1_000
        } else {
            number as usize % 10
        };
        text.repeat(1 + times).into_bytes()
    }

    fn lent(owned: &Vec<u8>) -> &[u8] {
        owned
    }
}

type Model<A> = BTreeMap<<A as Keys>::Owned, u64>;

fn borrowed<'a, A: Keys>((key, value): (&'a A::Owned, &'a u64)) -> (&'a A::Key, &'a u64) {
    (A::lent(key), value)
}

fn assert_same<A: Keys>(tree: &Tree<A, u64>, model: &Model<A>) {
    tree.check();
    assert!(
        tree.iter().eq(model.iter().map(borrowed::<A>)),
        "same entries in the same order"
    );
    assert_eq!(tree.size(), size_of(model.values()));
    assert_eq!(tree.first(), model.first_key_value().map(borrowed::<A>));
}

fn assert_answers_same<A: Keys>(tree: &Tree<A, u64>, model: &Model<A>, random: &mut Prng, keys: u64) {
    let (a, b) = (A::key(random.below(keys + 2)), A::key(random.below(keys + 2)));
    let from = A::lent(&a);
    assert_eq!(tree.get(from), model.get(&a));
    assert_eq!(tree.floor(from), model.range(..=&a).next_back().map(borrowed::<A>));
    let to = (random.below(4) > 0).then_some(A::lent(&b));
    let expected = model
        .range(&a..)
        .map(borrowed::<A>)
        .take_while(|(key, _)| to.is_none_or(|to| *key < to));
    let expected: Vec<_> = expected.collect();
    assert_eq!(tree.range(from, to).collect::<Vec<_>>(), expected, "{a:?}..{to:?}");
    assert_eq!(
        tree.count(from, to),
        size_of(expected.iter().map(|(_, value)| *value)),
        "{a:?}..{to:?}"
    );
    assert_eq!(tree.entries_between(from, to), expected.len());
    let mut iter = tree.range(from, to);
    let live: Vec<_> = std::iter::from_fn(|| iter.next_live()).collect();
    assert!(
        live.into_iter()
            .eq(expected.into_iter().filter(|(_, value)| value.is_live()))
    );
}

/// Grows a tree of at most `keys` keys, changes it at random, and shrinks it.
fn churn<A: Keys>(seed: u64, keys: u64, steps: usize) {
    println!("seed {seed}, {keys} keys");
    let mut random = Prng::new(seed);
    let (mut tree, mut model) = (Tree::<A, u64>::default(), Model::<A>::new());
    let mut clones = Vec::new();
    for step in 0..steps {
        let removals = if (step / 700) % 2 == 0 { 2 } else { 8 };
        let (owned, value) = (A::key(random.below(keys)), random.next_u64());
        let key = A::lent(&owned);
        match random.below(10) {
            n if n < removals => assert_eq!(tree.remove(key), model.remove(&owned)),
            9 if model.contains_key(&owned) => {
                let changed = tree.update(key, |old| std::mem::replace(old, value));
                assert_eq!(changed, model.insert(owned.clone(), value));
            }
            _ => assert_eq!(tree.insert(key, value), model.insert(owned.clone(), value)),
        }
        if step % 13 == 0 {
            assert_answers_same(&tree, &model, &mut random, keys);
        }
        if random.below(200) == 0 {
            clones.push((tree.clone(), model.clone()));
        }
        if step % 500 == 0 {
            assert_same(&tree, &model);
        }
    }
    assert!(clones.len() > 3, "some clones were kept");
    for (clone, then) in clones {
        assert_same(&clone, &then);
    }
}

#[test]
fn a_tree_behaves_as_a_btree_map_and_clones_never_change() {
    for seed in 0..4 {
        churn::<Vec<u64>>(seed, 40, 3_000);
        churn::<Vec<u64>>(seed, 1_000, 6_000);
        churn::<Vec<u64>>(seed, 20_000, 12_000);
        churn::<ByteKeys>(seed, 100, 3_000);
        churn::<ByteKeys>(seed, 1_000, 6_000);
    }
}

#[test]
fn ascending_inserts_fill_every_leaf() {
    let mut tree = Tree::<Vec<u64>, u64>::default();
    for key in 0..10_000_u64 {
        assert_eq!(tree.insert(&key, key), None);
    }
    tree.check();
    assert_eq!(
        tree.nodes(),
        10_000_usize.div_ceil(32) + 10 + 1,
        "313 leaves, 10 branches, a root"
    );
}

#[test]
fn inserts_from_one_end_then_removals_from_the_other_keep_the_shape() {
    for ascending in [true, false] {
        let (mut tree, mut model) = (Tree::<Vec<u64>, u64>::default(), Model::<Vec<u64>>::new());
        for n in 0..3_000 {
            let key = if ascending { n } else { 3_000 - n };
            tree.insert(&key, n);
            model.insert(key, n);
        }
        assert_same(&tree, &model);
        while let Some((key, value)) = if ascending { model.pop_first() } else { model.pop_last() } {
            assert_eq!(tree.remove(&key), Some(value));
            if key % 97 == 0 {
                assert_same(&tree, &model);
            }
        }
        assert_eq!(tree.size(), Size::default());
        assert_eq!(tree.iter().next(), None);
    }
}

#[test]
fn an_empty_tree_can_be_read() {
    let mut tree = Tree::<Vec<u64>, u64>::default();
    assert_eq!(tree.get(&1), None);
    assert_eq!(tree.floor(&1), None);
    assert_eq!(tree.remove(&1), None);
    assert_eq!(tree.update(&1, |_| ()), None);
    assert_eq!(tree.range(&1, Some(&5)).next(), None);
    assert_eq!(tree.count(&0, None), Size::default());
}

#[test]
fn a_bound_below_the_start_is_an_empty_range() {
    let mut tree = Tree::<Vec<u64>, u64>::default();
    (0..100_u64).for_each(|key| assert_eq!(tree.insert(&key, 1), None));
    assert_eq!(tree.range(&50, Some(&50)).next(), None);
    assert_eq!(tree.range(&50, Some(&10)).next(), None);
    assert_eq!(tree.count(&50, Some(&10)), Size::default());
}
