//! The paths under `/debug/` of a client port: `/debug/vars`, as far as it has a meaning without Go, and an answer that
//! says so for `/debug/pprof/`.

use http::StatusCode;
use quoin_core::id::MemberId;

use super::Context;
use crate::metrics;

/// The text at the paths of profiles, if the operator asked for them (`--enable-pprof`).
pub(crate) const NO_PROFILES: &str = "Quoin has no Go runtime and serves no profiles. To see where time is spent, run a profiler such as perf on its process.";

/// Whether the path is one of Go's profiles.
pub(crate) fn is_profile(path: &str) -> bool {
    path == "/debug/pprof" || path.starts_with("/debug/pprof/")
}

/// The status and text for a path of a profile: as in etcd there is nothing unless the operator asked for it.
pub(crate) fn profile(is_enabled: bool) -> (StatusCode, &'static str) {
    if is_enabled {
        (StatusCode::NOT_IMPLEMENTED, NO_PROFILES)
    } else {
        (StatusCode::NOT_FOUND, "404 page not found")
    }
}

/// `/debug/vars`: the variables of etcd's page, except those of Go's memory.
pub(crate) fn vars(context: &Context) -> String {
    let status = context.node.published().status;
    let state = match (status.leads, status.is_learner, status.leader) {
        (true, _, _) => "StateLeader",
        (_, _, MemberId::NONE) => "StateCandidate",
        _ => "StateFollower",
    };
    let vars = serde_json::json!({
        "cmdline": std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "file_descriptor_limit": metrics::descriptor_limit(),
        "raft.status": {
            "id": status.member.to_string(),
            "term": status.term,
            "commit": status.commit_index,
            "lead": status.leader.to_string(),
            "raftState": state,
            "applied": status.applied_index,
        },
    });
    format!("{vars:#}\n")
}
