//! Where a simulated process dies, and where its disk fails: one counter of all points of a run, shared by everything
//! that can be interrupted.
//!
//! A point is a call to the disk or the table, or a place where something leaves the member. When the fuse blows at a
//! point, nothing there or after it has any effect until [`Fuse::renew`]. An error instead strikes calls of one kind and
//! leaves the process alive, to show what it makes of it: a [`Failure`], for as long as the disk has it. What an error
//! leaves on the disk is the disk's affair.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::faults::{FaultKind, Struck};

/// Kinds of calls that may be struck by an error.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Touch {
    /// A file or directory is created.
    Create,
    /// Names or lengths are looked at.
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
    /// Every kind that an error may strike; looking at names is not worth one.
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

    /// The kind of fault that an error of such a call is.
    #[must_use]
    pub fn fault(self, error: io::ErrorKind) -> FaultKind {
        match self {
            Self::Sync | Self::SyncDir | Self::TableSync => FaultKind::SyncError,
            Self::Look | Self::Read | Self::TableRead => FaultKind::ReadError,
            Self::Create | Self::Preallocate | Self::Remove | Self::Rename => full_or_broken(error),
            Self::TableWrite | Self::Truncate | Self::Write => full_or_broken(error),
        }
    }

    /// Whether a failure of such a call can go unnoticed.
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

/// An error of the disk, which outlasts the process it strikes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What it strikes.
    pub touch: Touch,
    /// How many calls of that kind it spares first.
    pub spared: u64,
    /// How many it strikes then; all of them without a number.
    pub times: Option<u64>,
    /// What the caller is told.
    pub says: Says,
}

/// What the caller of a call that failed is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Says {
    /// That it failed.
    Error(io::ErrorKind),
    /// That all is well. Only syncs can fail like that; other calls are never struck.
    Nothing,
}

/// How a call goes that reports no error.
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
    /// The kind of call to blow at, and how many of them are spared first.
    blows_on: Option<(Touch, u64)>,
    blown: bool,
    /// What an error struck last, since the fuse was renewed.
    struck: Option<Touch>,
    /// Errors of the disk, in the order in which they were planned: of those for a kind of call, the first is next.
    failures: Vec<Failure>,
    counts: Struck,
}

impl Fuse {
    /// Counts errors there.
    pub fn set_struck(&self, struck: &Struck) {
        self.lock().counts = struck.clone();
    }

    /// Plans an error that lasts until it has struck as often as it shall, or until [`Fuse::mend`].
    pub fn fail(&self, failure: Failure) {
        if failure.times != Some(0) {
            self.lock().failures.push(failure);
        }
    }

    /// No failure is planned any more.
    pub fn mend(&self) {
        self.lock().failures.clear();
    }

    /// The failures still to come, or under way.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.lock().failures.clone()
    }

    /// Lets the fuse blow at the `ahead`-th point from here; 0 is the next one.
    pub fn set(&self, ahead: u64) {
        let mut state = self.lock();
        state.blows_at = Some(state.points.saturating_add(ahead));
    }

    /// Lets the fuse blow at a call of one kind, after sparing some.
    pub fn set_on(&self, touch: Touch, spared: u64) {
        self.lock().blows_on = Some((touch, spared));
    }

    /// A new fuse in place of the old one, whether or not it has blown. Failures of the disk stay, and points count on.
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

    /// Passes the point of a call that may fail in silence.
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

    /// What kind of call an error struck last, if one did since the fuse was renewed.
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
    /// Is about to pass a call: the one to blow at is the next point.
    fn meet(&mut self, touch: Touch) {
        match &mut self.blows_on {
            Some((on, 0)) if *on == touch => self.blows_at = Some(self.points),
            Some((on, spared)) if *on == touch => *spared -= 1,
            Some(_) | None => {}
        }
    }

    /// What the next failure for such a call makes of this one.
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
