//! Guarded threads and tasks: a panic is caught where a thread or task begins, logged in one line, and ends only what
//! the table says.
//!
//! | a panic in | costs |
//! |---|---|
//! | node, log, table, peer or watch thread, a worker's executor, an accept loop ([`spawn`], [`guard`]) | the member |
//! | a connection, or a call on it ([`contained`]) | that connection or call |
//! | a hash, a snapshot that arrives or is sent, another long computation ([`guarded`]) | that result |
//! | a thread started by a library, such as the table's own ([`end_on_stray_panic`]) | the process |
//!
//! Only the panic hook sees where a panic happened. [`crate::process::main`] installs one; a program that embeds a
//! server keeps its own hook, so its messages lack the place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, Builder, JoinHandle};

use futures_channel::oneshot;
use pin_project_lite::pin_project;

use crate::running::{Ended, Ending};
use crate::seam::BoxFuture;

/// A panic that a guard caught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panic {
    /// The thread's name.
    pub thread: String,
    /// Its message.
    pub words: String,
    /// File, line and column, if the hook is installed.
    pub place: Option<String>,
    /// The stack, if `RUST_BACKTRACE` is set.
    stack: Option<String>,
}

thread_local! {
    /// The number of guards on the calling thread's stack.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// The hook's record of the panic that the innermost guard is about to catch.
    static SEEN: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

impl Panic {
    fn here(payload: &dyn Any) -> Self {
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            thread: thread::current().name().unwrap_or("without a name").to_owned(),
            words: words.unwrap_or("no words").to_owned(),
            ..Self::default()
        }
    }

    fn seen(info: &PanicHookInfo<'_>) -> Self {
        let stack = Backtrace::capture();
        Self {
            place: info.location().map(ToString::to_string),
            stack: (stack.status() == BacktraceStatus::Captured).then(|| stack.to_string()),
            ..Self::here(info.payload())
        }
    }

    fn log(&self) {
        let (place, stack) = (self.place.as_deref(), self.stack.as_deref());
        tracing::error!(
            thread = self.thread,
            panic = self.words,
            place,
            stack,
            "a thread panicked"
        );
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} panicked", self.thread)?;
        if let Some(place) = &self.place {
            write!(f, " at {place}")?;
        }
        write!(f, ": {}", self.words)
    }
}

/// Runs `body`; a panic in it is logged and returned.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    GUARDS.set(GUARDS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDS.set(GUARDS.get() - 1);
    result.map_err(|payload| {
        let panic = SEEN.take().unwrap_or_else(|| Panic::here(&*payload));
        panic.log();
        panic
    })
}

/// Starts a thread; a panic in it is announced in `ending`.
pub fn spawn(name: &str, ending: &Ending, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn_keeping(name, ending, (), move |()| body())
}

/// The same with a value that is dropped only after a panic was announced. Other threads may notice its end (that of a
/// queue, for example), and must find the panic announced as the reason.
pub(crate) fn spawn_keeping<K: Send + 'static>(
    name: &str,
    ending: &Ending,
    kept: K,
    body: impl FnOnce(&K) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let ending = ending.clone();
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(panic) = guarded(|| body(&kept)) {
            ending.announce(Ended::Failed(panic.to_string()));
        }
    })
}

/// Does blocking work on a separate thread. Resolves with its result, or with its panic.
pub(crate) fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<BoxFuture<Result<T, Panic>>> {
    let (sender, result) = oneshot::channel();
    Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver may no longer wait.
        let _gone = sender.send(guarded(work));
    })?;
    Ok(Box::pin(async move {
        result.await.unwrap_or_else(|_| Err(Panic::default()))
    }))
}

pin_project! {
    /// A guarded task. It is a type and not an `async fn`, which would hold the task twice, as its argument and as the
    /// awaited future: a call's task has kilobytes, and every call pays for them.
    #[derive(Debug)]
    pub struct UnderGuard<F> {
        #[pin]
        task: F,
        ending: Option<Ending>,
    }
}

/// A task whose panic ends only that task.
pub fn contained<F: Future<Output = ()>>(task: F) -> UnderGuard<F> {
    UnderGuard { task, ending: None }
}

/// A task; a panic in it is announced in `ending`.
pub fn guard<F: Future<Output = ()>>(ending: Ending, task: F) -> UnderGuard<F> {
    let ending = Some(ending);
    UnderGuard { task, ending }
}

impl<F: Future<Output = ()>> Future for UnderGuard<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let (task, ending) = (this.task, this.ending);
        guarded(|| task.poll(cx)).unwrap_or_else(|panic| {
            // The guard has logged it.
            if let Some(ending) = ending.take() {
                ending.announce(Ended::Failed(panic.to_string()));
            }
            Poll::Ready(())
        })
    }
}

/// Installs the panic hook of a program that only runs a server: guards learn the place of a panic, and a panic that no
/// guard will catch, in a thread of a library, is announced as the end of the process.
pub(crate) fn end_on_stray_panic() -> Ending {
    let strays = Ending::default();
    let end = strays.clone();
    std::panic::set_hook(Box::new(move |info| {
        let panic = Panic::seen(info);
        if GUARDS.get() > 0 {
            // Logged after unwinding: the panic may have happened while a log output was locked.
            SEEN.set(Some(panic));
        } else {
            end.announce(Ended::Failed(panic.to_string()));
        }
    }));
    strays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::block_on;

    #[test]
    fn a_panic_of_a_thread_is_announced() {
        let ending = Ending::default();
        let thread = spawn("quoin-test", &ending, || panic!("on {}", "purpose")).unwrap();
        let Ended::Failed(why) = block_on(ending.reached()) else {
            panic!("a panic is a failure")
        };
        assert!(
            why.starts_with("thread quoin-test panicked") && why.ends_with(": on purpose"),
            "{why}"
        );
        thread.join().expect("the guard has caught it");
    }

    #[test]
    fn a_contained_panic_ends_its_task_alone() {
        block_on(contained(async { panic!("on purpose") }));
        let ending = Ending::default();
        block_on(guard(ending.clone(), async { panic!("on purpose") }));
        assert!(matches!(block_on(ending.reached()), Ended::Failed(_)));
    }

    #[test]
    fn the_first_end_counts() {
        let ending = Ending::default();
        ending.announce(Ended::Removed);
        ending.announce(Ended::Stopped);
        assert_eq!(block_on(ending.reached()), Ended::Removed);
        assert_eq!(
            block_on(ending.reached()),
            Ended::Removed,
            "every waiting task gets the reason"
        );
    }
}
