//! The threads that hash and compare passwords. bcrypt takes about a tenth of a second of a core for each password, on
//! purpose: an attacker can try only a few. The node and the workers do not wait for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender, TrySendError};
use futures_channel::oneshot;
use quoin_core::api::{PasswordResult, PasswordWork};
use quoin_core::auth::KnownPasswords;
use quoin_core::error::Error;
use quoin_core::limits::PASSWORD_WAITING_JOBS;

use crate::metrics::QueueState;
use crate::running::Ending;
use crate::threads::{self, guarded};

/// bcrypt's costs, and the one that stands for any other.
const COSTS: std::ops::RangeInclusive<u64> = 4..=31;
const DEFAULT_COST: u32 = 10;

/// The most threads for passwords.
const THREADS: usize = 4;

/// A password, and the receiver of the result.
type Job = (PasswordWork, oneshot::Sender<PasswordResult>);

/// The queue into the threads, which end with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    jobs: Sender<Job>,
    known: Arc<Mutex<KnownPasswords>>,
    refused: Arc<AtomicU64>,
}

impl Passwords {
    /// Starts the threads, of which there are half as many as cores. `cost` is that of hashing (`--bcrypt-cost`).
    pub(crate) fn start(cost: u64, ending: &Ending) -> io::Result<Self> {
        let cost = if COSTS.contains(&cost) {
            u32::try_from(cost).unwrap_or(DEFAULT_COST)
        } else {
            tracing::warn!(
                "given-cost" = cost,
                "default-cost" = DEFAULT_COST,
                "use default bcrypt cost instead of the invalid given cost"
            );
            DEFAULT_COST
        };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let (sender, jobs) = async_channel::bounded::<Job>(PASSWORD_WAITING_JOBS);
        let known = Arc::new(Mutex::new(KnownPasswords::new(secret)));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..(cores / 2).clamp(1, THREADS) {
            let (jobs, known) = (jobs.clone(), Arc::clone(&known));
            threads::spawn(&format!("quoin-password-{number}"), ending, move || {
                work(&jobs, cost, &known);
            })?;
        }
        Ok(Self {
            jobs: sender,
            known,
            refused: Arc::default(),
        })
    }

    /// The queue at this moment.
    pub(crate) fn state(&self) -> QueueState {
        QueueState {
            name: "passwords",
            items: self.jobs.len(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Hashes or compares a password. A comparison that succeeded before takes no time.
    pub(crate) async fn work(&self, work: PasswordWork) -> Result<PasswordResult, Error> {
        if let PasswordWork::Compare { password, hash } = &work
            && lock(&self.known).fits(password, hash)
        {
            return Ok(PasswordResult::Compared(true));
        }
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send((work, reply)) {
            Ok(()) => answer.await.map_err(|_| Error::Stopped),
            Err(TrySendError::Full(_)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Error::TooManyRequests)
            }
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }
}

/// Does the work of one thread, until the queue is closed.
fn work(jobs: &Receiver<Job>, cost: u32, known: &Mutex<KnownPasswords>) {
    while let Ok((work, reply)) = jobs.recv_blocking() {
        // A caller that does not wait any more costs nothing.
        if reply.is_canceled() {
            continue;
        }
        // If it panics, its caller sees that no answer came.
        if let Ok(result) = guarded(|| carry_out(&work, cost, known)) {
            let _gone = reply.send(result);
        }
    }
}

fn carry_out(work: &PasswordWork, cost: u32, known: &Mutex<KnownPasswords>) -> PasswordResult {
    match work {
        PasswordWork::Compare { password, hash } => {
            // The same password may have been compared while this one waited.
            let is_known = lock(known).fits(password, hash);
            let fits = is_known || fits(password, hash);
            if fits && !is_known {
                lock(known).remember(password, hash);
            }
            PasswordResult::Compared(fits)
        }
        PasswordWork::Hash { password } => {
            let hashed = bcrypt::hash_with_result(password, cost);
            // etcd writes this version of the format.
            let text = hashed.map(|parts| parts.format_for_version(bcrypt::Version::TwoA));
            PasswordResult::Hashed(text.expect("the cost is one of bcrypt's, and the system has random numbers"))
        }
    }
}

/// Whether a password fits a hash. A hash of another form fits none.
fn fits(password: &str, hash: &[u8]) -> bool {
    std::str::from_utf8(hash).is_ok_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))
}

fn lock(known: &Mutex<KnownPasswords>) -> std::sync::MutexGuard<'_, KnownPasswords> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::block_on;

    fn hash(password: &str) -> PasswordWork {
        PasswordWork::Hash {
            password: password.to_owned(),
        }
    }

    fn compare(password: &str, hash: &str) -> PasswordWork {
        PasswordWork::Compare {
            password: password.to_owned(),
            hash: hash.to_owned().into(),
        }
    }

    #[test]
    fn a_hash_is_of_etcds_form_and_fits_only_its_password() {
        let passwords = Passwords::start(4, &Ending::default()).unwrap();
        let Ok(PasswordResult::Hashed(text)) = block_on(passwords.work(hash("secret"))) else {
            panic!("no hash");
        };
        assert!(text.starts_with("$2a$04$") && text.len() == 60, "{text}");
        for (password, expected) in [("secret", true), ("Secret", false), ("", false), ("secret", true)] {
            let compared = block_on(passwords.work(compare(password, &text)));
            assert_eq!(compared, Ok(PasswordResult::Compared(expected)), "{password}");
        }
        let other_form = block_on(passwords.work(compare("secret", "secret")));
        assert_eq!(other_form, Ok(PasswordResult::Compared(false)));
    }

    #[test]
    fn the_number_of_waiting_passwords_is_bounded() {
        let (jobs, _waiting) = async_channel::bounded(1);
        let known = Arc::new(Mutex::new(KnownPasswords::new([0; 32])));
        let refused = Arc::default();
        let passwords = Passwords { jobs, known, refused };
        let mut first = Box::pin(passwords.work(hash("a")));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert_eq!(block_on(passwords.work(hash("b"))), Err(Error::TooManyRequests));
        let state = passwords.state();
        assert_eq!((state.items, state.refused), (1, 1));
    }
}
