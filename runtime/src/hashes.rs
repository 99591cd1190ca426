//! Hashes of compactions, computed on a separate thread: each walks all keys, and no request waits for it.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use quoin_core::mvcc::{CompactHashes, Compacted, HashKv};

use crate::running::Ending;
use crate::threads::{self, guarded};

/// Compactions that may wait to be hashed; further ones are not remembered.
const QUEUE_COMPACTIONS: usize = 10;

/// The remembered hashes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Hashes(Arc<Mutex<CompactHashes>>);

impl Hashes {
    /// All of them, oldest first.
    pub fn all(&self) -> Vec<HashKv> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, CompactHashes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread. It ends when the sender is dropped. A panic costs only the hash being computed: that one is
/// computed again when a client asks for it.
pub fn start(ending: &Ending) -> io::Result<(SyncSender<Compacted>, Hashes, JoinHandle<()>)> {
    let (sender, compactions) = sync_channel::<Compacted>(QUEUE_COMPACTIONS);
    let hashes = Hashes::default();
    let remembered = hashes.clone();
    let thread = threads::spawn("quoin-hash", ending, move || {
        for compaction in compactions {
            let _unless_panicked = guarded(|| remember(&remembered, &compaction));
        }
    })?;
    Ok((sender, hashes, thread))
}

fn remember(hashes: &Hashes, compaction: &Compacted) {
    let hash = compaction.hash();
    tracing::info!(
        hash = hash.hash,
        revision = hash.hash_revision,
        "compact-revision" = hash.compact_revision,
        "storing new hash"
    );
    hashes.lock().remember(hash);
}
