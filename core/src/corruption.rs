//! Compares hashes of several members by etcd's rules, to find out whether the members have the same data.
//!
//! There are three checks: one before a member serves (feature gate `InitialCorruptCheck`), one by the leader at an
//! interval (`--corrupt-check-time`), and one by the leader after compactions (feature gate `CompactHashCheck`).

use std::collections::BTreeMap;

use crate::config::Notice;
use crate::id::MemberId;
use crate::mvcc::HashKv;

/// A hash that a member computed, and the member's newest revision at that time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberHash {
    /// The hash.
    pub hash: HashKv,
    /// The newest revision.
    pub revision: i64,
}

/// Why a peer has no hash for a revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoHash {
    /// The peer has compacted the revision.
    Compacted,
    /// The peer has not reached the revision.
    Future,
    /// The peer belongs to another cluster.
    OtherCluster,
    /// The peer did not answer; the text says why.
    Unknown(String),
}

/// A peer and its hash.
pub type PeerHash = (MemberId, Result<MemberHash, NoHash>);

/// The result of a check.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// Lines for the log.
    pub notices: Vec<Notice>,
    /// Members for which the alarm CORRUPT is to be raised; [`MemberId::NONE`] if the damaged one cannot be named.
    pub alarms: Vec<MemberId>,
    /// Whether every peer could be compared.
    pub is_complete: bool,
}

impl Findings {
    fn warn(&mut self, text: &'static str, peer: MemberId) {
        let notice = Notice::warn(text).with("remote-peer-id", peer.to_string());
        self.notices.push(notice);
    }

    /// Logs a damaged member. Only the first one of a check gets an alarm.
    fn blame_one(&mut self, text: &'static str, peer: MemberId) {
        self.warn(text, peer);
        if self.alarms.is_empty() {
            self.alarms.push(peer);
        }
    }
}

/// The check before a member serves. If the findings have an alarm, the member's data differs from a peer's, and the
/// member must not start.
#[must_use]
pub fn check_initially(own: MemberHash, peers: &[PeerHash]) -> Findings {
    let mut findings = Findings::default();
    for (peer, answer) in peers {
        match answer {
            Ok(theirs) if theirs.hash.hash == own.hash.hash => {}
            Ok(theirs) if theirs.hash.compact_revision == own.hash.compact_revision => {
                findings.blame_one("found different hash values from remote peer", *peer);
            }
            Ok(_) => findings.warn("found different compact revision values from remote peer", *peer),
            Err(NoHash::Future) => findings.warn("cannot fetch hash from slow remote peer", *peer),
            Err(NoHash::Compacted) => {
                findings.warn("cannot fetch hash from remote peer; local member is behind", *peer);
            }
            Err(NoHash::OtherCluster) => findings.warn("cluster ID mismatch", *peer),
            Err(NoHash::Unknown(_)) => findings.warn("failed hash kv request", *peer),
        }
    }
    findings.is_complete = peers.iter().all(|(_, answer)| answer.is_ok());
    findings
}

/// The leader's periodic check. The leader computes `own`, asks the peers for their hashes at the revision of `own`,
/// makes a linearizable read, and then computes `later`.
#[must_use]
pub fn check_periodically(me: MemberId, own: MemberHash, later: MemberHash, peers: &[PeerHash]) -> Findings {
    let mut findings = Findings::default();
    let is_same_state = own.revision == later.revision && own.hash.compact_revision == later.hash.compact_revision;
    if is_same_state && own.hash.hash != later.hash.hash {
        findings.blame_one("found hash mismatch", me);
    }
    for (peer, answer) in peers {
        let Ok(theirs) = answer else { continue };
        if theirs.revision > later.revision {
            findings.blame_one("revision from follower must be less than or equal to leader's", *peer);
        }
        if theirs.hash.compact_revision > later.hash.compact_revision {
            let text = "compact revision from follower must be less than or equal to leader's";
            findings.blame_one(text, *peer);
        }
        if theirs.hash.compact_revision == own.hash.compact_revision && theirs.hash.hash != own.hash.hash {
            findings.blame_one("same compact revision then hashes must match", *peer);
        }
    }
    findings.is_complete = peers.iter().all(|(_, answer)| answer.is_ok());
    findings
}

/// The leader's check of a compaction: `own` is the hash that the leader remembers, and `peers` has the peers' hashes
/// at the same revision. If most members have the same hash, members with another hash are damaged; otherwise the
/// damaged ones cannot be named.
#[must_use]
pub fn check_compaction(me: MemberId, own: HashKv, peers: &[PeerHash]) -> Findings {
    let mut findings = Findings::default();
    let mut groups: BTreeMap<u32, Vec<MemberId>> = BTreeMap::from([(own.hash, vec![me])]);
    let mut checked = 0;
    for (peer, answer) in peers {
        match answer {
            Ok(theirs) if theirs.hash.compact_revision == own.compact_revision => {
                checked += 1;
                groups.entry(theirs.hash.hash).or_default().push(*peer);
            }
            Ok(_) => findings.warn("skipped a peer's hash: it has another compact revision", *peer),
            Err(_) => findings.warn("skipped a peer's hash: no response", *peer),
        }
    }
    findings.is_complete = checked == peers.len();
    if groups.len() == 1 {
        return findings;
    }
    let members = peers.len() + 1;
    let quorum = members / 2 + 1;
    let majority = groups.iter().find(|(_, members)| members.len() >= quorum);
    match majority.map(|(hash, _)| *hash) {
        Some(sound) => {
            groups.remove(&sound);
            findings.alarms = groups.into_values().flatten().collect();
        }
        None => findings.alarms.push(MemberId::NONE),
    }
    for damaged in findings.alarms.clone() {
        findings.warn("detected compaction hash mismatch", damaged);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId(1);

    fn hash(hash: u32, compact_revision: i64, revision: i64) -> MemberHash {
        MemberHash {
            hash: HashKv {
                hash,
                compact_revision,
                hash_revision: revision,
            },
            revision,
        }
    }

    fn peers(answers: &[Result<MemberHash, NoHash>]) -> Vec<PeerHash> {
        (2..).map(MemberId).zip(answers.iter().cloned()).collect()
    }

    #[test]
    fn a_member_starts_unless_a_peer_has_other_data_at_the_same_compaction() {
        let own = hash(7, 3, 9);
        for (answer, alarms) in [
            (Ok(hash(7, 3, 9)), 0),
            (Ok(hash(8, 3, 9)), 1),
            (Ok(hash(8, 4, 9)), 0),
            (Err(NoHash::Future), 0),
            (Err(NoHash::Compacted), 0),
            (Err(NoHash::OtherCluster), 0),
            (Err(NoHash::Unknown("gone".into())), 0),
        ] {
            let findings = check_initially(own, &peers(std::slice::from_ref(&answer)));
            assert_eq!(findings.alarms.len(), alarms, "{answer:?}");
            assert_eq!(findings.notices.is_empty(), answer == Ok(own), "{answer:?}");
        }
    }

    #[test]
    fn the_leader_blames_a_follower_that_is_ahead_or_differs() {
        let own = hash(7, 3, 9);
        let blamed =
            |later, answers: &[Result<MemberHash, NoHash>]| check_periodically(ME, own, later, &peers(answers)).alarms;
        assert_eq!(blamed(own, &[Ok(own), Ok(hash(9, 2, 9)), Err(NoHash::Future)]), []);
        assert_eq!(blamed(own, &[Ok(hash(7, 3, 10))]), [MemberId(2)]);
        assert_eq!(blamed(own, &[Ok(own), Ok(hash(7, 4, 9))]), [MemberId(3)]);
        assert_eq!(
            blamed(own, &[Ok(hash(8, 3, 9)), Ok(hash(9, 3, 9))]),
            [MemberId(2)],
            "one at a time"
        );
        assert_eq!(blamed(hash(8, 3, 9), &[Ok(own)]), [ME], "the same state has two hashes");
        assert_eq!(
            blamed(hash(8, 3, 12), &[Ok(hash(7, 3, 11))]),
            [],
            "the state changed between `own` and `later`"
        );
    }

    #[test]
    fn after_a_compaction_the_minority_is_damaged() {
        let own = hash(7, 3, 9).hash;
        let found = |answers: &[Result<MemberHash, NoHash>]| check_compaction(ME, own, &peers(answers));
        let (same, other, third) = (Ok(hash(7, 3, 9)), Ok(hash(8, 3, 9)), Ok(hash(9, 3, 9)));
        assert!(found(&[same.clone(), same.clone()]).is_complete);
        assert_eq!(found(&[same.clone(), same.clone()]).alarms, []);
        assert_eq!(found(&[same.clone(), other.clone()]).alarms, [MemberId(3)]);
        assert_eq!(found(&[other.clone(), other.clone()]).alarms, [ME]);
        assert_eq!(found(&[other.clone(), third]).alarms, [MemberId::NONE]);
        assert_eq!(found(&[other]).alarms, [MemberId::NONE], "one of two");
        let skipped = found(&[same.clone(), Err(NoHash::Compacted)]);
        assert_eq!((skipped.alarms, skipped.is_complete), (vec![], false));
        assert!(!found(&[same, Ok(hash(8, 2, 9))]).is_complete);
    }
}
