//! Files of all sizes are read back as they were written, and their trees have the shape that bbolt needs to change
//! them.

use super::*;

/// Checks bbolt's rules beyond the order of keys: a branch has at least two children, and every node is reached from
/// the root.
fn check_shape(file: &[u8]) {
    let nodes = nodes(file);
    for (page, node, _) in &nodes {
        assert!(node.is_leaf || node.count >= 2, "page {page} has one child");
    }
    let (seen, end) = look(file);
    assert_eq!(end, Ok(()));
    let large = nodes.iter().filter(|(_, _, bytes)| *bytes > PAGE_BYTES).count();
    // Two meta pages, each node, and the other pages of each node that has more than one.
    assert_eq!(seen.parts, 2 + nodes.len() + large);
}

#[test]
fn any_number_of_rows_reads_back() {
    // Keys that leave room for two rows a leaf and three children a branch, so that every number of rows makes another
    // tree.
    for count in 0..150 {
        let buckets = one_bucket(rows(count, 1_300, 0));
        let file = file_of(&buckets);
        assert_eq!(read(&file).as_ref(), Ok(&buckets), "{count} rows");
        check_shape(&file);
    }
}

#[test]
fn keys_longer_than_a_page_make_branches_longer_than_a_page() {
    let buckets = one_bucket(rows(60, 32_768, 1));
    let file = file_of(&buckets);
    assert_eq!(read(&file), Ok(buckets));
    check_shape(&file);
}

#[test]
fn rows_of_the_sizes_of_etcd_fill_three_levels_of_branches() {
    // Keys of 17 bytes give a branch 122 or 123 children; a leaf has two of these rows.
    let buckets = one_bucket(rows(2 * 123 * 123 + 1_000, 17, 1_900));
    let file = file_of(&buckets);
    let nodes = nodes(&file);
    let branches = nodes.iter().filter(|(_, node, _)| !node.is_leaf);
    assert!(branches.clone().count() > 123);
    assert!(read(&file) == Ok(buckets));
    check_shape(&file);
    assert_eq!(depth(&nodes, nodes.len() - 1), 4);
}

/// Levels of the tree of the bucket in the root's first element.
fn depth(nodes: &[(u64, ReadNode, usize)], root: usize) -> usize {
    let value = nodes[root].1.leaf(0).value;
    let mut page = u64::from_le_bytes(value[..8].try_into().unwrap());
    let mut levels = 1;
    loop {
        let node = nodes.binary_search_by_key(&page, |(page, ..)| *page).unwrap();
        if nodes[node].1.is_leaf {
            return levels;
        }
        page = nodes[node].1.branch(0).1;
        levels += 1;
    }
}

#[test]
fn random_buckets_read_back() {
    let mut prng = Prng::new(1).fork("bbolt");
    for round in 0..60 {
        let buckets = random_buckets(&mut prng);
        let file = file_of(&buckets);
        assert!(read(&file).as_ref() == Ok(&buckets), "round {round}");
        check_shape(&file);
    }
}

pub(super) fn random_buckets(prng: &mut Prng) -> Buckets {
    let mut names: Vec<Bytes> = (0..prng.below(14)).map(|_| random_bytes(prng, 1, 40)).collect();
    names.sort();
    names.dedup();
    let mut bucket = |name| (name, random_rows(prng));
    names.into_iter().map(&mut bucket).collect()
}

fn random_rows(prng: &mut Prng) -> Rows {
    let count = [0, 1, 2, 30, 400][prng.below(5) as usize];
    let longest_key = [1, 17, 18, 300, 5_000][prng.below(5) as usize];
    let longest_value = [0, 1, 40, 3_000, 10_000][prng.below(5) as usize];
    let mut rows: Rows = (0..count)
        .map(|_| {
            let longest_value = if prng.below(400) == 0 { 1_600_000 } else { longest_value };
            (random_bytes(prng, 1, longest_key), random_bytes(prng, 0, longest_value))
        })
        .collect();
    rows.sort();
    rows.dedup_by(|(a, _), (b, _)| a == b);
    rows
}

fn random_bytes(prng: &mut Prng, least: u64, most: u64) -> Bytes {
    let length = prng.range(least..most + 1);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&prng.next_u64().to_le_bytes());
    }
    Bytes::from(bytes).slice(..length as usize)
}

#[test]
fn equal_rows_make_equal_files() {
    let mut prng = Prng::new(2);
    let buckets = random_buckets(&mut prng);
    assert!(file_of(&buckets) == file_of(&buckets));
}

#[test]
fn a_row_closes_at_most_one_page_of_each_level() {
    let rows = rows(50_000, 17, 20);
    let (plan, _) = write(&mut FileWriter::counting(), &one_bucket(rows.clone())).unwrap();
    let mut writer = FileWriter::following(plan);
    writer.bucket("key".into()).unwrap();
    writer.take();
    for (key, value) in rows {
        writer.row(key, value).unwrap();
        let made: usize = writer.take().iter().map(Bytes::len).sum();
        assert!(made <= 4 * PAGE_BYTES, "a row closes at most one page of each level");
    }
}
