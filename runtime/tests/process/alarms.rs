//! Alarms are logged when they are raised and when they are disarmed, in etcd's words.

use std::sync::Arc;

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};
use quoin_runtime::seam::Runtime;

use super::member::Folder;
use crate::client::{Grpc, run};

pub(crate) fn alarms_are_logged(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let mut member = folder.start(None, &[]);
    let (address, client) = (member.ready(), Arc::clone(&runtime));
    run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, 1 << 20).await;
        // Repeated requests: only changes are logged.
        for action in [
            AlarmAction::Activate,
            AlarmAction::Activate,
            AlarmAction::Deactivate,
            AlarmAction::Deactivate,
        ] {
            let request = AlarmRequest {
                action: action.into(),
                member_id: 0xabc,
                alarm: AlarmType::Nospace.into(),
            };
            let _: AlarmResponse = grpc.ok("/etcdserverpb.Maintenance/Alarm", &request).await;
        }
    });
    for text in [
        "alarm raised alarm=NOSPACE from=abc",
        "alarm disarmed alarm=NOSPACE from=abc",
    ] {
        member.line(text);
        assert_eq!(member.text().matches(text).count(), 1, "{}", member.text());
    }
}
