//! The alarms of each member. `Content::forbidden_by` decides which requests an alarm forbids.

use std::collections::BTreeSet;

use crate::proto::etcdserverpb::{AlarmMember, AlarmType};

/// The active alarms. They survive restarts and stay active until a client clears them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Alarms {
    /// By type, then member. The type is the message's number, because a newer member may have more types.
    on: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// The alarms of one type, or all of them for [`AlarmType::None`], by type and then member.
    pub fn list(&self, alarm: AlarmType) -> impl Iterator<Item = AlarmMember> {
        let wanted = alarm as i32;
        let on = self.on.iter().filter(move |(alarm, _)| wanted == 0 || wanted == *alarm);
        on.map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
    }

    /// Whether this alarm of any member is active.
    #[must_use]
    pub fn is_on(&self, alarm: AlarmType) -> bool {
        self.on
            .range((alarm as i32, 0)..=(alarm as i32, u64::MAX))
            .next()
            .is_some()
    }

    /// Raises an alarm; false if it was active already.
    pub(super) fn activate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.insert((alarm.alarm, alarm.member_id))
    }

    /// Disarms an alarm; false if it was not active.
    pub(super) fn deactivate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.remove(&(alarm.alarm, alarm.member_id))
    }
}
