//! The log lines about alarms, in etcd's words.

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::{AlarmMember, AlarmType};
use quoin_core::store::View;

/// Logs which alarms were raised and disarmed between two states of the member.
pub(crate) fn log_changes(before: &View, after: &View) {
    let list = |view: &View| -> Vec<AlarmMember> { view.alarms.list(AlarmType::None).collect() };
    let (before, after) = (list(before), list(after));
    if before == after {
        return;
    }
    for alarm in after.iter().filter(|alarm| !before.contains(alarm)) {
        tracing::warn!(alarm = alarm.alarm().as_str_name(), from = %MemberId(alarm.member_id), "alarm raised");
    }
    for alarm in before.iter().filter(|alarm| !after.contains(alarm)) {
        tracing::warn!(alarm = alarm.alarm().as_str_name(), from = %MemberId(alarm.member_id), "alarm disarmed");
    }
}
