//! The lane for long computations over a view: reads of many rows, hashes, large answers. It is one thread, so that no
//! worker's connections wait for them and they never take more than one core.
//!
//! Computations take turns: each is carried out in steps, and between two steps of one the others have theirs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender, TrySendError};
use futures_channel::oneshot;
use quoin_core::error::Error;
use quoin_core::limits::{COMPUTE_RUNNING_JOBS, COMPUTE_WAITING_JOBS};

use crate::running::Ending;
use crate::threads::{self, guarded};

/// One step of a computation; true once it is over.
type Job = Box<dyn FnMut() -> bool + Send>;

/// The way into the lane. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    jobs: Sender<Job>,
    begun: Arc<AtomicU64>,
}

impl Compute {
    pub(crate) fn start(ending: &Ending) -> io::Result<Self> {
        let (sender, jobs) = async_channel::bounded::<Job>(COMPUTE_WAITING_JOBS);
        threads::spawn("quoin-compute", ending, move || take_turns(&jobs))?;
        Ok(Self::new(sender))
    }

    fn new(jobs: Sender<Job>) -> Self {
        Self {
            jobs,
            begun: Arc::default(),
        }
    }

    /// How many computations the lane was given.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Runs `work`, which is short, on the lane's thread.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let mut work = Some(work);
        self.steps(move || work.take().map(|work| work())).await
    }

    /// Calls `step` on the lane's thread, in turns with what else runs there, until it has an answer. It is not called
    /// again once its caller has gone.
    pub(crate) async fn steps<T: Send + 'static>(
        &self,
        mut step: impl FnMut() -> Option<T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let job = Box::new(move || {
            if reply.as_ref().is_none_or(oneshot::Sender::is_canceled) {
                return true;
            }
            let Some(value) = step() else { return false };
            if let Some(reply) = reply.take() {
                // A caller that has gone meanwhile wants no answer.
                let _gone = reply.send(value);
            }
            true
        });
        self.begun.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(job) {
            Ok(()) => answer.await.map_err(|_| Error::Stopped),
            Err(TrySendError::Full(_)) => Err(Error::TooManyRequests),
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }
}

/// Carries out jobs, a bounded number of them in turns, until no more can come.
fn take_turns(jobs: &Receiver<Job>) {
    let mut running: VecDeque<Job> = VecDeque::new();
    loop {
        if running.is_empty() {
            let Ok(job) = jobs.recv_blocking() else { return };
            running.push_back(job);
        }
        while running.len() < COMPUTE_RUNNING_JOBS
            && let Ok(job) = jobs.try_recv()
        {
            running.push_back(job);
        }
        if let Some(mut job) = running.pop_front() {
            // The caller of one that panics sees that no answer came; the others are not to suffer.
            let is_over = guarded(&mut job).unwrap_or(true);
            if !is_over {
                running.push_back(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::seam::block_on;

    #[test]
    fn work_is_done_elsewhere_and_one_panic_ends_nothing() {
        let compute = Compute::start(&Ending::default()).unwrap();
        let name = block_on(compute.run(|| std::thread::current().name().map(str::to_owned)));
        assert_eq!(name.unwrap().as_deref(), Some("quoin-compute"));
        let failed = block_on(compute.run(|| -> u8 { panic!("on purpose") }));
        assert_eq!(failed, Err(Error::Stopped));
        assert_eq!(block_on(compute.run(|| 7)), Ok(7));
    }

    /// Gives the steps of two long computations in the order in which they were made.
    #[test]
    fn long_computations_take_turns_and_end_with_their_callers() {
        let (sender, jobs) = async_channel::bounded(COMPUTE_WAITING_JOBS);
        let compute = Compute::new(sender);
        let made = Arc::new(Mutex::new(Vec::new()));
        let job = |name: char, steps: usize| {
            let made = Arc::clone(&made);
            let mut left = steps;
            let compute = compute.clone();
            Box::pin(async move {
                let step = move || {
                    made.lock().unwrap().push(name);
                    left -= 1;
                    (left == 0).then_some(name)
                };
                compute.steps(step).await
            })
        };
        let (mut a, mut b, mut gone) = (job('a', 3), job('b', 2), job('c', 9));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        for waiting in [&mut a, &mut b, &mut gone] {
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
        }
        drop(gone);
        drop(compute);
        let lane = std::thread::spawn(move || take_turns(&jobs));
        assert_eq!((block_on(a), block_on(b)), (Ok('a'), Ok('b')));
        lane.join().unwrap();
        assert_eq!(made.lock().unwrap().iter().collect::<String>(), "ababa");
    }

    #[test]
    fn what_waits_is_bounded() {
        let (sender, _jobs) = async_channel::bounded(1);
        let compute = Compute::new(sender);
        let mut first = Box::pin(compute.run(|| 1));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert_eq!(block_on(compute.run(|| 2)), Err(Error::TooManyRequests));
    }
}
