//! The thread for long computations over a view: reads of many rows, hashes, large answers. There is one, so that they
//! neither delay a worker's connections nor take more than one core.
//!
//! Computations take turns: each runs in steps, and after each step the next computation runs one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender, TrySendError};
use futures_channel::oneshot;
use quoin_core::error::Error;
use quoin_core::limits::{COMPUTE_RUNNING_JOBS, COMPUTE_WAITING_JOBS, HANDSHAKE_JOBS};

use crate::metrics::QueueState;
use crate::running::Ending;
use crate::threads::{self, guarded};

/// One step of a computation; true once it is over.
type Job = Box<dyn FnMut() -> bool + Send>;

/// The queue of the thread. The thread ends once the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    jobs: Sender<Job>,
    begun: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Compute {
    pub(crate) fn start(ending: &Ending) -> io::Result<Self> {
        Self::start_thread("quoin-compute", COMPUTE_WAITING_JOBS, ending)
    }

    /// A thread for the handshakes of TLS, which do not wait for long computations.
    pub(crate) fn start_handshakes(ending: &Ending) -> io::Result<Self> {
        Self::start_thread("quoin-tls", HANDSHAKE_JOBS, ending)
    }

    fn start_thread(name: &str, waiting: usize, ending: &Ending) -> io::Result<Self> {
        let (sender, jobs) = async_channel::bounded::<Job>(waiting);
        threads::spawn(name, ending, move || take_turns(&jobs))?;
        Ok(Self::new(sender))
    }

    fn new(jobs: Sender<Job>) -> Self {
        Self {
            jobs,
            begun: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// How many computations were given to the thread, including refused ones.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// The queue at this moment.
    pub(crate) fn state(&self) -> QueueState {
        QueueState {
            name: "compute",
            items: self.jobs.len(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Runs `work`, which must be short, on the compute thread.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let mut work = Some(work);
        self.steps(move || work.take().map(|work| work())).await
    }

    /// Calls `step` on the compute thread, in turns with other computations, until it returns an answer. `step` is not
    /// called again once the future is dropped.
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
                // The caller may have gone.
                let _gone = reply.send(value);
            }
            true
        });
        self.begun.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(job) {
            Ok(()) => answer.await.map_err(|_| Error::Stopped),
            Err(TrySendError::Full(_)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Error::TooManyRequests)
            }
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }
}

/// Runs jobs, a bounded number of them in turns, until the queue is closed.
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
            // If a job panics, its caller sees that no answer came; the other jobs continue.
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
    fn work_runs_on_the_compute_thread_and_a_panic_ends_only_its_job() {
        let compute = Compute::start(&Ending::default()).unwrap();
        let name = block_on(compute.run(|| std::thread::current().name().map(str::to_owned)));
        assert_eq!(name.unwrap().as_deref(), Some("quoin-compute"));
        let failed = block_on(compute.run(|| -> u8 { panic!("on purpose") }));
        assert_eq!(failed, Err(Error::Stopped));
        assert_eq!(block_on(compute.run(|| 7)), Ok(7));
    }

    /// Checks the order of the steps of two long computations, and that a dropped one makes none.
    #[test]
    fn long_computations_take_turns_and_stop_when_dropped() {
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
    fn the_number_of_waiting_computations_is_bounded() {
        let (sender, _jobs) = async_channel::bounded(1);
        let compute = Compute::new(sender);
        let mut first = Box::pin(compute.run(|| 1));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert_eq!(block_on(compute.run(|| 2)), Err(Error::TooManyRequests));
    }
}
