//! Short byte strings that lie beside their own reference count.
//!
//! A `Bytes` made of a vector takes a second allocation for the count once it is cloned, and a second fetch from memory
//! for every clone. There are hundreds of thousands of rows, most of them short, so they go into cells of a few sizes.

use bytes::Bytes;

/// `SIZE` bytes of room, of which the first `len` are used.
struct Cell<const SIZE: usize> {
    len: u16,
    bytes: [u8; SIZE],
}

impl<const SIZE: usize> AsRef<[u8]> for Cell<SIZE> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl<const SIZE: usize> Cell<SIZE> {
    fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
        let mut cell = Self {
            len: len as u16,
            bytes: [0; SIZE],
        };
        fill(&mut cell.bytes[..len]);
        Bytes::from_owner(cell)
    }
}

/// Calls the smallest of these cells that has room.
macro_rules! smallest_cell {
    ($len:expr, $fill:expr, [$($size:literal)*]) => {
        match $len {
            $(..=$size => Cell::<$size>::filled($len, $fill),)*
            _ => {
                let mut bytes = vec![0; $len];
                $fill(&mut bytes[..]);
                Bytes::from(bytes)
            }
        }
    };
}

/// `len` bytes as `fill` leaves them, from zeroes.
pub(super) fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
    // With the count of references (8) and the length (2), each fills a multiple of 16 less the allocator's own 8.
    smallest_cell!(len, fill, [
        30 46 62 78 94 110 126 142 158 174 190 206 222 238 254 270 286 302 318 334 350 366 382 398 414 430 446 462 478 494 510
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_holds_what_was_filled_in() {
        for len in (0..600).chain([65_535, 65_536, 100_000]) {
            let bytes = filled(len, |room| {
                assert!(room.iter().all(|byte| *byte == 0));
                room.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
            });
            let shared = bytes.clone();
            drop(bytes);
            assert!(shared.iter().copied().eq((0..len).map(|at| at as u8)), "{len}");
        }
    }
}
