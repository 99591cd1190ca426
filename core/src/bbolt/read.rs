//! Reading a file part by part. The reader returns which part it needs next, and rows as it reads them. It keeps in
//! memory one node for each level of the current tree, a bit for each page, and the names and inline pages of the
//! buckets.
//!
//! Everything it reads is checked: a page must have the expected number and lie below the file's high water, belong to
//! one tree only, and contain its elements; keys must ascend and stay within the bounds that the branches above set. So
//! a walk ends, and the rows it returns are no larger than the file. The free list is not read.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::page::{BUCKET_BYTES, BucketHead, FIRST_PAGE, META_BYTES, MetaPage, PageHead, ReadNode};
use crate::error::Fault;
use crate::limits::{MAX_DATABASE_BUCKETS, MAX_DATABASE_DEPTH, MAX_DATABASE_NODE_BYTES};

/// Page sizes that a file may have, in bytes: from the minimum of bbolt to the largest page of a system that etcd runs
/// on.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1_024..=65_536;

/// A part of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilePart {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// Its length.
    pub bytes: usize,
}

/// The next step of reading a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FileStep {
    /// The reader needs this part of the file, by [`feed`](FileReader::feed).
    Read(FilePart),
    /// A row of the bucket that was entered: its key and its value.
    Row(Bytes, Bytes),
    /// All buckets are found, or all rows of the entered bucket are read.
    Done,
}

/// A defect of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileDamage {
    /// The page.
    pub page: u64,
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// The defect, as text.
    pub cause: &'static str,
}

impl FileDamage {
    /// The fault of the file with this name.
    #[must_use]
    pub fn of_file(self, file: &str) -> Fault {
        Fault::Corrupt {
            file: file.to_owned(),
            offset: self.offset,
            cause: format!("page {}: {}", self.page, self.cause),
        }
    }
}

impl fmt::Display for FileDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} at offset {}: {}", self.page, self.offset, self.cause)
    }
}

impl std::error::Error for FileDamage {}

/// Reads the buckets of a file, and then the rows of each one that is [entered](Self::enter), in any order of buckets.
///
/// Call [`step`](Self::step) until it returns that it is done: once for the buckets, and once for each bucket.
#[derive(Debug)]
pub struct FileReader {
    file_bytes: u64,
    parts: Parts,
    stage: ReadStage,
    layout: Layout,
    walk: Walk,
    buckets: BTreeMap<Bytes, BucketPlace>,
}

/// The place of a bucket's rows.
#[derive(Clone, Debug)]
enum BucketPlace {
    /// In the tree with this root.
    Tree(u64),
    /// In a page inside the bucket's value.
    Inline(Bytes),
}

#[derive(Clone, Copy, Debug)]
enum ReadStage {
    /// Reads meta page 0.
    FirstMeta,
    /// Meta page 0 was read; reads page 1.
    SecondMeta(MetaPage),
    /// Meta page 0 has this defect. Looks for meta page 1 at the offset that it has if pages are of this size, in
    /// bytes.
    Search(&'static str, u32),
    /// Walks the root's tree.
    Buckets,
    /// Walks a bucket's tree.
    Rows,
    /// Waits for [`FileReader::enter`].
    Idle,
}

/// The part of the file that was asked for, and its bytes once they were fed.
#[derive(Debug, Default)]
struct Parts {
    asked: Option<FilePart>,
    fed: Option<Bytes>,
}

impl Parts {
    /// The bytes of a part, if they were fed; otherwise asks for the part.
    fn take(&mut self, extent: FilePart) -> Option<Bytes> {
        if self.asked == Some(extent)
            && let Some(fed) = self.fed.take()
        {
            self.asked = None;
            return Some(fed);
        }
        self.asked = Some(extent);
        None
    }
}

/// The file's layout, by its meta pages, and the pages read so far.
#[derive(Debug, Default)]
struct Layout {
    page_bytes: u64,
    /// One more than the highest page number.
    high_water: u64,
    /// A bit for each page that was read.
    read: Vec<u64>,
}

impl Layout {
    fn damage(&self, page: u64, cause: &'static str) -> FileDamage {
        FileDamage {
            page,
            offset: page.saturating_mul(self.page_bytes),
            cause,
        }
    }

    /// Checks that a page is within the file.
    fn check(&self, page: u64, referrer: &'static str) -> Result<(), FileDamage> {
        if (FIRST_PAGE..self.high_water).contains(&page) {
            return Ok(());
        }
        Err(self.damage(page, referrer))
    }

    /// Marks the pages of a node as read.
    fn visit(&mut self, page: u64, overflow: u32) -> Result<(), FileDamage> {
        if u64::from(overflow) >= self.high_water - page {
            return Err(self.damage(page, "it extends beyond the end of the file"));
        }
        for page in page..=page + u64::from(overflow) {
            let word = usize::try_from(page / 64).expect("it was allocated");
            let bit = 1 << (page % 64);
            if self.read[word] & bit != 0 {
                return Err(self.damage(page, "it is in the trees twice"));
            }
            self.read[word] |= bit;
        }
        Ok(())
    }
}

/// A walk through a tree.
#[derive(Debug, Default)]
struct Walk {
    /// From the root to the current node: each node, and the index of its next element.
    path: Vec<(ReadNode, usize)>,
    /// The page to be read next.
    next: Option<NextPage>,
    /// The last key of the leaf that was read last.
    last: Option<Bytes>,
    /// The lower bound of the next keys, from the branches above.
    floor: Option<Bytes>,
    /// The page of the node that was read last, for reports of damage.
    page: u64,
}

#[derive(Debug)]
struct NextPage {
    id: u64,
    /// Its first page, if it was read and others belong to it.
    begun: Option<Bytes>,
}

impl FileReader {
    /// A reader of a file of this length.
    #[must_use]
    pub fn new(file_bytes: u64) -> Self {
        Self {
            file_bytes,
            parts: Parts::default(),
            stage: ReadStage::FirstMeta,
            layout: Layout::default(),
            walk: Walk::default(),
            buckets: BTreeMap::new(),
        }
    }

    /// Gives the reader the part that it asked for. If the part is shorter, the file ends there.
    pub fn feed(&mut self, part: Bytes) {
        self.parts.fed = Some(part);
    }

    /// The names of the buckets that were not entered yet, in order.
    pub fn buckets(&self) -> impl Iterator<Item = &Bytes> {
        self.buckets.keys()
    }

    /// Begins to read the rows of a bucket. Returns whether there is such a bucket; each can be read once.
    pub fn enter(&mut self, bucket: &[u8]) -> bool {
        let Some(place) = self.buckets.remove(bucket) else {
            return false;
        };
        self.walk = Walk::default();
        match place {
            BucketPlace::Tree(root) => self.walk.go_to(root),
            BucketPlace::Inline(page) => {
                let node = ReadNode::read(page).expect("it was read when the bucket was found");
                self.walk.path.push((node, 0));
            }
        }
        self.stage = ReadStage::Rows;
        true
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// The defect of the file. The reader must not be used after that.
    pub fn step(&mut self) -> Result<FileStep, FileDamage> {
        loop {
            match self.stage {
                ReadStage::FirstMeta => {
                    let Some(part) = self.parts.take(meta_extent(0)) else {
                        return Ok(FileStep::Read(meta_extent(0)));
                    };
                    self.stage = match MetaPage::read(&part) {
                        Ok(meta) => ReadStage::SecondMeta(meta),
                        Err(cause) => ReadStage::Search(cause, *PAGE_SIZES.start()),
                    };
                }
                ReadStage::SecondMeta(first) => {
                    let extent = meta_extent(u64::from(first.page_bytes));
                    let Some(part) = self.parts.take(extent) else {
                        return Ok(FileStep::Read(extent));
                    };
                    let second = MetaPage::read(&part).ok();
                    let is_newer = |second: &MetaPage| {
                        second.page_bytes == first.page_bytes && second.transaction > first.transaction
                    };
                    self.begin(second.filter(is_newer).unwrap_or(first))?;
                }
                ReadStage::Search(cause, page_bytes) => {
                    if !PAGE_SIZES.contains(&page_bytes) {
                        return Err(self.layout.damage(0, cause));
                    }
                    let extent = meta_extent(u64::from(page_bytes));
                    let Some(part) = self.parts.take(extent) else {
                        return Ok(FileStep::Read(extent));
                    };
                    match MetaPage::read(&part) {
                        Ok(meta) if meta.page_bytes == page_bytes => self.begin(meta)?,
                        _ => self.stage = ReadStage::Search(cause, page_bytes * 2),
                    }
                }
                ReadStage::Buckets => match self.walk.next(&mut self.layout, &mut self.parts)? {
                    Walked::Read(extent) => return Ok(FileStep::Read(extent)),
                    Walked::Element(name, value, true) => self.found_bucket(name, &value)?,
                    Walked::Element(_, _, false) => return Err(self.damage("a row that is in no bucket")),
                    Walked::Done => self.stage = ReadStage::Idle,
                },
                ReadStage::Rows => match self.walk.next(&mut self.layout, &mut self.parts)? {
                    Walked::Read(extent) => return Ok(FileStep::Read(extent)),
                    Walked::Element(key, value, false) => return Ok(FileStep::Row(key, value)),
                    Walked::Element(_, _, true) => return Err(self.damage("a bucket within a bucket")),
                    Walked::Done => self.stage = ReadStage::Idle,
                },
                ReadStage::Idle => return Ok(FileStep::Done),
            }
        }
    }

    fn damage(&self, cause: &'static str) -> FileDamage {
        self.layout.damage(self.walk.page, cause)
    }

    /// Begins with the buckets, once the valid meta page is known.
    fn begin(&mut self, meta: MetaPage) -> Result<(), FileDamage> {
        let page_bytes = meta.page_bytes;
        if !page_bytes.is_power_of_two() || !PAGE_SIZES.contains(&page_bytes) {
            return Err(self.layout.damage(0, "its page size is not valid"));
        }
        self.layout.page_bytes = u64::from(page_bytes);
        if meta.high_water > self.file_bytes / self.layout.page_bytes {
            let end = self.file_bytes / self.layout.page_bytes;
            return Err(self.layout.damage(end, "the file ends before it"));
        }
        let words = meta.high_water.div_ceil(64);
        self.layout.read = vec![0; usize::try_from(words).expect("the file is shorter than memory can be")];
        self.layout.high_water = meta.high_water;
        self.layout
            .check(meta.root, "it is no page of the file, and the meta page refers to it")?;
        self.walk.go_to(meta.root);
        self.stage = ReadStage::Buckets;
        Ok(())
    }

    fn found_bucket(&mut self, name: Bytes, value: &[u8]) -> Result<(), FileDamage> {
        if self.buckets.len() >= MAX_DATABASE_BUCKETS {
            return Err(self.damage("there are too many buckets"));
        }
        let head = BucketHead::read(value).ok_or_else(|| self.damage("a bucket has too short a value"))?;
        let place = if head.root == 0 {
            let page = &value[BUCKET_BYTES..];
            if page.len() as u64 > self.layout.page_bytes {
                return Err(self.damage("the page within a bucket is too long"));
            }
            let page = Bytes::copy_from_slice(page);
            let node = ReadNode::read(page.clone()).map_err(|cause| self.damage(cause))?;
            if !node.is_leaf {
                return Err(self.damage("the page within a bucket is no leaf"));
            }
            BucketPlace::Inline(page)
        } else {
            self.layout
                .check(head.root, "it is no page of the file, and a bucket refers to it")?;
            BucketPlace::Tree(head.root)
        };
        self.buckets.insert(Bytes::copy_from_slice(&name), place);
        Ok(())
    }
}

/// The part of the file with the meta page at this offset.
fn meta_extent(offset: u64) -> FilePart {
    FilePart {
        offset,
        bytes: META_BYTES,
    }
}

/// The next step of a walk.
enum Walked {
    Read(FilePart),
    /// Key, value, and whether the value is a bucket.
    Element(Bytes, Bytes, bool),
    Done,
}

impl Walk {
    fn go_to(&mut self, id: u64) {
        self.next = Some(NextPage { id, begun: None });
    }

    fn next(&mut self, layout: &mut Layout, parts: &mut Parts) -> Result<Walked, FileDamage> {
        loop {
            if self.next.is_some() {
                if let Some(extent) = self.load(layout, parts)? {
                    return Ok(Walked::Read(extent));
                }
                continue;
            }
            let Some((node, at)) = self.path.last_mut() else {
                return Ok(Walked::Done);
            };
            if *at == node.count {
                self.path.pop();
                continue;
            }
            let index = *at;
            *at += 1;
            if node.is_leaf {
                let element = node.leaf(index);
                return Ok(Walked::Element(element.key, element.value, element.is_bucket));
            }
            let (key, child) = node.branch(index);
            self.descend(layout, &key, child)?;
        }
    }

    /// Goes to a child, in which no key is less than `key`.
    fn descend(&mut self, layout: &Layout, key: &[u8], child: u64) -> Result<(), FileDamage> {
        self.check_order(layout, key)?;
        layout.check(child, "it is no page of the file, and a branch refers to it")?;
        self.floor = Some(Bytes::copy_from_slice(key));
        self.go_to(child);
        Ok(())
    }

    fn check_order(&self, layout: &Layout, key: &[u8]) -> Result<(), FileDamage> {
        let is_low = self.floor.as_ref().is_some_and(|floor| key < &floor[..]);
        if is_low || self.last.as_ref().is_some_and(|last| key <= &last[..]) {
            return Err(layout.damage(self.page, "its keys are not where they belong in the tree"));
        }
        Ok(())
    }

    /// Reads the next page with the pages that belong to it. Returns the part of the file that is missing for this, if
    /// any.
    fn load(&mut self, layout: &mut Layout, parts: &mut Parts) -> Result<Option<FilePart>, FileDamage> {
        let Some(NextPage { id, begun }) = &mut self.next else {
            return Ok(None);
        };
        let id = *id;
        let page_bytes = usize::try_from(layout.page_bytes).expect("a page has 64 KiB at most");
        let Some(first) = begun.clone() else {
            let extent = FilePart {
                offset: id * layout.page_bytes,
                bytes: page_bytes,
            };
            let Some(part) = parts.take(extent) else {
                return Ok(Some(extent));
            };
            if part.len() != extent.bytes {
                return Err(layout.damage(id, "the file ends within it"));
            }
            let head = PageHead::read(&part).expect("a page is longer than its head");
            if head.id != id {
                return Err(layout.damage(id, "its number is that of another page"));
            }
            layout.visit(id, head.overflow)?;
            if head.overflow == 0 {
                self.open(layout, id, part)?;
            } else {
                *begun = Some(part);
            }
            return Ok(None);
        };
        let head = PageHead::read(&first).expect("a page is longer than its head");
        let more = usize::try_from(head.overflow)
            .ok()
            .and_then(|pages| pages.checked_mul(page_bytes));
        let Some(more) = more.filter(|more| *more <= MAX_DATABASE_NODE_BYTES) else {
            return Err(layout.damage(id, "it is larger than a row can be"));
        };
        let extent = FilePart {
            offset: (id + 1) * layout.page_bytes,
            bytes: more,
        };
        let Some(part) = parts.take(extent) else {
            return Ok(Some(extent));
        };
        if part.len() != extent.bytes {
            return Err(layout.damage(id, "the file ends within it"));
        }
        self.open(layout, id, [&first[..], &part].concat().into())?;
        Ok(None)
    }

    /// Enters the node of a page.
    fn open(&mut self, layout: &Layout, id: u64, page: Bytes) -> Result<(), FileDamage> {
        self.next = None;
        self.page = id;
        let node = ReadNode::read(page).map_err(|cause| layout.damage(id, cause))?;
        if self.path.len() >= MAX_DATABASE_DEPTH {
            return Err(layout.damage(id, "the tree is too deep"));
        }
        if node.is_leaf && node.count > 0 {
            self.check_order(layout, &node.leaf(0).key)?;
            self.last = Some(Bytes::copy_from_slice(&node.leaf(node.count - 1).key));
        }
        self.path.push((node, 0));
        Ok(())
    }
}
