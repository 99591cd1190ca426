//! The cluster service: the members of the cluster.

use super::{Answer, Call, Server, Step, Then};
use crate::config::Url;
use crate::error::Error;
use crate::id::MemberId;
use crate::membership;
use crate::node::Request;
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};

/// All members by id.
pub(super) fn list(server: &Server<'_>) -> Answer {
    Answer::MemberList(MemberListResponse {
        header: Some(server.header_without_revision()),
        members: server.view.cluster.members().map(member).collect(),
    })
}

/// Adds a member, whose URLs must be such as a flag may have.
pub(super) fn add(server: &Server<'_>, mut request: MemberAddRequest) -> Result<Step, Error> {
    let urls: Result<Vec<Url>, String> = request.peer_urls.iter().map(|url| Url::parse(url.trim())).collect();
    let urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(Error::BadMemberUrls)?;
    request.peer_urls = urls.iter().map(Url::to_string).collect();
    request.peer_urls.sort_unstable();
    let asked = Request::MemberAdd {
        peer_urls: request.peer_urls.clone(),
        is_learner: request.is_learner,
        unix_seconds: server.facts.unix_seconds(),
    };
    Ok(Step::ask(asked, Then::Change(Call::MemberAdd(request))))
}

/// Promotes a learner to a voter.
pub(super) fn promote(request: MemberPromoteRequest) -> Step {
    let id = MemberId(request.id);
    Step::ask(
        Request::MemberPromote { id },
        Then::Change(Call::MemberPromote(request)),
    )
}

/// Removes a member for good.
pub(super) fn remove(request: MemberRemoveRequest) -> Step {
    let id = MemberId(request.id);
    Step::ask(Request::MemberRemove { id }, Then::Change(Call::MemberRemove(request)))
}

/// Changes the peer URLs of a member.
pub(super) fn update(request: MemberUpdateRequest) -> Step {
    let asked = Request::MemberUpdate {
        id: MemberId(request.id),
        peer_urls: request.peer_urls.clone(),
    };
    Step::ask(asked, Then::Change(Call::MemberUpdate(request)))
}

/// The answer to an applied change; `all` are the members after it.
pub(super) fn changed(server: &Server<'_>, then: &Then, all: &[membership::Member]) -> Answer {
    let header = Some(server.header_without_revision());
    let members = all.iter().map(member).collect();
    match then {
        Then::Change(Call::MemberAdd(request)) => Answer::MemberAdd(MemberAddResponse {
            header,
            member: all
                .iter()
                .find(|found| found.peer_urls == request.peer_urls)
                .map(member),
            members,
        }),
        Then::Change(Call::MemberPromote(_)) => Answer::MemberPromote(MemberPromoteResponse { header, members }),
        Then::Change(Call::MemberRemove(_)) => Answer::MemberRemove(MemberRemoveResponse { header, members }),
        _ => Answer::MemberUpdate(MemberUpdateResponse { header, members }),
    }
}

fn member(member: &membership::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
