//! The cluster service: who takes part.

use quoin_core::proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use crate::serve::grpc::status::Status;
use crate::serve::{Context, facts};

/// All members by id.
pub(crate) async fn member_list(context: &Context, request: MemberListRequest) -> Result<MemberListResponse, Status> {
    if request.linearizable {
        facts::confirm_read(context).await?;
    }
    let header = Some(facts::header_without_revision(context));
    let published = context.node.published();
    let members = published.view.cluster.members().map(|member| Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    Ok(MemberListResponse {
        header,
        members: members.collect(),
    })
}
