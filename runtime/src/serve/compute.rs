//! The lane for long computations over a view, such as hashes: one thread, so that no worker's connections wait for
//! them and they never take more than one core.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use async_channel::{Sender, TrySendError};
use futures_channel::oneshot;
use quoin_core::error::Error;

/// Computations that may wait.
const QUEUE_JOBS: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// The way into the lane. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Compute(Sender<Job>);

impl Compute {
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, jobs) = async_channel::bounded::<Job>(QUEUE_JOBS);
        let run = move || {
            while let Ok(job) = jobs.recv_blocking() {
                // Its caller sees that no answer came; the next one is not to suffer.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread::Builder::new().name("quoin-compute".to_owned()).spawn(run)?;
        Ok(Self(sender))
    }

    /// Whether another job would be taken now.
    pub(crate) fn has_room(&self) -> bool {
        !self.0.is_full()
    }

    /// Runs `work` on the lane's thread.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move || {
            // A caller that has gone wants no answer.
            let _ = reply.send(work());
        });
        match self.0.try_send(job) {
            Ok(()) => answer.await.map_err(|_| Error::Stopped),
            Err(TrySendError::Full(_)) => Err(Error::TooManyRequests),
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::block_on;

    #[test]
    fn work_is_done_elsewhere_and_one_panic_ends_nothing() {
        let compute = Compute::start().unwrap();
        let name = block_on(compute.run(|| thread::current().name().map(str::to_owned)));
        assert_eq!(name.unwrap().as_deref(), Some("quoin-compute"));
        let failed = block_on(compute.run(|| -> u8 { panic!("on purpose") }));
        assert_eq!(failed, Err(Error::Stopped));
        assert_eq!(block_on(compute.run(|| 7)), Ok(7));
    }
}
