//! Lines to standard output and standard error, and the progress of a long run.
//!
//! On a terminal the innermost [`Progress`] is one line that is redrawn, below the permanent lines. Elsewhere it is a
//! plain line every ten seconds.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a terminal's line is redrawn.
const TICK: Duration = Duration::from_millis(500);
/// How often a plain line is written.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// A shorter wait is not shown.
const WORTH_SAYING: Duration = Duration::from_secs(2);
/// A redrawn line must not wrap.
const COLUMNS: usize = 79;
/// Exit code of a program that SIGPIPE ended, as in shells.
const CLOSED_PIPE: i32 = 128 + 13;

/// Writes a line to standard output. If the reader has closed the pipe, as `head` does, the process ends quietly.
pub fn say(line: impl fmt::Display) {
    let mut screen = screen();
    screen.erase();
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    screen.draw();
    drop(screen);
    if let Err(error) = written {
        if error.kind() != io::ErrorKind::BrokenPipe {
            note(format_args!("standard output: {error}"));
        }
        process::exit(CLOSED_PIPE);
    }
}

/// Writes a line to standard error, above the progress line. A closed pipe is ignored.
pub fn note(line: impl fmt::Display) {
    let mut screen = screen();
    screen.erase();
    let _ = writeln!(io::stderr(), "{line}");
    screen.draw();
}

/// The progress of a run, shown until it is dropped.
#[derive(Debug)]
pub struct Progress {
    id: u64,
    /// Its thread ends when this is dropped.
    _ticks: Sender<()>,
}

impl Progress {
    /// A run of this many steps.
    #[must_use]
    pub fn counted(what: impl Into<String>, total: u64) -> Self {
        Self::begin(what.into(), Some(total))
    }

    /// Work without steps that may take long; shown after two seconds.
    #[must_use]
    pub fn waiting(what: impl Into<String>) -> Self {
        Self::begin(what.into(), None)
    }

    fn begin(what: String, total: Option<u64>) -> Self {
        let (sender, ticks) = mpsc::channel();
        let id = {
            let mut screen = screen();
            screen.last_id += 1;
            let id = screen.last_id;
            screen.running.push(Status::new(id, what, total));
            screen.erase();
            screen.draw();
            id
        };
        thread::spawn(move || {
            while ticks.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                screen().tick(id);
            }
        });
        Self { id, _ticks: sender }
    }

    /// Adds steps that were not known at the beginning.
    pub fn plan(&self, more: u64) {
        self.change(|status| status.total = Some(status.total.unwrap_or(0) + more));
    }

    /// Sets the present work.
    pub fn doing(&self, step: impl Into<String>) {
        self.change(|status| status.step = step.into());
    }

    /// One more step is finished.
    pub fn done(&self) {
        self.change(|status| status.done += 1);
    }

    /// This many steps are finished.
    pub fn reached(&self, done: u64) {
        self.change(|status| status.done = done);
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut screen = screen();
        if let Some(status) = screen.running.iter_mut().find(|status| status.id == self.id) {
            change(status);
        }
        screen.erase();
        screen.draw();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut screen = screen();
        screen.running.retain(|status| status.id != self.id);
        screen.erase();
        screen.draw();
    }
}

/// The work in progress, the innermost last.
struct Screen {
    running: Vec<Status>,
    last_id: u64,
    /// Whether the terminal's last line is a progress line.
    is_drawn: bool,
}

static SCREEN: Mutex<Screen> = Mutex::new(Screen {
    running: Vec::new(),
    last_id: 0,
    is_drawn: false,
});

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Screen {
    fn erase(&mut self) {
        if self.is_drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.is_drawn = false;
        }
    }

    fn draw(&mut self) {
        let shown = self.running.iter().rfind(|status| status.is_worth_saying());
        let Some(status) = shown.filter(|_| io::stderr().is_terminal()) else {
            return;
        };
        let line: String = status.line(status.began.elapsed()).chars().take(COLUMNS).collect();
        let _ = write!(io::stderr(), "{line}");
        self.is_drawn = true;
    }

    /// Redraws after some time has passed.
    fn tick(&mut self, id: u64) {
        if self.running.last().is_none_or(|innermost| innermost.id != id) {
            return;
        }
        if io::stderr().is_terminal() {
            self.erase();
            self.draw();
            return;
        }
        let Some(status) = self.running.last_mut() else { return };
        let is_due = match status.said {
            None if status.total.is_none() => status.is_worth_saying(),
            said => said.unwrap_or(status.began).elapsed() >= PLAIN_EVERY,
        };
        if is_due {
            status.said = Some(now());
            let _ = writeln!(io::stderr(), "{}", status.line(status.began.elapsed()));
        }
    }
}

/// One piece of work in progress.
struct Status {
    id: u64,
    what: String,
    total: Option<u64>,
    done: u64,
    step: String,
    began: Instant,
    /// When a plain line was last written.
    said: Option<Instant>,
}

impl Status {
    fn new(id: u64, what: String, total: Option<u64>) -> Self {
        Self {
            id,
            what,
            total,
            done: 0,
            step: String::new(),
            began: now(),
            said: None,
        }
    }

    fn is_worth_saying(&self) -> bool {
        self.total.is_some() || self.began.elapsed() >= WORTH_SAYING
    }

    fn line(&self, elapsed: Duration) -> String {
        let mut line = self.what.clone();
        match self.total {
            None => line.push_str(&format!(": {} so far", words(elapsed))),
            // The number of steps is not known yet.
            Some(0) => {}
            Some(total) => {
                line.push_str(&format!(": {} of {total}", self.done));
                if let Some(left) = left(elapsed, self.done, total) {
                    line.push_str(&format!(", about {} left", words(left)));
                }
            }
        }
        if !self.step.is_empty() {
            line.push_str(": ");
            line.push_str(&self.step);
        }
        line
    }
}

/// The time left if steps go on at the same speed; `None` before the first is finished.
fn left(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let rest = total.saturating_sub(done);
    (done > 0 && rest > 0).then(|| elapsed.mul_f64(rest as f64 / done as f64))
}

/// A time in words: seconds up to two minutes, then minutes, then hours.
#[must_use]
pub fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a tool's progress is in real time, outside any Runtime"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_steps_shows_its_progress_and_the_time_left() {
        let mut status = Status::new(1, "clients".to_owned(), Some(40));
        assert_eq!(status.line(Duration::from_secs(5)), "clients: 0 of 40");
        status.done = 10;
        status.step = "Python: put".to_owned();
        assert_eq!(
            status.line(Duration::from_secs(60)),
            "clients: 10 of 40, about 3 min 0 s left: Python: put"
        );
        status.done = 40;
        assert_eq!(status.line(Duration::from_secs(60)), "clients: 40 of 40: Python: put");
    }

    #[test]
    fn a_wait_shows_its_reason_and_its_duration() {
        let status = Status::new(1, "building quoin-smol".to_owned(), None);
        assert_eq!(status.line(Duration::from_secs(75)), "building quoin-smol: 75 s so far");
        assert!(!status.is_worth_saying());
    }

    #[test]
    fn the_innermost_progress_is_shown_until_it_is_dropped() {
        let names = || -> Vec<String> { screen().running.iter().map(|status| status.what.clone()).collect() };
        let outer = Progress::counted("outer", 2);
        let inner = Progress::waiting("inner");
        assert_eq!(names(), ["outer", "inner"]);
        drop(inner);
        outer.done();
        outer.plan(3);
        {
            let screen = screen();
            assert_eq!((screen.running[0].done, screen.running[0].total), (1, Some(5)));
        }
        drop(outer);
        assert!(names().is_empty());
    }
}
