//! Membership changes: one trait for both forms, and a short text form for tests and logs.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

/// Makes a single change.
#[must_use]
pub fn new_conf_change_single(node_id: u64, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle {
        change_type: change_type as i32,
        node_id,
    }
}

/// Reads changes from words such as `v1 l2 r3`: make 1 a voter, make 2 a learner, remove 3.
///
/// # Errors
/// Names the word that is not of that form.
pub fn parse_conf_change(text: &str) -> Result<Vec<ConfChangeSingle>, String> {
    text.split_ascii_whitespace()
        .map(|word| {
            let mut letters = word.chars();
            let change_type = match letters.next() {
                Some('v') => ConfChangeType::AddNode,
                Some('l') => ConfChangeType::AddLearnerNode,
                Some('r') => ConfChangeType::RemoveNode,
                _ => {
                    return Err(format!("unknown change {word:?}: expected v, l or r, then a node id"));
                }
            };
            let node_id = letters
                .as_str()
                .parse()
                .map_err(|e| format!("bad node id in change {word:?}: {e}"))?;
            Ok(new_conf_change_single(node_id, change_type))
        })
        .collect()
}

/// Writes changes in the form [`parse_conf_change`] reads.
#[must_use]
pub fn stringify_conf_change(changes: &[ConfChangeSingle]) -> String {
    let mut text = String::new();
    for change in changes {
        let letter = match change.get_change_type() {
            ConfChangeType::AddNode => 'v',
            ConfChangeType::AddLearnerNode => 'l',
            ConfChangeType::RemoveNode => 'r',
        };
        let gap = if text.is_empty() { "" } else { " " };
        write!(text, "{gap}{letter}{}", change.node_id).expect("writing to a String cannot fail");
    }
    text
}

/// One trait for [`ConfChangeV2`] and the older [`ConfChange`], the only form etcd puts in its log.
pub trait ConfChangeI {
    /// The change in its newer form.
    ///
    /// A [`ConfChange`] of a type that consensus does not have (etcd's [`ConfChange::UPDATE_NODE`], or a number out of
    /// range) becomes a change of node 0, which consensus ignores. Otherwise it could be taken for an `AddNode`, which
    /// turns a learner into a voter.
    fn into_v2(self) -> ConfChangeV2;

    /// As [`ConfChangeI::into_v2`], borrowing where the change already has that form.
    fn as_v2(&self) -> Cow<'_, ConfChangeV2>;

    /// The change in its older form, if it has that form; a newer one is not converted.
    fn as_v1(&self) -> Option<&ConfChange>;
}

impl ConfChangeI for ConfChange {
    fn into_v2(self) -> ConfChangeV2 {
        let single = ConfChangeType::try_from(self.change_type).map_or_else(
            |_| ConfChangeSingle::default(),
            |known| new_conf_change_single(self.node_id, known),
        );
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto as i32,
            changes: vec![single],
            context: self.context,
        }
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Owned(self.clone().into_v2())
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        Some(self)
    }
}

impl ConfChangeI for ConfChangeV2 {
    fn into_v2(self) -> ConfChangeV2 {
        self
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Borrowed(self)
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        None
    }
}

impl ConfChangeV2 {
    /// Whether this change goes through joint consensus, and if so whether the joint configuration is left
    /// automatically.
    ///
    /// It does so if it has more than one change, or if its transition demands it.
    #[must_use]
    pub fn enter_joint(&self) -> Option<bool> {
        match self.get_transition() {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Explicit => Some(false),
        }
    }

    /// Whether this change leaves a joint configuration: it has no field but its context.
    #[must_use]
    pub fn leave_joint(&self) -> bool {
        self.get_transition() == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_and_write_the_same_text() {
        let changes = parse_conf_change("v1 l2 r3").unwrap();
        assert_eq!(stringify_conf_change(&changes), "v1 l2 r3");
        assert_eq!(parse_conf_change("  ").unwrap(), vec![]);
        for bad in ["x1", "v", "vx", "é1", "v1 2"] {
            assert!(parse_conf_change(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn changes_of_other_types_become_changes_of_node_0() {
        for (change_type, node_id) in [(0, 7), (1, 7), (ConfChange::UPDATE_NODE, 0), (3, 7), (4, 0), (-1, 0)] {
            let change = ConfChange {
                id: 1,
                change_type,
                node_id: 7,
                context: b"m".as_slice().into(),
            };
            let v2 = change.clone().into_v2();
            assert_eq!(v2.changes[0].node_id, node_id, "type {change_type}");
            assert_eq!(&v2.context[..], b"m");
            assert_eq!(*change.as_v2(), v2);
            assert_eq!(change.as_v1(), Some(&change));
        }
    }

    #[test]
    fn joint_consensus_is_entered_for_many_changes_or_on_request() {
        let change = |text: &str, transition: ConfChangeTransition| ConfChangeV2 {
            transition: transition as i32,
            changes: parse_conf_change(text).unwrap(),
            ..ConfChangeV2::default()
        };
        assert_eq!(change("v1", ConfChangeTransition::Auto).enter_joint(), None);
        assert_eq!(change("v1 v2", ConfChangeTransition::Auto).enter_joint(), Some(true));
        assert_eq!(change("v1", ConfChangeTransition::Implicit).enter_joint(), Some(true));
        assert_eq!(change("v1", ConfChangeTransition::Explicit).enter_joint(), Some(false));
        assert!(change("", ConfChangeTransition::Auto).leave_joint());
        assert!(!change("v1", ConfChangeTransition::Auto).leave_joint());
    }
}
