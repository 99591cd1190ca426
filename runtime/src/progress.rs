//! How far a start is, for the line in the log that says so every ten seconds while it lasts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::limits::START_REPORT_INTERVAL;
use quoin_core::wal::{Segment, Source};

use crate::seam::Runtime;

/// What a start is doing; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    step: Mutex<Step>,
    done: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Step {
    doing: &'static str,
    path: String,
    /// How much there is to do, where that is known; 0 where not.
    total: u64,
}

impl Progress {
    /// A step begins: what is done with the file or directory, and how much of it there is (0: not known).
    pub fn begin(&self, doing: &'static str, path: &Path, total: u64) {
        let path = path.display().to_string();
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = Step { doing, path, total };
        self.0.done.store(0, Ordering::Relaxed);
    }

    /// So much more of the step is done.
    pub fn advance(&self, by: u64) {
        self.0.done.fetch_add(by, Ordering::Relaxed);
    }

    /// The same segments; what is read of them counts as done. A step of reading them begins.
    pub fn reading(&self, doing: &'static str, path: &Path, segments: Vec<Segment>) -> Vec<Segment> {
        self.begin(doing, path, segments.iter().map(|segment| segment.source.size()).sum());
        let counted = segments.into_iter().map(|segment| Segment {
            name: segment.name,
            source: Box::new(Counted {
                source: segment.source,
                progress: self.clone(),
            }),
        });
        counted.collect()
    }

    /// Logs what is being done every [`START_REPORT_INTERVAL`], until the last clone is dropped.
    pub(crate) fn report_on(&self, runtime: &Arc<dyn Runtime>) {
        let (shared, timer) = (Arc::downgrade(&self.0), Arc::downgrade(runtime));
        runtime.spawn(Box::pin(async move {
            let mut waited = Duration::ZERO;
            loop {
                // A report keeps no runtime alive.
                let next = timer
                    .upgrade()
                    .map(|timer| timer.sleep_until(timer.clock().now() + START_REPORT_INTERVAL));
                let Some(next) = next else { return };
                next.await;
                waited += START_REPORT_INTERVAL;
                if !log(&shared, waited) {
                    return;
                }
            }
        }));
    }
}

/// Logs what is being done; false if nothing is any more.
fn log(shared: &Weak<Shared>, waited: Duration) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let Step { doing, path, total } = shared.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (done, total) = (shared.done.load(Ordering::Relaxed), (total > 0).then_some(total));
    tracing::info!(doing, path, done, total, ?waited, "still starting");
    true
}

/// A segment's bytes; what is read of them is counted.
struct Counted {
    source: Box<dyn Source>,
    progress: Progress,
}

impl Source for Counted {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.progress.advance(into.len() as u64);
        self.source.read(offset, into)
    }
}
