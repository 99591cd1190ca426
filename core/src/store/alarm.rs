//! Alarms: which member has which trouble, and what the store refuses because of it.

use std::collections::BTreeSet;

use crate::proto::etcdserverpb::{AlarmMember, AlarmType};

/// The alarms that are on. They outlive restarts and stay on until someone clears them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Alarms {
    /// By type, then member; a type as in the message, since a newer member may know more of them.
    on: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// The alarms of one type, or all of them for [`AlarmType::None`], by type and then member.
    pub fn list(&self, alarm: AlarmType) -> impl Iterator<Item = AlarmMember> {
        let wanted = alarm as i32;
        let on = self.on.iter().filter(move |(alarm, _)| wanted == 0 || wanted == *alarm);
        on.map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
    }

    /// Whether any member has this alarm on.
    #[must_use]
    pub fn is_on(&self, alarm: AlarmType) -> bool {
        self.on
            .range((alarm as i32, 0)..=(alarm as i32, u64::MAX))
            .next()
            .is_some()
    }

    /// Turns an alarm on; false where it was.
    pub(super) fn activate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.insert((alarm.alarm, alarm.member_id))
    }

    /// Turns an alarm off; false where it was.
    pub(super) fn deactivate(&mut self, alarm: &AlarmMember) -> bool {
        self.on.remove(&(alarm.alarm, alarm.member_id))
    }
}
