//! A lease lives for its whole TTL, and not much longer.

use super::{Past, Violation};
use crate::histories::record::{History, Lease, Moment};

const SECOND: Moment = 1_000_000;
/// An expired lease is revoked within this time: the server looks for expired leases twice a second, and the revocation
/// is a write like any other, on a busy machine.
const GRACE_SECONDS: Moment = 6;

/// Returns how many leases were seen to expire.
pub(super) fn check(history: &History, past: &Past) -> Result<usize, Violation> {
    let mut expired = 0;
    for lease in &history.leases {
        expired += usize::from(one(lease, history, past)?);
    }
    Ok(expired)
}

fn one(lease: &Lease, history: &History, past: &Past) -> Result<bool, Violation> {
    let Some((granted_at, granted)) = lease.granted else {
        return Ok(false);
    };
    let deleted = past.deleted(&lease.key);
    let denied = lease.kept.iter().find_map(|kept| match kept.answered {
        Some((at, 0)) => Some(at),
        Some(_) | None => None,
    });
    let gone = deleted.map(|(_, at)| at).into_iter().chain(denied).min();
    let revision = deleted.map(|(revision, _)| revision);

    // The TTL counts from the moment of the grant or renewal, which is not before its request was sent.
    let promised = lease.kept.iter().filter_map(|kept| match kept.answered {
        Some((_, seconds)) if seconds > 0 => Some(kept.invoked + seconds as Moment * SECOND),
        Some(_) | None => None,
    });
    let due = promised.fold(lease.invoked + granted as Moment * SECOND, Moment::max);
    if gone.is_some_and(|gone| gone < due) {
        let words = format!("it was gone at {gone:?} and was promised to live until {due}: {lease:?}");
        return Err(Violation::new("no lease ends early", revision, words));
    }

    if !past.was_set(&lease.key) {
        return Ok(false);
    }
    let last_sign = lease
        .kept
        .iter()
        .map(|kept| kept.answered.map_or(kept.invoked, |(at, _)| at));
    let last_sign = last_sign.fold(granted_at, Moment::max);
    let rest = (granted as Moment + GRACE_SECONDS) * SECOND;
    let mut deadline = last_sign + rest;
    for (from, until) in &history.disturbed {
        // A restarted server gives every lease its whole TTL again.
        if *from <= deadline {
            deadline = deadline.max(until + rest);
        }
    }
    match deleted {
        Some((_, at)) if at <= deadline => Ok(true),
        late => {
            let words = format!("its key should have gone by {deadline} and went at {late:?}: {lease:?}");
            Err(Violation::new("an expired lease is revoked", revision, words))
        }
    }
}
