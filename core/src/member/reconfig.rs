//! Whether the cluster is healthy enough for a change of membership (`--strict-reconfig-check`), checked before it is
//! proposed.
//!
//! When a change is applied, every member checks by itself whether the change is valid (existing ids, unused URLs, not
//! too many learners).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::id::MemberId;
use crate::membership::Member;
use crate::time::Instant;

/// How long a member must have been connected to count as healthy.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// The applied members, and the state of the connections to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roster<'a> {
    pub(crate) me: MemberId,
    pub(crate) members: &'a [Member],
    pub(crate) connected_since: &'a BTreeMap<MemberId, Instant>,
    pub(crate) now: Instant,
}

impl Roster<'_> {
    /// Whether a member may be added.
    pub(crate) fn may_add(self, is_learner: bool) -> Result<(), Error> {
        let (voters, started) = self.voters_without(None);
        // A cluster of one is repaired or grown by adding a second member.
        let grows_from_one = voters == 1 && started == 1;
        if !is_learner && !grows_from_one && started < quorum(voters + 1) {
            return Err(Error::NotEnoughStartedMembers);
        }
        // As in etcd 3.5.30, the new member counts as a voter that does not answer, even if it is a learner.
        if voters > 1 && self.healthy_voters() < quorum(voters + 1) {
            Err(Error::UnhealthyCluster)
        } else {
            Ok(())
        }
    }

    /// Whether a learner may become a voter.
    pub(crate) fn may_promote(self) -> Result<(), Error> {
        // The learner counts as started: it answers the leader, or it would not be in sync.
        let (voters, started) = self.voters_without(None);
        if started + 1 < quorum(voters + 1) {
            Err(Error::NotEnoughStartedMembers)
        } else {
            Ok(())
        }
    }

    /// Whether the member `id` may be removed. A learner always may. An id that does not exist is refused when the
    /// change is applied, as in etcd.
    pub(crate) fn may_remove(self, id: MemberId) -> Result<(), Error> {
        if self.members.iter().any(|member| member.id == id && member.is_learner) {
            return Ok(());
        }
        let (left, started) = self.voters_without(Some(id));
        if started < quorum(left) {
            return Err(Error::NotEnoughStartedMembers);
        }
        let is_connected = self.voters().any(|member| member.id == id) && self.connected_since.contains_key(&id);
        if id != self.me && !is_connected {
            return Ok(());
        }
        if self.healthy_voters() < quorum(left) + 1 {
            Err(Error::UnhealthyCluster)
        } else {
            Ok(())
        }
    }

    /// The number of voters without `id`, and how many of those have started.
    fn voters_without(self, id: Option<MemberId>) -> (usize, usize) {
        let voters = || self.voters().filter(|member| Some(member.id) != id);
        (voters().count(), voters().filter(|member| member.is_started()).count())
    }

    fn healthy_voters(self) -> usize {
        let is_healthy = |id| {
            let since = self.connected_since.get(&id);
            id == self.me || since.is_some_and(|since| *since + HEALTH_INTERVAL <= self.now)
        };
        self.voters().filter(|member| is_healthy(member.id)).count()
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }
}

/// The size of a majority of `voters`.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(60_000_000_000);

    /// Members, one word each: `s` started, `n` not started, `l` learner; with `+` connected for long, `~` connected
    /// recently.
    fn roster(words: &str, check: impl Fn(Roster<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let (mut members, mut connected_since) = (Vec::new(), BTreeMap::new());
        for (place, word) in words.split_ascii_whitespace().enumerate() {
            let id = MemberId(place as u64 + 1);
            let name = if word.starts_with('n') {
                String::new()
            } else {
                format!("m{place}")
            };
            members.push(Member {
                id,
                name,
                is_learner: word.starts_with('l'),
                ..Member::default()
            });
            if word.ends_with('+') {
                connected_since.insert(id, Instant::ZERO);
            } else if word.ends_with('~') {
                connected_since.insert(id, NOW);
            }
        }
        check(Roster {
            me: MemberId(1),
            members: &members,
            connected_since: &connected_since,
            now: NOW,
        })
    }

    #[test]
    fn adding_needs_a_started_and_healthy_quorum_of_the_new_cluster() {
        let (few, unhealthy) = (Err(Error::NotEnoughStartedMembers), Err(Error::UnhealthyCluster));
        let table = [
            ("s", false, Ok(())),
            ("s n", false, few),
            ("s s+", false, Ok(())),
            ("s s~", false, unhealthy),
            ("s s+ s+", false, Ok(())),
            ("s s+ s", false, unhealthy),
            ("s s+ s", true, unhealthy),
            ("s s+ s+ s", false, Ok(())),
            ("s s+ s+ s s", false, unhealthy),
            ("s s+ s+ s s~", true, unhealthy),
            ("s s+ s+ s+ s", false, Ok(())),
            ("s s s", false, unhealthy),
            ("s s+ n", false, few),
            ("s s+ n", true, unhealthy),
            ("s s+ n+", true, Ok(())),
            ("s", true, Ok(())),
            ("s s+ l+", false, Ok(())),
            ("s s l+", true, unhealthy),
        ];
        for (words, is_learner, expected) in table {
            assert_eq!(
                roster(words, |roster| roster.may_add(is_learner)),
                expected,
                "{words}, learner: {is_learner}"
            );
        }
    }

    #[test]
    fn removing_must_leave_a_started_and_healthy_quorum() {
        let (few, unhealthy) = (Err(Error::NotEnoughStartedMembers), Err(Error::UnhealthyCluster));
        let table = [
            ("s", 1, few),
            ("s s+", 2, Ok(())),
            ("s s+", 1, Ok(())),
            ("s s", 2, Ok(())),
            ("s n", 1, few),
            ("s s+ s+", 3, Ok(())),
            ("s s+ s", 2, unhealthy),
            ("s s+ s", 3, Ok(())),
            ("s s+ s~", 3, unhealthy),
            ("s n n l", 4, Ok(())),
            ("s n n", 1, few),
            ("s n n", 9, few),
            ("s s n", 9, Ok(())),
        ];
        for (words, id, expected) in table {
            assert_eq!(
                roster(words, |roster| roster.may_remove(MemberId(id))),
                expected,
                "{words}, removing {id}"
            );
        }
    }

    #[test]
    fn promoting_counts_the_learner_as_started() {
        let few = Err(Error::NotEnoughStartedMembers);
        for (words, expected) in [
            ("s l", Ok(())),
            ("s n l", Ok(())),
            ("s n n l", few),
            ("s s n l", Ok(())),
        ] {
            assert_eq!(roster(words, |roster| roster.may_promote()), expected, "{words}");
        }
    }
}
