//! Downgrades of the cluster: the replicated fact that the cluster version may be lowered to the version before. The
//! leader lowers it ([`crate::node`]); the members of the target version are an operator's matter.

use super::{Answer, Call, Server, Step, Then, confirmed as when_confirmed};
use crate::error::Error;
use crate::node::Request;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use crate::proto::membershippb::DowngradeInfoSetRequest;
use crate::version::Version;

/// Checks the request; whatever depends on the cluster is checked once this member is known to be up to date.
pub(super) fn begin(request: DowngradeRequest) -> Result<Step, Error> {
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
            target(&request.version)?;
        }
        Ok(DowngradeAction::Cancel) => {}
        Err(_) => return Err(Error::UnknownMethod),
    }
    Ok(when_confirmed(Call::Downgrade(request)))
}

/// Goes on once this member is up to date.
pub(super) fn confirmed(server: &Server<'_>, request: &DowngradeRequest) -> Result<Step, Error> {
    let set = match request.action() {
        DowngradeAction::Validate => {
            validate(server, &request.version)?;
            return Ok(Step::Answer(done(server)));
        }
        DowngradeAction::Enable => DowngradeInfoSetRequest {
            enabled: true,
            ver: validate(server, &request.version)?.to_string(),
        },
        DowngradeAction::Cancel if !is_enabled(server) => return Err(Error::NoInflightDowngrade),
        DowngradeAction::Cancel => DowngradeInfoSetRequest::default(),
    };
    Ok(Step::ask(Request::Downgrade(set), Then::Downgrade))
}

/// The answer of a request that was checked or carried out.
pub(super) fn done(server: &Server<'_>) -> Answer {
    let version = server.view.cluster.version();
    Answer::Downgrade(DowngradeResponse {
        header: Some(server.header()),
        version: version.map_or_else(String::new, |version| version.to_string()),
    })
}

/// Whether a downgrade is in progress.
pub(super) fn is_enabled(server: &Server<'_>) -> bool {
    let downgrade = server.view.cluster.downgrade();
    downgrade.is_some_and(|downgrade| downgrade.enabled)
}

/// The version to which the cluster may be downgraded now, if it is the wanted one.
fn validate(server: &Server<'_>, wanted: &str) -> Result<Version, Error> {
    let target = target(wanted)?;
    let present = server.view.cluster.version().ok_or(Error::ClusterVersionUnavailable)?;
    if present.previous_minor() != Some(target) {
        return Err(Error::InvalidDowngradeTargetVersion);
    }
    if is_enabled(server) {
        return Err(Error::DowngradeInProcess);
    }
    Ok(target)
}

/// Reads a target version: `3.5.1` or `3.5`. The patch does not count.
fn target(text: &str) -> Result<Version, Error> {
    let is_valid = |suffix: &str| {
        suffix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+'))
    };
    let version = Version::parse(text).or_else(|| Version::parse(&format!("{text}.0")));
    match version {
        Some(version) if is_valid(text) => Ok(Version { patch: 0, ..version }),
        _ => Err(Error::WrongDowngradeVersionFormat),
    }
}
