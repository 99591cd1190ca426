//! Encodes answers as messages: a short one whole, a long one piece by piece, and one of many items on the compute
//! thread.

use prost::Message;
use quoin_core::api::Answer;

use super::super::pieces::Parts;
use super::Payload;
use super::call::Call;
use super::message::{self, Encoding};
use super::status::Status;

/// The body of a call's answer, and the length of its message without the prefix.
type Written = Result<(usize, Payload), Status>;

/// Encodes an answer of many items on the compute thread.
pub(crate) async fn written_apart(call: &Call, answer: Answer) -> Written {
    let encoding = call.encoding;
    call.context.compute.run(move || written(answer, encoding)).await?
}

/// Encodes an answer.
pub(crate) fn written(answer: Answer, encoding: Encoding) -> Written {
    match answer {
        Answer::Alarm(response) => whole(&response, encoding),
        Answer::AuthChanged(response) => whole(&response, encoding),
        Answer::AuthStatus(response) => whole(&response, encoding),
        Answer::Authenticate(response) => whole(&response, encoding),
        Answer::Campaign(response) => whole(&response, encoding),
        Answer::Compact(response) => whole(&response, encoding),
        Answer::Defragment(response) => whole(&response, encoding),
        Answer::DeleteRange(response) => Parts::of_deletion(response).payload(encoding),
        Answer::Downgrade(response) => whole(&response, encoding),
        Answer::Hash(response) => whole(&response, encoding),
        Answer::HashKv(response) => whole(&response, encoding),
        Answer::Health(response) => whole(&response, encoding),
        Answer::Leader(response) => whole(&response, encoding),
        Answer::LeaseGrant(response) => whole(&response, encoding),
        Answer::LeaseKeepAlive(response) => whole(&response, encoding),
        many @ (Answer::LeaseKeys { .. } | Answer::LeaseList { .. }) => written(many.whole(), encoding),
        Answer::LeaseLeases(response) => whole(&response, encoding),
        Answer::LeaseRevoke(response) => whole(&response, encoding),
        Answer::LeaseTimeToLive(response) => whole(&response, encoding),
        Answer::Lock(response) => whole(&response, encoding),
        Answer::MemberAdd(response) => whole(&response, encoding),
        Answer::MemberList(response) => whole(&response, encoding),
        Answer::MemberPromote(response) => whole(&response, encoding),
        Answer::MemberRemove(response) => whole(&response, encoding),
        Answer::MemberUpdate(response) => whole(&response, encoding),
        Answer::MoveLeader(response) => whole(&response, encoding),
        Answer::Proclaim(response) => whole(&response, encoding),
        Answer::Put(response) => whole(&response, encoding),
        Answer::Range(response) => whole(&response, encoding),
        Answer::Resign(response) => whole(&response, encoding),
        Answer::RoleGet(response) => whole(&response, encoding),
        Answer::RoleList(response) => whole(&response, encoding),
        Answer::Rows { header, found } => Parts::of_range(header, found).payload(encoding),
        Answer::Status(response) => whole(&response, encoding),
        Answer::Txn(response) => Parts::of_txn(response).payload(encoding),
        Answer::TxnRows { header, found } => Parts::of_read_txn(header, found).payload(encoding),
        Answer::Unlock(response) => whole(&response, encoding),
        Answer::UserGet(response) => whole(&response, encoding),
        Answer::UserList(response) => whole(&response, encoding),
    }
}

fn whole(response: &impl Message, encoding: Encoding) -> Written {
    let message = message::encode(response, encoding);
    Ok((response.encoded_len(), Payload::Message(message)))
}
