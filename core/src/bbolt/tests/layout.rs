//! Pages byte by byte.

use super::super::page::MetaPage;
use super::*;

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()))
        .collect()
}

#[test]
fn a_file_without_buckets_has_two_meta_pages_an_empty_root_and_an_empty_free_list() {
    let file = file_of(&vec![]);
    assert_eq!(file.len(), 4 * 4_096);
    for (page, flags) in [(0_u64, 4_u16), (1, 4), (2, 2), (3, 0x10)] {
        let at = page as usize * 4_096;
        assert_eq!(file[at..at + 8], page.to_le_bytes());
        assert_eq!(file[at + 8..at + 10], flags.to_le_bytes());
        assert_eq!(file[at + 10..at + 16], [0; 6], "no elements, and no pages that follow");
    }
    let (before, sum) = file.split_at(4 * 4_096 - 4);
    assert_eq!(sum, crc32c::crc32c(before).to_le_bytes());
    assert_eq!(read(&file), Ok(vec![]));
}

#[test]
fn meta_pages_name_the_root_and_the_free_list_and_the_first_is_newer() {
    let file = file_of(&one_bucket(rows(2, 3, 600)));
    let newer = 0x5175_6f69_6e00;
    for (page, transaction) in [(0, newer), (1, newer - 1)] {
        let meta = &file[page * 4_096 + 16..][..64];
        assert_eq!(meta[..4], 0xED0C_DAED_u32.to_le_bytes());
        assert_eq!(meta[4..8], 2_u32.to_le_bytes());
        assert_eq!(meta[8..12], 4_096_u32.to_le_bytes());
        assert_eq!(meta[12..16], [0; 4]);
        // The root and its sequence, the free list, the high water, the transaction.
        assert_eq!(numbers(&meta[16..56]), [3, 0, 4, 5, transaction]);
    }
}

/// The first meta page of a file that etcd 3.5.30 wrote.
#[rustfmt::skip]
const META_OF_ETCD: [u8; 64] = [
    0xed, 0xda, 0x0c, 0xed, 0x02, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x7d, 0x32, 0x98, 0x8a, 0xa3, 0x30, 0xb7,
];

#[test]
fn the_checksum_of_a_meta_page_is_that_of_bbolt() {
    let mut page = vec![0; 16];
    page.extend_from_slice(&META_OF_ETCD);
    let meta = MetaPage::read(&page).unwrap();
    assert_eq!(
        meta,
        MetaPage {
            page_bytes: 4_096,
            root: 2,
            free_list: u64::MAX,
            high_water: 5,
            transaction: 8,
        }
    );
    for at in 0..64 {
        let mut damaged = page.clone();
        damaged[16 + at] ^= 4;
        assert!(MetaPage::read(&damaged).is_err(), "byte {at}");
    }
    assert!(MetaPage::read(&page[..79]).is_err());
}

#[test]
fn a_leaf_has_a_table_of_elements_and_then_keys_and_values() {
    let long = vec![b'1'; 1_000];
    let file = file_of(&one_bucket(vec![
        ("a".into(), long.clone().into()),
        ("bc".into(), "".into()),
    ]));
    let mut expected = Vec::new();
    expected.extend_from_slice(&2_u64.to_le_bytes());
    expected.extend_from_slice(&[2, 0, 2, 0, 0, 0, 0, 0]);
    // Flags, the distance from the element to its key, the lengths of key and value.
    for number in [0_u32, 32, 1, 1_000, 0, 1_017, 2, 0] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(&[b"a", &long[..], b"bc"].concat());
    expected.resize(4_096, 0);
    assert_eq!(file[2 * 4_096..3 * 4_096], expected);
}

#[test]
fn the_root_has_all_buckets_and_a_small_one_is_a_page_within_its_value() {
    let term = vec![("term".into(), "7".into())];
    let file = file_of(&vec![
        ("alarm".into(), vec![]),
        ("key".into(), rows(2, 1, 600)),
        ("meta".into(), term),
    ]);
    let nodes = nodes(&file);
    let (page, root, _) = &nodes[1];
    assert_eq!((*page, root.is_leaf, root.count), (3, true, 3));
    let alarm = root.leaf(0);
    assert!(alarm.is_bucket);
    assert_eq!(alarm.key, "alarm");
    // Root 0, sequence 0, and the head of a leaf without elements.
    assert_eq!(numbers(&alarm.value), [0, 0, 0, u64::from(flags::LEAF)]);
    let key = root.leaf(1);
    assert_eq!((&key.key[..], numbers(&key.value)), (&b"key"[..], vec![2, 0]));
    let meta = root.leaf(2);
    // One element: no flags, a key of 4 bytes that is 16 bytes after the start of the element, and a value of 1 byte.
    assert_eq!(
        numbers(&meta.value[..48]),
        [0, 0, 0, 2 | 1 << 16, 16 << 32, 4 | 1 << 32]
    );
    assert_eq!(meta.value[48..], *b"term7");
}

#[test]
fn a_bucket_of_a_quarter_of_a_page_is_small() {
    let room = 4_096 / 4 - 16 - 16 - 1;
    for (bytes, pages) in [(room, 4), (room + 1, 5)] {
        let buckets = one_bucket(vec![row(0, 1, bytes)]);
        let file = file_of(&buckets);
        assert_eq!(file.len(), pages * 4_096);
        assert_eq!(read(&file), Ok(buckets));
    }
}

#[test]
fn a_branch_has_the_first_key_of_each_child() {
    let file = file_of(&one_bucket(rows(3, 1_500, 1)));
    let nodes = nodes(&file);
    let (page, branch, _) = &nodes[2];
    assert_eq!((*page, branch.is_leaf, branch.count), (4, false, 2));
    assert_eq!(branch.branch(0), (row(0, 1_500, 1).0, 2));
    assert_eq!(branch.branch(1), (row(2, 1_500, 1).0, 3));
}

#[test]
fn a_page_is_filled_to_its_last_byte_and_no_further() {
    // Two elements of 16 bytes and keys of 1, after a head of 16.
    let room = 4_096 - 16 - 2 * (16 + 1);
    for (bytes, leaves) in [(room, 1), (room + 1, 2)] {
        let file = file_of(&one_bucket(vec![row(0, 1, 100), row(1, 1, bytes - 100)]));
        let count = nodes(&file).iter().filter(|(_, node, _)| node.is_leaf).count();
        assert_eq!(count - 1, leaves, "without the root");
    }
}

#[test]
fn a_large_value_goes_on_in_the_pages_that_follow() {
    for (value, pages) in [(4_063, 1), (4_064, 2), (8_159, 2), (8_160, 3), (1_572_864, 385)] {
        let file = file_of(&one_bucket(vec![row(0, 1, value), row(1, 1, 1)]));
        let nodes = nodes(&file);
        assert_eq!(nodes[0].2, pages * 4_096, "{value}");
        assert_eq!(nodes[1].0, 2 + pages as u64, "{value}");
        assert_eq!(read(&file).unwrap()[0].1[0].1.len(), value);
    }
}

#[test]
fn keys_that_are_empty_or_out_of_order_are_refused() {
    let refusal = |buckets: &Buckets| {
        let refused = write(&mut FileWriter::counting(), buckets);
        refused.unwrap_err().to_string()
    };
    let text = |key: &'static str| (Bytes::from(key), Bytes::new());
    let cases = [
        (one_bucket(vec![text("b"), text("a")]), "its keys do not ascend"),
        (one_bucket(vec![text("a"), text("a")]), "its keys do not ascend"),
        (one_bucket(vec![text("")]), "a key is empty or too long"),
    ];
    for (buckets, cause) in cases {
        assert_eq!(refusal(&buckets), format!("bucket key of a database file: {cause}"));
    }
    let out_of_order = vec![("b".into(), vec![]), ("a".into(), vec![])];
    assert_eq!(
        refusal(&out_of_order),
        "bucket a of a database file: its keys do not ascend"
    );
}

#[test]
fn a_second_run_over_other_rows_is_refused() {
    let plan = write(&mut FileWriter::counting(), &one_bucket(rows(300, 3, 30)))
        .unwrap()
        .0;
    let refused = write(&mut FileWriter::following(plan), &one_bucket(rows(600, 3, 30)));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the rows of a database file are not those that were counted"
    );
}
