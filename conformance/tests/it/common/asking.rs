//! Calls of a client that are repeated until a member answers.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use quoin_conformance::{Server, wait};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// Repeats a call at a member until it succeeds, on a new connection each time. The call must be one that may be
/// repeated.
pub(crate) fn ask<T, F: Future<Output = Result<T, Error>>>(
    runtime: &Runtime,
    server: &Server,
    call: impl Fn(Client) -> F,
) -> T {
    let address = server.address().to_string();
    let limit = ConnectOptions::new().with_timeout(CALL_LIMIT);
    let mut last = None;
    let answer = wait::until(PATIENCE, STEP, || {
        let called = runtime.block_on(async {
            let client = Client::connect([&address], Some(limit.clone())).await?;
            call(client).await
        });
        called.map_err(|error| last = Some(error)).ok()
    });
    answer.unwrap_or_else(|| panic!("{} at {address} does not answer: {last:?}", server.name()))
}
