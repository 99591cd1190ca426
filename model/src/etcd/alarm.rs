//! Alarms and the requests that they forbid.

use std::collections::BTreeSet;

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, TxnRequest};

use super::digest::Digest;
use super::refusal::{CORRUPT, NO_SPACE};
use crate::call::{Call, Refusal};

/// The active alarms, by type and member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Alarms(BTreeSet<(i32, u64)>);

impl Alarms {
    /// The active alarms of a type, or of every type for [`AlarmType::None`].
    pub(super) fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let asked = |of: &i32| kind == AlarmType::None as i32 || kind == *of;
        let alarms = self.0.iter().filter(|(of, _)| asked(of));
        alarms.map(|(alarm, member_id)| member(*member_id, *alarm)).collect()
    }

    /// Carries out a request and returns the alarms that it concerns.
    pub(super) fn apply(&mut self, request: &AlarmRequest) -> Vec<AlarmMember> {
        let AlarmRequest { member_id, alarm, .. } = *request;
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(alarm),
            Ok(AlarmAction::Activate) if alarm != AlarmType::None as i32 => {
                self.0.insert((alarm, member_id));
                vec![member(member_id, alarm)]
            }
            Ok(AlarmAction::Deactivate) if self.0.remove(&(alarm, member_id)) => vec![member(member_id, alarm)],
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Vec::new(),
        }
    }

    fn any(&self, kind: AlarmType) -> bool {
        self.0.iter().any(|(alarm, _)| *alarm == kind as i32)
    }

    /// Checks that the alarms allow a call that goes through the log. NOSPACE forbids requests that take space, also
    /// inside nested transactions; CORRUPT forbids all requests about keys and leases.
    pub(super) fn gate(&self, call: &Call) -> Result<(), Refusal> {
        if self.any(AlarmType::Corrupt) && about_keys(call) {
            return Err(CORRUPT.into());
        }
        if self.any(AlarmType::Nospace) && takes_space(call) {
            return Err(NO_SPACE.into());
        }
        Ok(())
    }

    pub(super) fn feed(&self, digest: &mut Digest) {
        for (alarm, member_id) in &self.0 {
            digest.signed(i64::from(*alarm));
            digest.number(*member_id);
        }
    }
}

fn member(member_id: u64, alarm: i32) -> AlarmMember {
    AlarmMember { member_id, alarm }
}

fn about_keys(call: &Call) -> bool {
    matches!(
        call,
        Call::Compact(_)
            | Call::DeleteRange(_)
            | Call::LeaseGrant(_)
            | Call::LeaseRevoke(_)
            | Call::Put(_)
            | Call::Range(_)
            | Call::Txn(_)
    )
}

fn takes_space(call: &Call) -> bool {
    match call {
        Call::LeaseGrant(_) | Call::Put(_) => true,
        Call::Txn(txn) => puts(txn),
        _ => false,
    }
}

/// Whether a transaction contains a put at any depth, whichever branch is taken.
fn puts(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(nested)) => puts(nested),
        Some(Op::RequestDeleteRange(_) | Op::RequestRange(_)) | None => false,
    })
}
