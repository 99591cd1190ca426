//! Writing a file from rows in order. Each tree is built from its leaves up: on every level one page is open, and a
//! page that is full gets the next number and becomes an element of the level above. So the file is made from its
//! beginning to its end, and memory holds only an open page for each level, and the rows of the open leaf.
//!
//! The last page is an empty free list, so a reader need not search for free pages. bbolt reads only the head of that
//! page, so its last bytes can be a checksum of the whole file, see [`super::sum`].

use bytes::{Bytes, BytesMut};

use super::page::{
    BucketHead, ELEMENT_BYTES, FIRST_PAGE, HEAD_BYTES, IS_BUCKET, META_BYTES, MetaPage, PAGE_BYTES, PageHead, flags,
};
use super::sum::{SUM_BYTES, TRANSACTION};
use crate::error::Fault;

/// The longest value that bbolt stores, in bytes. It is the limit of keys, too: bbolt stores no key above 32 KiB, but
/// reads longer ones.
const MAX_VALUE_BYTES: usize = (1 << 31) - 2;
/// The longest page that is put into the value of a bucket, in bytes, as in bbolt.
const MAX_INLINE_BYTES: usize = PAGE_BYTES / 4;
/// Children that a branch must have before it may be closed. The last of them moves to the next branch, so that both
/// have at least two: bbolt panics when it deletes the last row of a branch with a single child.
const BRANCH_CHILDREN: usize = 3;

/// The result of the first run over the rows, which the second run needs from its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilePlan {
    root: u64,
    pages: u64,
}

impl FilePlan {
    /// The length of the file.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Takes buckets in the order of their names and their rows in the order of their keys, and makes a file of them.
///
/// Give the same buckets and rows first to a [counting](Self::counting) writer, and then to one that
/// [follows](Self::following) its plan.
#[derive(Debug)]
pub struct FileWriter {
    plan: Option<FilePlan>,
    pages: Pages,
    root: TreeBuilder,
    bucket: Option<(Bytes, TreeBuilder)>,
}

impl FileWriter {
    /// A writer that makes no pages, but counts those that a second one will make.
    #[must_use]
    pub fn counting() -> Self {
        Self::new(None)
    }

    /// A writer that makes the pages of a plan.
    #[must_use]
    pub fn following(plan: FilePlan) -> Self {
        let mut writer = Self::new(Some(plan));
        writer.pages.first(plan);
        writer
    }

    fn new(plan: Option<FilePlan>) -> Self {
        Self {
            plan,
            pages: Pages {
                next: FIRST_PAGE,
                made: plan.map(|_| Made::default()),
            },
            root: TreeBuilder::default(),
            bucket: None,
        }
    }

    /// Begins a bucket.
    ///
    /// # Errors
    /// If the name is empty, too long, or not greater than the name before.
    pub fn bucket(&mut self, name: Bytes) -> Result<(), Fault> {
        self.end_bucket()?;
        self.root.check(&name, 0).map_err(|cause| unwritable(&name, cause))?;
        self.bucket = Some((name, TreeBuilder::default()));
        Ok(())
    }

    /// Adds a row to the bucket that was begun last.
    ///
    /// # Errors
    /// If the key is empty or not greater than the key before, or if key or value is too long.
    ///
    /// # Panics
    /// If no bucket was begun.
    pub fn row(&mut self, key: Bytes, value: Bytes) -> Result<(), Fault> {
        let (name, tree) = self.bucket.as_mut().expect("a row belongs to a bucket");
        tree.check(&key, value.len()).map_err(|cause| unwritable(name, cause))?;
        let row = LeafRow { flags: 0, key, value };
        tree.push(row, &mut self.pages);
        Ok(())
    }

    /// Ends the file. Returns its root and its number of pages, which are the plan for the second run.
    ///
    /// # Errors
    /// If root or number of pages differ from the plan.
    pub fn finish(&mut self) -> Result<FilePlan, Fault> {
        self.end_bucket()?;
        let root = std::mem::take(&mut self.root).finish(&mut self.pages);
        self.pages.free_list();
        let found = FilePlan {
            root,
            pages: self.pages.next,
        };
        if self.plan.is_some_and(|plan| plan != found) {
            let cause = "the rows of a database file are not those that were counted".to_owned();
            return Err(Fault::Inconsistent { cause });
        }
        Ok(found)
    }

    /// The number of bytes that were made and not yet taken.
    #[must_use]
    pub fn made_bytes(&self) -> usize {
        self.pages.made.as_ref().map_or(0, |made| made.bytes)
    }

    /// The bytes made since the last call, in pieces of any length.
    pub fn take(&mut self) -> Vec<Bytes> {
        let made = self.pages.made.as_mut().map(|made| {
            made.bytes = 0;
            std::mem::take(&mut made.pieces)
        });
        made.unwrap_or_default()
    }

    fn end_bucket(&mut self) -> Result<(), Fault> {
        let Some((name, tree)) = self.bucket.take() else {
            return Ok(());
        };
        let mut value = BytesMut::new();
        if tree.is_small() {
            BucketHead { root: 0 }.write(&mut value);
            let head = PageHead {
                id: 0,
                flags: flags::LEAF,
                count: element_count(tree.rows.len()),
                overflow: 0,
            };
            head.write(&mut value);
            write_rows(&tree.rows, &mut value);
        } else {
            let root = tree.finish(&mut self.pages);
            BucketHead { root }.write(&mut value);
        }
        let row = LeafRow {
            flags: IS_BUCKET,
            key: name,
            value: value.freeze(),
        };
        self.root.push(row, &mut self.pages);
        Ok(())
    }
}

fn unwritable(bucket: &[u8], cause: &str) -> Fault {
    Fault::Inconsistent {
        cause: format!("bucket {} of a database file: {cause}", bucket.escape_ascii()),
    }
}

/// A row of the open leaf.
#[derive(Debug)]
struct LeafRow {
    flags: u32,
    key: Bytes,
    value: Bytes,
}

impl LeafRow {
    fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len() + self.value.len()
    }
}

/// An element of an open branch.
#[derive(Debug)]
struct BranchChild {
    key: Bytes,
    page: u64,
}

impl BranchChild {
    fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len()
    }
}

/// The open branch of a level.
#[derive(Debug)]
struct OpenBranch {
    children: Vec<BranchChild>,
    bytes: usize,
}

impl OpenBranch {
    fn new() -> Self {
        Self {
            children: Vec::new(),
            bytes: HEAD_BYTES,
        }
    }

    /// Adds a child. If the child does not fit, closes the branch first and returns it as a child for the level above.
    fn push(&mut self, child: BranchChild, pages: &mut Pages) -> Option<BranchChild> {
        let is_full = self.bytes + child.bytes() > PAGE_BYTES && self.children.len() >= BRANCH_CHILDREN;
        let closed = is_full.then(|| {
            let kept = self.children.pop().expect("it has several children");
            let closed = self.close(pages);
            self.add(kept);
            closed
        });
        self.add(child);
        closed
    }

    fn add(&mut self, child: BranchChild) {
        self.bytes += child.bytes();
        self.children.push(child);
    }

    fn close(&mut self, pages: &mut Pages) -> BranchChild {
        let page = pages.branch(&self.children);
        let first = self.children.swap_remove(0);
        *self = Self::new();
        BranchChild { key: first.key, page }
    }
}

/// The tree of a bucket, under construction.
#[derive(Debug)]
struct TreeBuilder {
    rows: Vec<LeafRow>,
    /// Bytes of the open leaf.
    leaf_bytes: usize,
    /// The open branches, from the level above the leaves up.
    branches: Vec<OpenBranch>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            leaf_bytes: HEAD_BYTES,
            branches: Vec::new(),
        }
    }
}

impl TreeBuilder {
    /// The defect of the next row.
    fn check(&self, key: &[u8], value_len: usize) -> Result<(), &'static str> {
        if key.is_empty() || key.len() > MAX_VALUE_BYTES {
            return Err("a key is empty or too long");
        }
        if value_len > MAX_VALUE_BYTES {
            return Err("a value is too long");
        }
        // The last row is always in the open leaf, because that is closed only when another row comes.
        if self.rows.last().is_some_and(|last| last.key[..] >= *key) {
            return Err("its keys do not ascend");
        }
        Ok(())
    }

    fn push(&mut self, row: LeafRow, pages: &mut Pages) {
        if !self.rows.is_empty() && self.leaf_bytes + row.bytes() > PAGE_BYTES {
            let leaf = self.close_leaf(pages);
            self.add(0, leaf, pages);
        }
        self.leaf_bytes += row.bytes();
        self.rows.push(row);
    }

    fn close_leaf(&mut self, pages: &mut Pages) -> BranchChild {
        let page = pages.leaf(&self.rows);
        // Only the root of a file without buckets is a leaf without rows. No branch refers to it, so its key is not
        // used.
        let key = self.rows.drain(..).next().map_or_else(Bytes::new, |row| row.key);
        self.leaf_bytes = HEAD_BYTES;
        BranchChild { key, page }
    }

    /// Adds a child to a level. A branch that this closes becomes a child of the level above.
    fn add(&mut self, mut level: usize, child: BranchChild, pages: &mut Pages) {
        let mut next = Some(child);
        while let Some(child) = next {
            if level == self.branches.len() {
                self.branches.push(OpenBranch::new());
            }
            next = self.branches[level].push(child, pages);
            level += 1;
        }
    }

    /// Whether the tree is one leaf that fits into the value of a bucket.
    fn is_small(&self) -> bool {
        self.branches.is_empty() && self.leaf_bytes <= MAX_INLINE_BYTES
    }

    /// Closes all pages. Returns the page of the root.
    fn finish(mut self, pages: &mut Pages) -> u64 {
        let mut child = self.close_leaf(pages);
        let mut level = 0;
        // A level exists only if a page below it was closed before, so its last branch has at least two children.
        while level < self.branches.len() {
            self.add(level, child, pages);
            child = self.branches[level].close(pages);
            level += 1;
        }
        child.page
    }
}

/// The pages of the file, one after the other.
#[derive(Debug)]
struct Pages {
    /// The number of the next page.
    next: u64,
    /// `None` while pages are only counted.
    made: Option<Made>,
}

/// The bytes of the file.
#[derive(Debug, Default)]
struct Made {
    /// The bytes that were not taken yet.
    pieces: Vec<Bytes>,
    /// Their length.
    bytes: usize,
    /// The CRC-32C of all bytes so far.
    sum: u32,
}

impl Made {
    fn push(&mut self, piece: Bytes) {
        self.sum = crc32c::crc32c_append(self.sum, &piece);
        self.bytes += piece.len();
        self.pieces.push(piece);
    }
}

impl Pages {
    /// The two meta pages.
    fn first(&mut self, plan: FilePlan) {
        let mut first = Vec::with_capacity(PAGE_BYTES * 2);
        for (id, transaction) in [(0, TRANSACTION), (1, TRANSACTION - 1)] {
            let meta = MetaPage {
                page_bytes: PAGE_BYTES as u32,
                root: plan.root,
                free_list: plan.pages - 1,
                high_water: plan.pages,
                transaction,
            };
            meta.write(id, &mut first);
            first.resize(first.len() + PAGE_BYTES - META_BYTES, 0);
        }
        self.made.get_or_insert_default().push(first.into());
    }

    /// The page after all nodes.
    fn free_list(&mut self) {
        let head = PageHead {
            id: self.next,
            flags: flags::FREE_LIST,
            count: 0,
            overflow: 0,
        };
        self.next += 1;
        if let Some(made) = &mut self.made {
            let mut page = Vec::with_capacity(PAGE_BYTES);
            head.write(&mut page);
            page.resize(PAGE_BYTES - SUM_BYTES, 0);
            made.push(page.into());
            made.push(Bytes::copy_from_slice(&made.sum.to_le_bytes()));
        }
    }

    fn leaf(&mut self, rows: &[LeafRow]) -> u64 {
        let bytes = HEAD_BYTES + rows.iter().map(LeafRow::bytes).sum::<usize>();
        self.node(flags::LEAF, rows.len(), bytes, |node| write_rows(rows, node))
    }

    fn branch(&mut self, children: &[BranchChild]) -> u64 {
        let bytes = HEAD_BYTES + children.iter().map(BranchChild::bytes).sum::<usize>();
        self.node(flags::BRANCH, children.len(), bytes, |node| {
            let mut data_at = children.len() * ELEMENT_BYTES;
            for (index, child) in children.iter().enumerate() {
                node.numbers(&[data_at - index * ELEMENT_BYTES, child.key.len()]);
                node.open.extend_from_slice(&child.page.to_le_bytes());
                data_at += child.key.len();
            }
            for child in children {
                node.shared(&child.key);
            }
        })
    }

    /// Makes a node of `bytes` bytes, and returns its page.
    fn node(&mut self, flags: u16, count: usize, bytes: usize, fill: impl FnOnce(&mut NodePieces<'_>)) -> u64 {
        let id = self.next;
        let pages = bytes.div_ceil(PAGE_BYTES);
        self.next += pages as u64;
        if let Some(made) = &mut self.made {
            let head = PageHead {
                id,
                flags,
                count: element_count(count),
                overflow: u32::try_from(pages - 1).expect("a value has less than 2 GiB"),
            };
            let mut open = BytesMut::with_capacity(PAGE_BYTES);
            head.write(&mut open);
            let mut node = NodePieces { open, made };
            fill(&mut node);
            let padding = pages * PAGE_BYTES - bytes;
            node.open.resize(node.open.len() + padding, 0);
            node.made.push(node.open.freeze());
        }
        id
    }
}

fn element_count(count: usize) -> u16 {
    u16::try_from(count).expect("a page has room for fewer elements")
}

/// The buffer to which a leaf is written.
trait LeafSink {
    fn numbers(&mut self, numbers: &[usize]);
    fn shared(&mut self, bytes: &Bytes);
}

/// Writes the elements of a leaf, and their keys and values.
fn write_rows(rows: &[LeafRow], leaf: &mut impl LeafSink) {
    let mut data_at = rows.len() * ELEMENT_BYTES;
    for (index, row) in rows.iter().enumerate() {
        let position = data_at - index * ELEMENT_BYTES;
        leaf.numbers(&[row.flags as usize, position, row.key.len(), row.value.len()]);
        data_at += row.key.len() + row.value.len();
    }
    for row in rows {
        leaf.shared(&row.key);
        leaf.shared(&row.value);
    }
}

impl LeafSink for BytesMut {
    fn numbers(&mut self, numbers: &[usize]) {
        for number in numbers {
            let number = u32::try_from(*number).expect("a value has less than 2 GiB");
            self.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn shared(&mut self, bytes: &Bytes) {
        self.extend_from_slice(bytes);
    }
}

/// A node that is being assembled.
struct NodePieces<'a> {
    /// The bytes that are not yet in a piece of their own.
    open: BytesMut,
    made: &'a mut Made,
}

impl LeafSink for NodePieces<'_> {
    fn numbers(&mut self, numbers: &[usize]) {
        self.open.numbers(numbers);
    }

    /// Adds a key or a value; a long one is a piece that shares its memory.
    fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < PAGE_BYTES {
            self.open.extend_from_slice(bytes);
        } else {
            self.made.push(std::mem::take(&mut self.open).freeze());
            self.made.push(bytes.clone());
        }
    }
}
