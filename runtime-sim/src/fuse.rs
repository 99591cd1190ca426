//! Where a simulated process dies, and where its disk fails: one counter of all points of a run, shared by everything
//! that can be interrupted.
//!
//! A point is a call to the disk or the table, or a place where something leaves the member. When the fuse blows at a
//! point, nothing there or after it has any effect until [`Fuse::renew`]. An error, in contrast, strikes calls of one
//! kind and leaves the process alive, to test how it reacts: a [`Failure`], for as long as the disk has it. The disk
//! decides what an error leaves in its files.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::faults::{FaultKind, Struck};

/// Kinds of calls that may be struck by an error.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Touch {
    /// A file or directory is created.
    Create,
    /// Names or lengths are read.
    Look,
    /// Space is reserved.
    Preallocate,
    /// A file is read.
    Read,
    /// A file or directory is removed.
    Remove,
    /// A file or directory is renamed.
    Rename,
    /// A file is synced.
    Sync,
    /// A directory is synced.
    SyncDir,
    /// The table is read.
    TableRead,
    /// The table is synced.
    TableSync,
    /// A batch is written to the table.
    TableWrite,
    /// A file is cut or extended.
    Truncate,
    /// A file is written.
    Write,
}

impl Touch {
    /// Every kind that an error may strike. Reading names is left out.
    pub const FALLIBLE: [Self; 12] = [
        Self::Create,
        Self::Preallocate,
        Self::Read,
        Self::Remove,
        Self::Rename,
        Self::Sync,
        Self::SyncDir,
        Self::TableRead,
        Self::TableSync,
        Self::TableWrite,
        Self::Truncate,
        Self::Write,
    ];

    /// The kind of fault of an error of such a call.
    #[must_use]
    pub fn fault(self, error: io::ErrorKind) -> FaultKind {
        match self {
            Self::Sync | Self::SyncDir | Self::TableSync => FaultKind::SyncError,
            Self::Look | Self::Read | Self::TableRead => FaultKind::ReadError,
            Self::Create | Self::Preallocate | Self::Remove | Self::Rename => full_or_broken(error),
            Self::TableWrite | Self::Truncate | Self::Write => full_or_broken(error),
        }
    }

    /// Whether such a call can fail without returning an error.
    const fn is_sync(self) -> bool {
        matches!(self, Self::Sync | Self::SyncDir | Self::TableSync)
    }
}

fn full_or_broken(error: io::ErrorKind) -> FaultKind {
    if error == io::ErrorKind::StorageFull {
        FaultKind::NoSpace
    } else {
        FaultKind::WriteError
    }
}

/// An error of the disk, which outlasts the process that it strikes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The kind of calls that it strikes.
    pub touch: Touch,
    /// How many calls of that kind succeed first.
    pub spared: u64,
    /// How many calls fail then; `None` means all of them.
    pub times: Option<u64>,
    /// The result that the caller gets.
    pub says: Says,
}

/// The result that the caller of a failed call gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Says {
    /// An error.
    Error(io::ErrorKind),
    /// Success. Only syncs can fail like that; other calls never do.
    Nothing,
}

/// The course of a call that returns no error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passage {
    Works,
    FailsSilently,
}

/// The counter; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fuse {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    points: u64,
    blows_at: Option<u64>,
    /// The kind of call to blow at, and how many of that kind are to succeed first.
    blows_on: Option<(Touch, u64)>,
    blown: bool,
    /// The last kind of call that an error struck, since the fuse was renewed.
    struck: Option<Touch>,
    /// Planned errors of the disk. Of those for one kind of call, the first is the next.
    failures: Vec<Failure>,
    counts: Struck,
}

impl Fuse {
    /// Counts errors in `faults`.
    pub fn set_struck(&self, struck: &Struck) {
        self.lock().counts = struck.clone();
    }

    /// Plans an error that lasts until it has struck its number of calls, or until [`Fuse::mend`].
    pub fn fail(&self, failure: Failure) {
        if failure.times != Some(0) {
            self.lock().failures.push(failure);
        }
    }

    /// Removes all planned failures.
    pub fn mend(&self) {
        self.lock().failures.clear();
    }

    /// The failures that are planned or in progress.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.lock().failures.clone()
    }

    /// Lets the fuse blow at the `ahead`-th point from here; 0 is the next one.
    pub fn set(&self, ahead: u64) {
        let mut state = self.lock();
        state.blows_at = Some(state.points.saturating_add(ahead));
    }

    /// Lets the fuse blow at a call of one kind, after some that succeed.
    pub fn set_on(&self, touch: Touch, spared: u64) {
        self.lock().blows_on = Some((touch, spared));
    }

    /// Puts in a new fuse, whether or not the old one has blown. Failures of the disk stay, and the count of points
    /// continues.
    pub fn renew(&self) {
        let mut state = self.lock();
        *state = State {
            points: state.points,
            failures: std::mem::take(&mut state.failures),
            counts: state.counts.clone(),
            ..State::default()
        };
    }

    /// Passes a point; false if the process is dead.
    pub fn pass(&self) -> bool {
        self.lock().pass()
    }

    /// Passes the point of a call.
    ///
    /// # Errors
    /// If the process is dead or the call is struck.
    pub fn call(&self, touch: Touch) -> io::Result<()> {
        self.enter(touch).map(|_| ())
    }

    /// Passes the point of a call that may fail without an error.
    pub(crate) fn enter(&self, touch: Touch) -> io::Result<Passage> {
        let mut state = self.lock();
        state.meet(touch);
        if !state.pass() {
            return Err(io::Error::other("simulated crash"));
        }
        let error = match state.failing(touch) {
            Some(Says::Nothing) => return Ok(Passage::FailsSilently),
            Some(Says::Error(error)) => error,
            None => return Ok(Passage::Works),
        };
        state.struck = Some(touch);
        state.counts.note(touch.fault(error));
        Err(io::Error::new(error, "injected disk error"))
    }

    /// Whether the process is dead.
    #[must_use]
    pub fn blown(&self) -> bool {
        self.lock().blown
    }

    /// The last kind of call that an error struck since the fuse was renewed, if any.
    #[must_use]
    pub fn struck(&self) -> Option<Touch> {
        self.lock().struck
    }

    /// Points passed so far.
    #[must_use]
    pub fn points(&self) -> u64 {
        self.lock().points
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Prepares the point of a call: if it is of the kind to blow at, the next point is the one.
    fn meet(&mut self, touch: Touch) {
        match &mut self.blows_on {
            Some((on, 0)) if *on == touch => self.blows_at = Some(self.points),
            Some((on, spared)) if *on == touch => *spared -= 1,
            Some(_) | None => {}
        }
    }

    /// The effect of the next failure for such a call on this one.
    fn failing(&mut self, touch: Touch) -> Option<Says> {
        let meant = |failure: &Failure| failure.touch == touch && (failure.says != Says::Nothing || touch.is_sync());
        let at = self.failures.iter().position(meant)?;
        let failure = &mut self.failures[at];
        if let Some(spared) = failure.spared.checked_sub(1) {
            failure.spared = spared;
            return None;
        }
        let says = failure.says;
        if let Some(times) = &mut failure.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.failures.remove(at);
            }
        }
        Some(says)
    }

    fn pass(&mut self) -> bool {
        if self.blown {
            return false;
        }
        self.blown = self.blows_at.is_some_and(|at| self.points >= at);
        if !self.blown {
            self.points += 1;
        }
        !self.blown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_blows_at_its_point_and_stays_blown() {
        let fuse = Fuse::default();
        fuse.set(2);
        let passed: Vec<bool> = (0..5).map(|_| fuse.pass()).collect();
        assert_eq!(passed, [true, true, false, false, false]);
        assert_eq!((fuse.blown(), fuse.points()), (true, 2));
        fuse.renew();
        assert!(fuse.pass() && !fuse.blown());
    }

    #[test]
    fn a_fuse_blows_at_a_call_of_a_kind() {
        let fuse = Fuse::default();
        fuse.set_on(Touch::Sync, 1);
        fuse.call(Touch::Sync).unwrap();
        fuse.call(Touch::Write).unwrap();
        assert!(fuse.pass());
        fuse.call(Touch::Sync).unwrap_err();
        assert!(fuse.blown());
    }

    #[test]
    fn an_error_strikes_calls_of_its_kind_only() {
        let fuse = Fuse::default();
        let failure = Failure {
            touch: Touch::Sync,
            spared: 1,
            times: Some(1),
            says: Says::Error(io::ErrorKind::StorageFull),
        };
        fuse.fail(failure);
        fuse.call(Touch::Write).unwrap();
        fuse.call(Touch::Sync).unwrap();
        assert_eq!(fuse.struck(), None);
        assert_eq!(fuse.call(Touch::Sync).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fuse.struck(), Some(Touch::Sync));
        fuse.call(Touch::Sync).unwrap();
        fuse.fail(Failure {
            times: None,
            spared: 0,
            ..failure
        });
        fuse.call(Touch::Sync).unwrap_err();
        fuse.call(Touch::Sync).unwrap_err();
        fuse.mend();
        fuse.call(Touch::Sync).unwrap();
    }
}
