//! The metrics page: rendered on the compute thread, once for all requests of about the same time, and compressed once
//! for those that accept gzip.
//!
//! A page is never older than its request: a request shortly after a rendering waits for the next one.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_channel::oneshot;
use quoin_core::error::Error;
use quoin_core::limits::METRICS_INTERVAL_MS;
use quoin_core::time::Instant;

use super::{Context, facts};

/// The requests that wait for the next rendering.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage {
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    waiting: Vec<Waiting>,
    /// A rendering is scheduled; it serves all requests that wait when it begins.
    is_due: bool,
    /// When the last one began.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    wants_gzip: bool,
    reply: oneshot::Sender<Bytes>,
}

impl MetricsPage {
    /// The metrics, rendered now or a little later, compressed if the client accepts that.
    pub(crate) async fn get(context: &Arc<Context>, wants_gzip: bool) -> Result<Bytes, Error> {
        let (reply, page) = oneshot::channel();
        let (is_first, last) = {
            let mut asked = context.metrics_page.lock();
            asked.waiting.push(Waiting { wants_gzip, reply });
            (!std::mem::replace(&mut asked.is_due, true), asked.last)
        };
        if is_first {
            // In a task of its own: if the first client goes away, the others still wait.
            context.runtime.spawn(Box::pin(make(Arc::clone(context), last)));
        }
        page.await.map_err(|_| Error::TooManyRequests)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renders a page once the interval since the last rendering has passed.
async fn make(context: Arc<Context>, last: Option<Instant>) {
    if let Some(last) = last {
        let next = last + Duration::from_millis(METRICS_INTERVAL_MS);
        if context.clock.now() < next {
            context.runtime.sleep_until(next).await;
        }
    }
    let rendering = Arc::clone(&context);
    if context.compute.run(move || render(&rendering)).await.is_err() {
        // The compute thread has no room: waiting requests see that their channels are closed.
        take_waiting(&context);
    }
}

fn take_waiting(context: &Context) -> Vec<Waiting> {
    let mut asked = context.metrics_page.lock();
    asked.is_due = false;
    asked.last = Some(context.clock.now());
    std::mem::take(&mut asked.waiting)
}

fn render(context: &Context) {
    let waiting = take_waiting(context);
    let text = Bytes::from(facts::metrics_text(context));
    let compressed = waiting
        .iter()
        .any(|waiting| waiting.wants_gzip)
        .then(|| compress(&text));
    for Waiting { wants_gzip, reply } in waiting {
        let page = compressed.as_ref().filter(|_| wants_gzip).unwrap_or(&text);
        // The caller may have gone.
        let _gone = reply.send(page.clone());
    }
}

fn compress(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory takes all writes");
    encoder.finish().expect("memory takes all writes").into()
}
