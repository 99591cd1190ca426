//! The checksum of a whole file.

use super::super::FileSum;
use super::*;

/// Checks a file that arrives in pieces of this length.
fn sum(file: &[u8], piece: usize) -> Result<bool, FileDamage> {
    let mut sum = FileSum::default();
    file.chunks(piece).for_each(|bytes| sum.feed(bytes));
    sum.finish()
}

#[test]
fn a_file_comes_in_pieces_of_any_length() {
    let file = file_of(&one_bucket(rows(30, 1_300, 100)));
    for piece in [1, 7, 4_096, 4_176, 5_000, file.len() - 1, file.len()] {
        assert_eq!(sum(&file, piece), Ok(true), "{piece}");
    }
    let with_trailer = [&file[..], &[7; 32]].concat();
    assert_eq!(
        sum(&with_trailer, 1_000),
        Ok(true),
        "bytes after the last page are ignored"
    );
}

#[test]
fn flipped_bits_and_cuts_are_detected() {
    let file = file_of(&one_bucket(rows(1, 3, 30)));
    for bit in (0..file.len() * 8).step_by(11) {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(sum(&damaged, 4_096).is_err(), "bit {bit}");
    }
    for length in (0..file.len()).step_by(7) {
        let is_refused = sum(&file[..length], 4_096).is_err() || read(&file[..length]).is_err();
        assert!(is_refused, "cut at {length}");
    }
}

#[test]
fn a_file_that_bbolt_has_changed_has_no_checksum() {
    let mut file = file_of(&one_bucket(rows(3, 1_300, 100)));
    let pages = (file.len() / PAGE_BYTES) as u64;
    let root = pages - 2;
    foreign::set_meta(&mut file, 1, 4_096, root, pages, 0x5175_6f69_6e01);
    file[3 * PAGE_BYTES - 1] ^= 1;
    assert_eq!(sum(&file, 4_096), Ok(false));
    assert_eq!(sum(b"", 1), Ok(false));
}
