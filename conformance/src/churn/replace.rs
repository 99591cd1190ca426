//! A member is removed, and an empty one takes its place.

use super::cluster::{Cluster, NAMES};
use crate::trouble::Trouble;

/// How far a replacement is.
#[derive(Debug)]
pub(super) struct Replacement {
    at: usize,
    stage: ReplaceStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplaceStage {
    /// The member is to be removed; its id, once known.
    Remove(Option<u64>),
    /// It was removed, and its data is gone.
    Add,
    /// The new member was started as a learner.
    Promote,
}

impl Replacement {
    pub(super) fn of(at: usize) -> Self {
        Self {
            at,
            stage: ReplaceStage::Remove(None),
        }
    }

    /// Takes the next step with one question to the member `by`. Returns whether the new member is a voter. A member
    /// that does not answer is asked again, because the answer to a change may be lost: the list shows whether it was
    /// made.
    pub(super) fn advance(&mut self, cluster: &mut Cluster, by: usize) -> Result<bool, Trouble> {
        if self.stage == ReplaceStage::Promote && cluster.servers[self.at].exited().is_some() {
            // It needs answers from the others to start.
            cluster.spawn(self.at)?;
        }
        let Ok(listed) = cluster.listed(by, self.at) else {
            return Ok(false);
        };
        match (self.stage, listed) {
            (ReplaceStage::Remove(None), Some(listed)) => self.stage = ReplaceStage::Remove(Some(listed.id)),
            (ReplaceStage::Remove(Some(id)), Some(listed)) if listed.id == id => {
                let _ = cluster.remove(by, id);
            }
            (ReplaceStage::Remove(_), None) => {
                cluster.kill(self.at)?;
                cluster.servers[self.at].wipe()?;
                self.stage = ReplaceStage::Add;
            }
            (ReplaceStage::Add, None) => {
                let _ = cluster.add_learner(by, self.at);
            }
            (ReplaceStage::Add, Some(_)) => {
                cluster.servers[self.at].add_flag("--initial-cluster-state=existing");
                cluster.spawn(self.at)?;
                self.stage = ReplaceStage::Promote;
            }
            (ReplaceStage::Promote, Some(listed)) if listed.is_learner => {
                let _ = cluster.promote(by, listed.id);
            }
            (ReplaceStage::Promote, Some(_)) => return Ok(true),
            (ReplaceStage::Remove(Some(_)), Some(listed)) => {
                let words = format!("{} became member {:x} without being added", NAMES[self.at], listed.id);
                return Err(Trouble::new(words));
            }
            (ReplaceStage::Promote, None) => {
                let words = format!("{} was added and is not in the list of {}", NAMES[self.at], NAMES[by]);
                return Err(Trouble::new(words));
            }
        }
        Ok(false)
    }
}
