//! Files that bbolt makes and this writer does not: other page sizes, free pages, no free list, and a second meta page
//! that is newer than the first.

use super::super::page::MetaPage;
use super::*;

/// Overwrites a meta page.
pub(super) fn set_meta(file: &mut [u8], page: u64, page_bytes: u32, root: u64, high_water: u64, transaction: u64) {
    let meta = MetaPage {
        page_bytes,
        root,
        free_list: u64::MAX,
        high_water,
        transaction,
    };
    let mut bytes = Vec::new();
    meta.write(page, &mut bytes);
    let at = page as usize * page_bytes as usize;
    file[at..at + bytes.len()].copy_from_slice(&bytes);
}

fn leaf(id: u64, elements: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend_from_slice(&2_u16.to_le_bytes());
    page.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    page.extend_from_slice(&[0; 4]);
    let mut position = elements.len() * 16;
    for (flags, key, value) in elements {
        for number in [*flags, position as u32, key.len() as u32, value.len() as u32] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        position = position - 16 + key.len() + value.len();
    }
    for (_, key, value) in elements {
        page.extend_from_slice(key);
        page.extend_from_slice(value);
    }
    page
}

/// A bucket's value with a page inside it.
fn inline(elements: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    [vec![0; 16], leaf(0, elements)].concat()
}

fn tree(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

/// Pages 2, 3 and 6 are free and keep their old bytes; 4 is the root, 5 a bucket's leaf.
fn file(page_bytes: usize, newer: u64) -> Vec<u8> {
    let mut file = vec![0xa5; 8 * page_bytes];
    let mut put = |page: usize, bytes: &[u8]| file[page * page_bytes..][..bytes.len()].copy_from_slice(bytes);
    let meta = inline(&[
        (0, b"consistent_index", vec![0, 0, 0, 0, 0, 0, 0, 9]),
        (0, b"term", vec![2]),
    ]);
    put(
        4,
        &leaf(
            4,
            &[(1, b"key", tree(5)), (1, b"meta", meta), (1, b"unknown", inline(&[]))],
        ),
    );
    put(5, &leaf(5, &[(0, b"k", b"v".to_vec())]));
    // The older meta page has another root.
    put(3, &leaf(3, &[]));
    let page_bytes = u32::try_from(page_bytes).unwrap();
    for page in [0, 1] {
        let root = if page == newer { 4 } else { 3 };
        set_meta(&mut file, page, page_bytes, root, 7, 10 + u64::from(page == newer));
    }
    file
}

fn expected() -> Buckets {
    vec![
        ("key".into(), vec![("k".into(), "v".into())]),
        (
            "meta".into(),
            vec![
                ("consistent_index".into(), vec![0, 0, 0, 0, 0, 0, 0, 9].into()),
                ("term".into(), vec![2].into()),
            ],
        ),
        ("unknown".into(), vec![]),
    ]
}

#[test]
fn pages_may_have_any_size_and_either_meta_page_may_be_the_newer() {
    for page_bytes in [1_024, 4_096, 16_384, 65_536] {
        for newer in [0, 1] {
            let file = file(page_bytes, newer);
            assert_eq!(read(&file), Ok(expected()), "{page_bytes}, {newer}");
        }
    }
}

#[test]
fn the_second_meta_page_is_found_if_the_first_is_damaged() {
    for page_bytes in [1_024, 4_096, 16_384, 65_536] {
        let mut file = file(page_bytes, 1);
        file[..80].fill(0);
        assert_eq!(read(&file), Ok(expected()), "{page_bytes}");
    }
}

#[test]
fn page_sizes_that_no_system_has_are_refused() {
    for page_bytes in [0_u32, 1, 512, 4_097, 131_072, u32::MAX] {
        let mut file = file(4_096, 0);
        set_meta(&mut file[..80], 0, page_bytes, 4, 7, 99);
        let damage = read(&file).unwrap_err();
        assert_eq!(damage.cause, "its page size is not valid");
    }
}

#[test]
fn buckets_are_read_in_any_order_and_some_not_at_all() {
    let file = file(4_096, 0);
    let mut reader = FileReader::new(file.len() as u64);
    let mut seen = Seen::default();
    assert_eq!(next_row(&mut reader, &file, &mut seen), Ok(None));
    for (bucket, first) in [("meta", "consistent_index"), ("key", "k")] {
        assert!(reader.enter(bucket.as_bytes()));
        assert_eq!(next_row(&mut reader, &file, &mut seen).unwrap().unwrap().0, first);
    }
    assert!(!reader.enter(b"lease"));
    assert!(reader.buckets().eq(["unknown"]));
}

/// bbolt leaves empty leaves: as the root of a bucket whose rows were deleted, and below a branch.
#[test]
fn an_empty_leaf_is_no_damage() {
    let mut file = file(4_096, 0);
    file[5 * 4_096..6 * 4_096][..16].copy_from_slice(&leaf(5, &[]));
    assert_eq!(read(&file).unwrap()[0], ("key".into(), vec![]));
}

#[test]
fn bytes_after_the_last_page_are_ignored() {
    let file = [file(4_096, 0), vec![7; 32]].concat();
    assert_eq!(read(&file), Ok(expected()));
}
