//! Asks other members what a start needs to know about their cluster.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::boot::{Question, RemoteAnswer, Why};
use quoin_core::limits::{JOIN_PATIENCE, MAX_PEER_ANSWER_BYTES, TWIN_PATIENCE};
use quoin_core::peer::PeerHead;

use super::dial;
use crate::tls::Dialer;

/// The header that names the cluster of a member.
const CLUSTER: &str = "x-etcd-cluster-id";

/// Asks the peers at these URLs, all at the same time. A peer that cannot be reached in time has no entry in the
/// result. Blocks the calling thread, which must not be a worker.
pub(crate) fn ask(dialer: &Dialer, urls: &[String], why: Why) -> BTreeMap<String, RemoteAnswer> {
    let patience = match why {
        Why::DuplicateBootstrap => TWIN_PATIENCE,
        Why::Join => JOIN_PATIENCE,
    };
    let (sender, answers) = mpsc::channel();
    for url in urls {
        let (asking, url, sender) = (dialer.clone(), url.clone(), sender.clone());
        dialer.runtime().spawn(Box::pin(async move {
            let answer = ask_one(&asking, &url, patience).await;
            // The start may have given up.
            let _gone = sender.send((url, answer));
        }));
    }
    drop(sender);
    let clock = dialer.runtime().clock();
    let end = clock.now() + patience;
    let mut found = BTreeMap::new();
    while let Ok((url, answer)) = answers.recv_timeout(end.saturating_since(clock.now())) {
        found.extend(answer.map(|answer| (url, answer)));
    }
    found
}

/// Asks one peer all questions; `None` if it does not answer with its cluster and members.
async fn ask_one(dialer: &Dialer, url: &str, patience: Duration) -> Option<RemoteAnswer> {
    let clock = dialer.runtime().clock();
    let end = clock.now() + patience;
    let mut answer = RemoteAnswer::default();
    for question in Question::ALL {
        let head = PeerHead {
            method: "GET".to_owned(),
            path: question.path().to_owned(),
            fields: BTreeMap::new(),
        };
        let left = end.saturating_since(clock.now());
        match dial::ask(dialer, url, &head, Bytes::new(), MAX_PEER_ANSWER_BYTES, left).await {
            Ok((200, head, body)) => {
                let cluster = head.fields.get(CLUSTER).map(String::as_str);
                answer.hear(question, cluster, &body);
            }
            // etcd before 3.5 does not know every question.
            Ok((status, ..)) => {
                tracing::debug!(url, path = question.path(), status, "a peer refused a question");
            }
            Err(error) => {
                tracing::warn!(url, path = question.path(), error, "a peer cannot be asked");
                break;
            }
        }
    }
    answer.cluster.is_some().then_some(answer)
}
