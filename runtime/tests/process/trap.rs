//! The log of the child: it prints every line and, while a file exists, panics or hangs on the named thread.

use std::env;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The trap's action: `panic` or `hang`.
pub(crate) const ACTION: &str = "QUOIN_TEST_ACTION";
/// The prefix of the names of the threads it is for.
pub(crate) const THREAD: &str = "QUOIN_TEST_THREAD";
/// The file that arms it, while it exists.
pub(crate) const ARMED: &str = "QUOIN_TEST_ARMED";

struct Trap {
    thread: String,
    hangs: bool,
    armed: PathBuf,
}

static TRAP: OnceLock<Trap> = OnceLock::new();

/// Sets the trap, if the environment has one, and takes the process' log lines.
pub(crate) fn set() {
    if let (Ok(action), Ok(thread), Ok(armed)) = (env::var(ACTION), env::var(THREAD), env::var(ARMED)) {
        let hangs = action == "hang";
        let armed = armed.into();
        let _ = TRAP.set(Trap { thread, hangs, armed });
    }
    tracing::subscriber::set_global_default(Lines).unwrap();
    // If the trap is for a library's thread, it takes the log lines of libraries. Otherwise the program takes them.
    if TRAP.get().is_some_and(|trap| !trap.thread.starts_with("quoin")) {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// Springs the trap if it is for the calling thread.
fn pass() {
    let Some(trap) = TRAP.get() else { return };
    let is_meant = thread::current()
        .name()
        .is_some_and(|name| name.starts_with(&trap.thread));
    // While a panic unwinds, a second one would abort the process.
    if !is_meant || thread::panicking() || !trap.armed.exists() {
        return;
    }
    eprintln!("the trap springs");
    if !trap.hangs {
        panic!("on purpose");
    }
    while trap.armed.exists() {
        thread::sleep(Duration::from_millis(10));
    }
}

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() <= Level::INFO {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            eprintln!("{}", line.0);
        }
        // Not at error lines: a guard logs a panic as an error, and that must not panic again.
        if event.metadata().target().starts_with("quoin") && *event.metadata().level() > Level::ERROR {
            pass();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Fields as `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        pass();
    }

    fn flush(&self) {}
}
