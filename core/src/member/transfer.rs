//! Moving leadership: at a client's request, or because the leader stops.

use crate::error::Error;
use crate::id::MemberId;
use crate::time::Instant;

use super::{Halt, Member, Output, Phase, Token};

/// A request to move leadership.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) token: Token,
    pub(super) to: MemberId,
    pub(super) deadline: Instant,
}

impl Member {
    /// Hands leadership to `to`; the request is answered once `to` leads.
    pub(crate) fn move_leader(&mut self, token: Token, to: MemberId, deadline: Instant, out: &mut Vec<Output>) {
        if let Err(error) = self.may_move_leader(to) {
            return out.push(Output::Transferred(token, Err(error)));
        }
        self.transfers.push(Transfer { token, to, deadline });
        self.raft.transfer_leader(to.0);
        self.leadership_moved(out);
    }

    /// Stops: a leader first hands its leadership over, if another voter can take it.
    pub(crate) fn stop(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.phase >= Phase::Stopping {
            return;
        }
        let Some(heir) = self.heir().filter(|_| self.leads()) else {
            return self.halt(Halt::Stopped, out);
        };
        self.phase = Phase::Stopping;
        self.raft.transfer_leader(heir.0);
        self.stop_by = Some(now + self.config.request_timeout());
    }

    /// Answers the requests whose new leader now leads. A stopping member halts once it no longer leads.
    pub(super) fn leadership_moved(&mut self, out: &mut Vec<Output>) {
        let leader = self.leader;
        let arrived = self.transfers.extract_if(.., |transfer| transfer.to == leader);
        out.extend(arrived.map(|transfer| Output::Transferred(transfer.token, Ok(()))));
        if self.phase == Phase::Stopping && !self.leads() {
            self.halt(Halt::Stopped, out);
        }
    }

    fn may_move_leader(&self, to: MemberId) -> Result<(), Error> {
        self.running()?;
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        if !self.conf_state().voters.contains(&to.0) {
            return Err(Error::BadLeaderTransferee);
        }
        Ok(())
    }

    /// The voter to hand leadership to: of those heard from recently, the one with the longest log.
    fn heir(&self) -> Option<MemberId> {
        let progress = self.raft.raft.prs();
        let others = self.conf_state().voters.iter().filter(|id| **id != self.config.id.0);
        let followers = others.filter_map(|id| progress.get(*id).map(|of| (of.recent_active, of.matched, *id)));
        followers
            .max()
            .filter(|(is_active, _, _)| *is_active)
            .map(|(_, _, id)| MemberId(id))
    }
}
