//! SIGINT and SIGTERM: a long run writes its results so far, and ends.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Runs `last` at the first SIGINT or SIGTERM, with the signal's name, and ends the process with exit code 128 plus the
/// signal's number. A second signal ends the process at once.
///
/// # Errors
/// If the signals cannot be handled.
pub fn on_signal(last: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut last = Some(last);
        for signal in signals.forever() {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            let Some(last) = last.take() else {
                process::exit(128 + signal);
            };
            thread::spawn(move || {
                last(name);
                process::exit(128 + signal);
            });
        }
    });
    Ok(())
}
