//! How far a start is, for the log line that reports it every ten seconds.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::limits::START_REPORT_INTERVAL;
use quoin_core::wal::{Segment, Source};

use crate::seam::Runtime;

/// The present step of a start; clones share it.
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
    /// How much there is to do; 0 if that is not known.
    total: u64,
}

impl Progress {
    /// Begins a step: the work, its file or directory, and its amount (0: not known).
    pub fn begin(&self, doing: &'static str, path: &Path, total: u64) {
        let path = path.display().to_string();
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = Step { doing, path, total };
        self.0.done.store(0, Ordering::Relaxed);
    }

    /// Adds to the finished part of the step.
    pub fn advance(&self, by: u64) {
        self.0.done.fetch_add(by, Ordering::Relaxed);
    }

    /// Begins the step of reading these segments; bytes read from the returned ones count as done.
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

    /// Logs the present step every [`START_REPORT_INTERVAL`], until the last clone is dropped.
    pub(crate) fn report_on(&self, runtime: &Arc<dyn Runtime>) {
        let (shared, timer) = (Arc::downgrade(&self.0), Arc::downgrade(runtime));
        runtime.spawn(Box::pin(async move {
            let mut waited = Duration::ZERO;
            loop {
                // A report does not keep the runtime alive.
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

/// Logs the present step; false if the start has ended.
fn log(shared: &Weak<Shared>, waited: Duration) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let Step { doing, path, total } = shared.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (done, total) = (shared.done.load(Ordering::Relaxed), (total > 0).then_some(total));
    tracing::info!(doing, path, done, total, ?waited, "still starting");
    true
}

/// A segment's bytes; reads of them are counted.
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
