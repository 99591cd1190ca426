//! Pages as bytes: heads, meta pages, and the elements of branches and leaves. All numbers are little endian.

use std::ops::Range;

use bytes::{Buf as _, BufMut, Bytes};

/// The page size of the files that are written here, in bytes. It is etcd's page size on most machines.
pub const PAGE_BYTES: usize = 4_096;

/// Bytes of a page's head.
pub(super) const HEAD_BYTES: usize = 16;
/// Bytes of an element in the table of a node, without its key and value.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Bytes at the beginning of a bucket's value, before its inline page.
pub(super) const BUCKET_BYTES: usize = 16;
/// Bytes of a meta page that are used, with its head.
pub(super) const META_BYTES: usize = HEAD_BYTES + 64;
/// The part of a meta page that its checksum covers.
const META_SUMMED: Range<usize> = HEAD_BYTES..HEAD_BYTES + 56;

/// The first page that is not a meta page.
pub(super) const FIRST_PAGE: u64 = 2;

/// The flag of a leaf's element whose value is a bucket.
pub(super) const IS_BUCKET: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// The kind of a page: its flags equal one of these.
pub(super) mod flags {
    pub(in super::super) const BRANCH: u16 = 0x01;
    pub(in super::super) const LEAF: u16 = 0x02;
    pub(in super::super) const META: u16 = 0x04;
    pub(in super::super) const FREE_LIST: u16 = 0x10;
}

/// The head of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PageHead {
    /// Its number; 0 for a page inside a bucket's value.
    pub(super) id: u64,
    pub(super) flags: u16,
    /// The number of its elements.
    pub(super) count: u16,
    /// The number of pages that follow and belong to it.
    pub(super) overflow: u32,
}

impl PageHead {
    pub(super) fn write(&self, page: &mut impl BufMut) {
        page.put_u64_le(self.id);
        page.put_u16_le(self.flags);
        page.put_u16_le(self.count);
        page.put_u32_le(self.overflow);
    }

    /// Reads the head of a page; `None` if the page is too short.
    pub(super) fn read(mut page: &[u8]) -> Option<Self> {
        Some(Self {
            id: page.try_get_u64_le().ok()?,
            flags: page.try_get_u16_le().ok()?,
            count: page.try_get_u16_le().ok()?,
            overflow: page.try_get_u32_le().ok()?,
        })
    }
}

/// A meta page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MetaPage {
    /// Bytes of a page of the file.
    pub(super) page_bytes: u32,
    /// The root of the tree of buckets.
    pub(super) root: u64,
    /// The page of the free list; `u64::MAX` if the file has none, as in etcd's files.
    pub(super) free_list: u64,
    /// The number of the next new page. All pages of the file have lower numbers.
    pub(super) high_water: u64,
    /// The id of the transaction that wrote it.
    pub(super) transaction: u64,
}

impl MetaPage {
    /// Appends meta page `id`, without the padding up to the end of the page.
    pub(super) fn write(&self, id: u64, page: &mut Vec<u8>) {
        let head = PageHead {
            id,
            flags: flags::META,
            count: 0,
            overflow: 0,
        };
        let start = page.len();
        head.write(page);
        page.put_u32_le(MAGIC);
        page.put_u32_le(VERSION);
        page.put_u32_le(self.page_bytes);
        page.put_u32_le(0);
        page.put_u64_le(self.root);
        // The sequence of the root bucket, which etcd does not use.
        page.put_u64_le(0);
        page.put_u64_le(self.free_list);
        page.put_u64_le(self.high_water);
        page.put_u64_le(self.transaction);
        let checksum = fnv(&page[start..][META_SUMMED]);
        page.put_u64_le(checksum);
    }

    /// Reads a meta page.
    ///
    /// # Errors
    /// The defect of the page, as text.
    pub(super) fn read(page: &[u8]) -> Result<Self, &'static str> {
        let page = page.get(..META_BYTES).ok_or("the file ends within it")?;
        let mut fields = &page[HEAD_BYTES..];
        if fields.get_u32_le() != MAGIC {
            return Err("it is no meta page of bbolt");
        }
        if fields.get_u32_le() != VERSION {
            return Err("its format has another version");
        }
        let page_bytes = fields.get_u32_le();
        let (_flags, root, _sequence) = (fields.get_u32_le(), fields.get_u64_le(), fields.get_u64_le());
        let meta = Self {
            page_bytes,
            root,
            free_list: fields.get_u64_le(),
            high_water: fields.get_u64_le(),
            transaction: fields.get_u64_le(),
        };
        if fields.get_u64_le() != fnv(&page[META_SUMMED]) {
            return Err("its checksum does not match");
        }
        Ok(meta)
    }
}

/// FNV-1a of 64 bits, the checksum of meta pages.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The beginning of a bucket's value. If its root is 0, the bucket's only page follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct BucketHead {
    pub(super) root: u64,
}

impl BucketHead {
    pub(super) fn write(self, value: &mut impl BufMut) {
        value.put_u64_le(self.root);
        value.put_u64_le(0);
    }

    /// Reads the beginning of a bucket's value; `None` if the value is too short.
    pub(super) fn read(mut value: &[u8]) -> Option<Self> {
        let root = value.try_get_u64_le().ok()?;
        value.try_get_u64_le().ok()?;
        Some(Self { root })
    }
}

/// A node that was read completely: every element lies within it, and its keys ascend.
#[derive(Debug)]
pub(super) struct ReadNode {
    page: Bytes,
    pub(super) is_leaf: bool,
    pub(super) count: usize,
}

/// An element of a leaf.
pub(super) struct LeafElement {
    pub(super) is_bucket: bool,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// An element of a node as it is encoded: the position of its key, and the lengths of key and value. In a branch there
/// is no value, and `page` is the child; in a leaf `page` is 0.
struct RawElement {
    flags: u32,
    key_at: usize,
    key_len: usize,
    value_len: usize,
    page: u64,
}

impl RawElement {
    /// Reads the element at `index` of the table; its lengths are not checked yet.
    fn read(page: &[u8], is_leaf: bool, index: usize) -> Option<Self> {
        let at = HEAD_BYTES + index * ELEMENT_BYTES;
        let mut element = page.get(at..at + ELEMENT_BYTES)?;
        let flags = if is_leaf { element.get_u32_le() } else { 0 };
        let position = element.get_u32_le() as usize;
        let key_len = element.get_u32_le() as usize;
        let (value_len, page) = if is_leaf {
            (element.get_u32_le() as usize, 0)
        } else {
            (0, element.get_u64_le())
        };
        Some(Self {
            flags,
            key_at: at.checked_add(position)?,
            key_len,
            value_len,
            page,
        })
    }

    fn key(&self) -> Range<usize> {
        self.key_at..self.key_at + self.key_len
    }

    fn value(&self) -> Range<usize> {
        let start = self.key_at + self.key_len;
        start..start + self.value_len
    }
}

impl ReadNode {
    /// Reads a page with the pages that belong to it.
    ///
    /// # Errors
    /// The defect of the page, as text.
    pub(super) fn read(page: Bytes) -> Result<Self, &'static str> {
        let head = PageHead::read(&page).ok_or("it ends within its head")?;
        let is_leaf = match head.flags {
            flags::LEAF => true,
            flags::BRANCH => false,
            _ => return Err("it is neither a branch nor a leaf"),
        };
        let count = usize::from(head.count);
        if count == 0 && !is_leaf {
            return Err("it is a branch without children");
        }
        // The key of an element begins after the value of the element before it, so no byte belongs to two elements.
        let mut free = HEAD_BYTES + count * ELEMENT_BYTES;
        let mut last: Option<&[u8]> = None;
        for index in 0..count {
            let element = RawElement::read(&page, is_leaf, index).ok_or("its table of elements does not fit it")?;
            let end = element.key_at.checked_add(element.key_len);
            let end = end.and_then(|end| end.checked_add(element.value_len));
            if element.key_at < free || end.is_none_or(|end| end > page.len()) {
                return Err("an element does not fit it");
            }
            free = element.value().end;
            if element.flags & !IS_BUCKET != 0 {
                return Err("an element has unknown flags");
            }
            let key = &page[element.key()];
            if last.is_some_and(|last| last >= key) {
                return Err("its keys do not ascend");
            }
            last = Some(key);
        }
        Ok(Self { page, is_leaf, count })
    }

    fn element(&self, index: usize) -> RawElement {
        RawElement::read(&self.page, self.is_leaf, index).expect("all elements were looked at")
    }

    /// An element of a leaf.
    pub(super) fn leaf(&self, index: usize) -> LeafElement {
        let element = self.element(index);
        LeafElement {
            is_bucket: element.flags & IS_BUCKET != 0,
            key: self.page.slice(element.key()),
            value: self.page.slice(element.value()),
        }
    }

    /// An element of a branch: the least key in the child, and the page of the child.
    pub(super) fn branch(&self, index: usize) -> (Bytes, u64) {
        let element = self.element(index);
        (self.page.slice(element.key()), element.page)
    }
}
