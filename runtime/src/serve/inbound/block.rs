//! Rewrites the header blocks of requests so that hyper accepts what grpc-go accepts: see the parent module.
//!
//! A block is read instruction by instruction (RFC 7541). A changed header keeps its length. So the dynamic tables of
//! client and server evict the same entries, and no other instruction needs to change.

use std::collections::VecDeque;

use http::uri::{Authority, PathAndQuery, Scheme};

use super::huffman;

/// Bytes of the dynamic table by default; our SETTINGS do not change it.
const TABLE_BYTES: usize = 4096;
/// Bytes that an entry of the table counts, besides its name and value.
const ENTRY_BYTES: usize = 32;
/// Number of valid paths that a connection remembers.
const GOOD_PATHS: usize = 4;
/// Longest remembered path; the paths of all methods are shorter.
const GOOD_PATH_BYTES: usize = 64;
/// The instruction for `:scheme: http` of the static table.
const SCHEME_HTTP: u8 = 0x86;
/// The index of `:authority` in the static table; its value is empty.
const AUTHORITY_EMPTY: usize = 1;
/// The instruction for an authority that is not put into the table.
const AUTHORITY_SOME: &[u8] = &[0x01, 0x01, b'-'];

/// Headers of a connection, not of a request; hyper refuses them and grpc-go ignores them.
const REFUSED: [&str; 4] = ["keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
/// The index of one of them in the static table.
const TRANSFER_ENCODING: usize = 57;

/// Lengths of the names of the static table.
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4,
    4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

/// The kinds of headers that matter here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    Authority,
    Path,
    Scheme,
    Te,
    /// Refused by hyper, whatever its value.
    Refused(&'static str),
    Other,
}

/// The relevant part of an entry of the dynamic table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    field: Field,
    name: usize,
    value: usize,
}

impl Entry {
    fn bytes(self) -> usize {
        self.name + self.value + ENTRY_BYTES
    }
}

/// The state that the blocks of one direction of a connection share.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Newest entry first.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// The newest valid paths that are not kept in the table, in their coded form: a client uses few paths, and sends
    /// one with every request.
    good_paths: [Box<[u8]>; GOOD_PATHS],
    /// The place that is overwritten next.
    oldest_path: usize,
}

/// A block cannot be read: the contents of the table are unknown from then on.
#[derive(Debug)]
pub(super) struct Unreadable;

/// A string in a block.
#[derive(Clone, Copy)]
struct Text<'a> {
    is_coded: bool,
    bytes: &'a [u8],
    /// The string as it came, with its length and coding in front.
    coded: &'a [u8],
}

/// A header that is spelled out.
struct Literal<'a> {
    /// The bits before a spelled-out name that say whether the header is kept in the table.
    kind: u8,
    is_kept: bool,
    field: Field,
    name: usize,
    value: Text<'a>,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES,
            good_paths: Default::default(),
            oldest_path: 0,
        }
    }

    /// Reads a block; returns its replacement, if any header must change.
    pub(super) fn rewrite(&mut self, block: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut changed: Option<Vec<u8>> = None;
        let mut copied = 0;
        let (mut has_path, mut has_scheme) = (false, false);
        let mut after_updates = 0;
        let mut reader = Reader { block, at: 0 };
        while let Some(first) = reader.peek() {
            let start = reader.at;
            let mut replacement = None;
            let field = if first & 0x80 != 0 {
                let index = reader.number(7)?;
                if index == AUTHORITY_EMPTY {
                    replacement = Some(AUTHORITY_SOME.to_vec());
                }
                self.entry(index)?.field
            } else if first & 0xe0 == 0x20 {
                self.resize(reader.number(5)?)?;
                after_updates = reader.at;
                continue;
            } else {
                let literal = self.literal(&mut reader, first)?;
                if self.is_good_path(&literal) {
                    Field::Path
                } else {
                    let (field, value) = literal.replace(&mut replacement)?;
                    if literal.is_kept {
                        let name = literal.name;
                        self.insert(Entry { field, name, value });
                    } else if replacement.is_none() {
                        self.remember_good_path(&literal);
                    }
                    field
                }
            };
            has_path |= field == Field::Path;
            has_scheme |= field == Field::Scheme;
            if let Some(replacement) = replacement {
                let changed = changed.get_or_insert_default();
                changed.extend_from_slice(&block[copied..start]);
                changed.extend_from_slice(&replacement);
                copied = reader.at;
            }
        }
        if has_path && !has_scheme {
            // The scheme comes before every header, and after the updates of the table's size, which are never changed.
            let changed = changed.get_or_insert_default();
            let rest = std::mem::take(changed);
            changed.extend_from_slice(&block[..after_updates]);
            changed.push(SCHEME_HTTP);
            changed.extend_from_slice(rest.get(after_updates..).unwrap_or_default());
            copied = copied.max(after_updates);
        }
        if let Some(changed) = &mut changed {
            changed.extend_from_slice(&block[copied..]);
        }
        Ok(changed)
    }

    fn literal<'a>(&self, reader: &mut Reader<'a>, first: u8) -> Result<Literal<'a>, Unreadable> {
        let is_kept = first & 0x40 != 0;
        let (kind, prefix) = if is_kept { (0x40, 6) } else { (first & 0xf0, 4) };
        let (field, name) = match reader.number(prefix)? {
            0 => reader.text()?.as_name()?,
            index => {
                let entry = self.entry(index)?;
                (entry.field, entry.name)
            }
        };
        Ok(Literal {
            kind,
            is_kept,
            field,
            name,
            value: reader.text()?,
        })
    }

    /// Whether this path was found valid before. It is not kept in the table, so the length of its value is not needed.
    fn is_good_path(&self, literal: &Literal<'_>) -> bool {
        let seen = || self.good_paths.iter().any(|path| **path == *literal.value.coded);
        literal.field == Field::Path && !literal.is_kept && seen()
    }

    fn remember_good_path(&mut self, literal: &Literal<'_>) {
        if literal.field == Field::Path && literal.value.coded.len() <= GOOD_PATH_BYTES {
            self.good_paths[self.oldest_path] = literal.value.coded.into();
            self.oldest_path = (self.oldest_path + 1) % GOOD_PATHS;
        }
    }

    fn entry(&self, index: usize) -> Result<Entry, Unreadable> {
        let Some(at) = index.checked_sub(1) else {
            return Err(Unreadable);
        };
        let Some(name) = STATIC_NAMES.get(at) else {
            return self.table.get(at - STATIC_NAMES.len()).copied().ok_or(Unreadable);
        };
        let field = match index {
            1 => Field::Authority,
            4 | 5 => Field::Path,
            6 | 7 => Field::Scheme,
            TRANSFER_ENCODING => Field::Refused("transfer-encoding"),
            _ => Field::Other,
        };
        // The length of a value matters only in an entry of the dynamic table.
        Ok(Entry {
            field,
            name: usize::from(*name),
            value: 0,
        })
    }

    fn insert(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.table.push_front(entry);
        self.evict();
    }

    fn resize(&mut self, bytes: usize) -> Result<(), Unreadable> {
        if bytes > TABLE_BYTES {
            return Err(Unreadable);
        }
        self.bytes_max = bytes;
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

impl Literal<'_> {
    /// The kind of this header and the length of its value. If the header must change, `replacement` is set.
    fn replace(&self, replacement: &mut Option<Vec<u8>>) -> Result<(Field, usize), Unreadable> {
        match self.field {
            Field::Authority | Field::Scheme => {
                let mut value = self.value.decoded()?;
                let is_good = match self.field {
                    Field::Authority => Authority::try_from(&value[..]).is_ok(),
                    _ => Scheme::try_from(&value[..]).is_ok(),
                };
                if !is_good && value.is_empty() && self.field == Field::Authority && !self.is_kept {
                    *replacement = Some(AUTHORITY_SOME.to_vec());
                } else if !is_good {
                    // The server does not use the value: it only must be valid and of the same length.
                    for byte in value.iter_mut().filter(|byte| !byte.is_ascii_alphanumeric()) {
                        *byte = b'-';
                    }
                    let name = if self.field == Field::Authority {
                        ":authority"
                    } else {
                        ":scheme"
                    };
                    *replacement = Some(spelled(self.kind, name, &value));
                }
                Ok((self.field, value.len()))
            }
            Field::Te => {
                let value = self.value.decoded()?;
                if value == b"trailers" {
                    return Ok((Field::Te, value.len()));
                }
                *replacement = Some(renamed(self.kind, "te", &value));
                Ok((Field::Other, value.len()))
            }
            Field::Refused(name) => {
                let value = self.value.decoded()?;
                *replacement = Some(renamed(self.kind, name, &value));
                Ok((Field::Other, value.len()))
            }
            Field::Path => {
                let mut value = self.value.decoded()?;
                if !value.is_empty() && PathAndQuery::try_from(&value[..]).is_err() {
                    // Neither the old nor the new path names a method, so the call is refused either way.
                    for byte in value
                        .iter_mut()
                        .filter(|byte| !byte.is_ascii_alphanumeric() && **byte != b'/')
                    {
                        *byte = b'-';
                    }
                    value[0] = b'/';
                    *replacement = Some(spelled(self.kind, ":path", &value));
                }
                Ok((Field::Path, value.len()))
            }
            // The length of a value that is not kept is not needed.
            Field::Other if !self.is_kept => Ok((Field::Other, 0)),
            Field::Other => Ok((Field::Other, self.value.length()?)),
        }
    }
}

/// The same header under a meaningless name.
fn renamed(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    spelled(kind, &format!("x{}", &name[1..]), value)
}

/// A header that is spelled out; its strings are shorter than 16 KiB, because they come from one frame.
fn spelled(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    let mut header = vec![kind];
    for text in [name.as_bytes(), value] {
        match text.len().checked_sub(0x7f) {
            None => header.push(text.len() as u8),
            Some(mut rest) => {
                header.push(0x7f);
                while rest >= 0x80 {
                    header.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                header.push(rest as u8);
            }
        }
        header.extend_from_slice(text);
    }
    header
}

impl Text<'_> {
    fn decoded(self) -> Result<Vec<u8>, Unreadable> {
        if !self.is_coded {
            return Ok(self.bytes.to_vec());
        }
        let mut text = Vec::with_capacity(2 * self.bytes.len());
        huffman::decode(self.bytes, |byte| text.push(byte)).ok_or(Unreadable)?;
        Ok(text)
    }

    fn length(self) -> Result<usize, Unreadable> {
        if !self.is_coded {
            return Ok(self.bytes.len());
        }
        let mut length = 0;
        huffman::decode(self.bytes, |_| length += 1).ok_or(Unreadable)?;
        Ok(length)
    }

    fn as_name(self) -> Result<(Field, usize), Unreadable> {
        let name = self.decoded()?;
        let field = match &name[..] {
            b":authority" => Field::Authority,
            b":path" => Field::Path,
            b":scheme" => Field::Scheme,
            b"te" => Field::Te,
            name => {
                let refused = REFUSED.into_iter().find(|refused| refused.as_bytes() == name);
                refused.map_or(Field::Other, Field::Refused)
            }
        };
        Ok((field, name.len()))
    }
}

/// Reads a block from its beginning.
struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let byte = self.peek().ok_or(Unreadable)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number that begins in the last `bits` of a byte.
    fn number(&mut self, bits: u32) -> Result<usize, Unreadable> {
        let most = (1 << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        // A block is shorter than 2^21 bytes.
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    fn text(&mut self) -> Result<Text<'a>, Unreadable> {
        let start = self.at;
        let is_coded = self.peek().ok_or(Unreadable)? & 0x80 != 0;
        let length = self.number(7)?;
        let end = self.at.checked_add(length).ok_or(Unreadable)?;
        let bytes = self.block.get(self.at..end).ok_or(Unreadable)?;
        self.at = end;
        let coded = &self.block[start..end];
        Ok(Text { is_coded, bytes, coded })
    }
}

#[cfg(test)]
mod tests;
