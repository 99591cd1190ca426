//! Damaged files: reading always ends, and returns rows or the defect.

use super::round_trip::random_buckets;
use super::*;

/// Files damaged by [`random_damage_is_an_error_or_changes_rows`].
const DAMAGED_FILES: usize = 4_000;

/// Reads a file that may be damaged, and asserts that its rows are no longer than the file.
fn survive(file: &[u8]) -> Result<(), FileDamage> {
    let (seen, end) = look(file);
    assert!(seen.row_bytes <= file.len(), "rows come from bytes of the file");
    end
}

/// A random damage, with its description.
fn damage(file: &mut Vec<u8>, prng: &mut Prng) {
    let at = |prng: &mut Prng, file: &Vec<u8>| prng.below(file.len() as u64) as usize;
    let page = |prng: &mut Prng, file: &Vec<u8>| prng.below((file.len() / PAGE_BYTES) as u64) as usize * PAGE_BYTES;
    match prng.below(7) {
        0 => {
            for _ in 0..=prng.below(20) {
                let place = at(prng, file);
                file[place] ^= 1 << prng.below(8);
            }
        }
        1 => file.truncate(at(prng, file)),
        2 => {
            let page = page(prng, file);
            file[page..page + PAGE_BYTES].fill(0);
        }
        3 => {
            // A page copied over another.
            let (from, to) = (page(prng, file), page(prng, file));
            file.copy_within(from..from + PAGE_BYTES, to);
        }
        4 => {
            // Numbers in the first bytes of a page: head, positions, lengths, children.
            let place = page(prng, file) + prng.below(64) as usize * 4;
            let number = [0, 1, 3, 0xffff, u32::MAX][prng.below(5) as usize];
            file[place..place + 4].copy_from_slice(&number.to_le_bytes());
        }
        5 => {
            // A reference to some page.
            let place = page(prng, file) + prng.below(64) as usize * 8;
            let page = (page(prng, file) / PAGE_BYTES) as u64;
            file[place..place + 8].copy_from_slice(&page.to_le_bytes());
        }
        _ => {
            let place = at(prng, file);
            let end = (place + prng.below(600) as usize).min(file.len());
            file[place..end]
                .iter_mut()
                .for_each(|byte| *byte = prng.next_u64() as u8);
        }
    }
}

#[test]
fn random_damage_is_an_error_or_changes_rows() {
    let mut prng = Prng::new(3).fork("damage");
    let files: Vec<Vec<u8>> = (0..12)
        .map(|_| {
            let mut buckets = random_buckets(&mut prng);
            buckets.retain(|(_, rows)| rows.iter().all(|(_, value)| value.len() < 100_000));
            file_of(&buckets)
        })
        .chain([file_of(&one_bucket(rows(40, 1_300, 5)))])
        .collect();
    let mut refused = 0;
    for round in 0..DAMAGED_FILES {
        let mut file = files[round % files.len()].clone();
        for _ in 0..=prng.below(2) {
            if file.len() >= PAGE_BYTES {
                damage(&mut file, &mut prng);
            }
        }
        refused += usize::from(survive(&file).is_err());
    }
    assert!(refused > DAMAGED_FILES / 4, "{refused} were refused");
}

/// A small tree: three leaves below a branch, in a bucket of the root.
fn small() -> Vec<u8> {
    let file = file_of(&one_bucket(rows(6, 1_344, 1)));
    assert_eq!(
        nodes(&file).iter().map(|(page, ..)| *page).collect::<Vec<_>>(),
        [2, 3, 4, 5, 6]
    );
    file
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = small();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn a_defect_is_reported_with_its_page() {
    let (leaf, next_leaf, branch, root) = (2 * 4_096, 3 * 4_096, 5 * 4_096, 6 * 4_096);
    // Elements begin at 16; in a branch: position, length of the key, child. The root's value follows its one key.
    let child = branch + 16 + 8;
    let bucket_root = root + 16 + 16 + 3;
    let cases = [
        (with(leaf, &[9]), 2, "its number is that of another page"),
        (with(leaf + 8, &[1]), 2, "an element does not fit it"),
        (with(leaf + 8, &[4]), 2, "it is neither a branch nor a leaf"),
        (with(leaf + 8, &[3]), 2, "it is neither a branch nor a leaf"),
        (with(leaf + 10, &[255, 255]), 2, "an element does not fit it"),
        (with(leaf + 12, &[1]), 3, "it is in the trees twice"),
        (with(leaf + 12, &[200]), 2, "it extends beyond the end of the file"),
        (with(leaf + 16, &[2]), 2, "an element has unknown flags"),
        (with(leaf + 16, &[1]), 2, "a bucket within a bucket"),
        (with(leaf + 20, &[0]), 2, "an element does not fit it"),
        (with(leaf + 24, &[255; 4]), 2, "an element does not fit it"),
        (with(leaf + 28, &[255; 4]), 2, "an element does not fit it"),
        (with(next_leaf + 16 + 32, b"z"), 3, "its keys do not ascend"),
        (with(branch + 10, &[0]), 5, "it is a branch without children"),
        (
            with(child, &[3, 0, 0, 0, 1]),
            0x01_0000_0003,
            "it is no page of the file, and a branch refers to it",
        ),
        (
            with(child, &[1]),
            1,
            "it is no page of the file, and a branch refers to it",
        ),
        (with(child, &[3]), 3, "its keys are not where they belong in the tree"),
        (with(child, &[5]), 5, "it is in the trees twice"),
        (with(child, &[6]), 6, "it is in the trees twice"),
        (with(child + 16, &[2]), 2, "it is in the trees twice"),
        (with(bucket_root, &[7]), 7, "it is neither a branch nor a leaf"),
        (
            with(bucket_root, &[8]),
            8,
            "it is no page of the file, and a bucket refers to it",
        ),
        (with(root + 16, &[0]), 6, "a row that is in no bucket"),
        (with(root + 28, &[15]), 6, "a bucket has too short a value"),
        (small()[..6 * 4_096 + 9].to_vec(), 6, "the file ends before it"),
        (small()[..70].to_vec(), 0, "the file ends within it"),
        (b"SQLite format 3".repeat(10), 0, "it is no meta page of bbolt"),
    ];
    for (number, (file, page, cause)) in cases.into_iter().enumerate() {
        let damage = survive(&file).expect_err(cause);
        assert_eq!((damage.page, damage.cause), (page, cause), "case {number}");
    }
    let damage = survive(&with(leaf, &[9])).unwrap_err();
    assert_eq!(
        damage.to_string(),
        "page 2 at offset 8192: its number is that of another page"
    );
    assert_eq!(
        damage.of_file("a.snap.db").to_string(),
        "a.snap.db is corrupt at offset 8192: page 2: its number is that of another page"
    );
}

#[test]
fn keys_outside_the_bounds_of_their_branch_are_refused() {
    // The first keys of the second and third leaf are below their lower bounds, and the last key of the first leaf is
    // above its upper bound.
    for (at, byte) in [
        (3 * 4_096 + 16 + 32, b'.'),
        (4 * 4_096 + 16 + 32, b'.'),
        (2 * 4_096 + 16 + 32 + 1_345, b'9'),
    ] {
        let damage = survive(&with(at, &[byte])).unwrap_err();
        assert_eq!(damage.cause, "its keys are not where they belong in the tree");
    }
}

#[test]
fn an_inline_bucket_is_checked_too() {
    let file = file_of(&vec![("alarm".into(), vec![])]);
    let page = 2 * 4_096 + 16 + 16 + 5 + 16;
    for (at, byte, cause) in [
        (8, 1, "it is a branch without children"),
        (8, 4, "it is neither a branch nor a leaf"),
        (10, 1, "its table of elements does not fit it"),
    ] {
        let mut file = file.clone();
        file[page + at] = byte;
        assert_eq!(survive(&file).unwrap_err().cause, cause);
    }
}

#[test]
fn one_meta_page_is_enough() {
    let expected = read(&small());
    for page in [0, 1] {
        let file = with(page * 4_096 + 20, &[77]);
        assert_eq!(read(&file), expected);
    }
    let mut neither = with(20, &[77]);
    neither[4_096 + 20] = 77;
    assert_eq!(survive(&neither).unwrap_err().cause, "its format has another version");
}

#[test]
fn a_tree_deeper_than_any_real_one_is_refused() {
    // Branches of one child each, which no writer makes.
    let mut file = vec![0; 2 * 4_096];
    let levels = 40_u64;
    for level in 0..levels {
        let mut page = Vec::new();
        page.extend_from_slice(&(2 + level).to_le_bytes());
        page.extend_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0]);
        page.extend_from_slice(&(3 + level).to_le_bytes());
        page.push(b'k');
        page.resize(4_096, 0);
        file.extend_from_slice(&page);
    }
    file.extend_from_slice(&[0; 4_096]);
    foreign::set_meta(&mut file, 0, 4_096, 2, 3 + levels, 9);
    assert_eq!(survive(&file).unwrap_err().cause, "the tree is too deep");
}
