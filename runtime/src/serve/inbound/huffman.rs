//! HPACK's Huffman code (RFC 7541, appendix B), for decoding strings. The code is canonical, so the lengths of its
//! words determine them.

/// The length of each byte's word in bits. The last one is that of the end of a string.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
/// Bits of the longest word.
const LONGEST: usize = 30;
/// The symbol for the end of a string; it must not occur in one.
const END: u16 = 256;

/// The code by length of its words.
struct Code {
    /// Symbols, those with shorter words first.
    symbols: [u16; SYMBOLS],
    /// Words of each length.
    words: [u32; LONGEST + 1],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            symbols: [0; SYMBOLS],
            words: [0; LONGEST + 1],
        };
        let (mut length, mut found) = (1, 0);
        while length <= LONGEST {
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[found] = symbol as u16;
                    code.words[length] += 1;
                    found += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        code
    }
}

/// Decodes a string byte by byte; `None` if it is invalid.
pub(super) fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let mut bits = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1)));
    loop {
        // A word's value, the first value of its length, and how many symbols have shorter words.
        let (mut word, mut first, mut shorter) = (0, 0, 0);
        let mut length = 0;
        loop {
            let Some(bit) = bits.next() else {
                // The rest must be fewer than eight bits, all set.
                return (length < 8 && word + 1 == 1 << length).then_some(());
            };
            length += 1;
            word = word << 1 | bit;
            let words = *CODE.words.get(length)?;
            if word < first + words {
                let symbol = CODE.symbols[(shorter + word - first) as usize];
                if symbol == END {
                    return None;
                }
                each(symbol as u8);
                break;
            }
            shorter += words;
            first = (first + words) << 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, |byte| text.push(byte)).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_standard_are_decoded() {
        let table: [(&[u8], &str); 4] = [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[], ""),
        ];
        for (coded, text) in table {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn invalid_strings_are_refused() {
        // The word for the end; padding that is not all ones; padding of a whole byte; a word cut off.
        for coded in [
            [0xff; 4].as_slice(),
            &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbe],
            &[0x07, 0xff, 0xff],
            &[0xff, 0xc0],
        ] {
            assert_eq!(decoded(coded), None, "{coded:?}");
        }
    }
}
