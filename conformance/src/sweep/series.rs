//! The load of every run: a fixed series of requests, one after another, until one is not answered.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quoin_model::linear::kv::{Op, Request};
use tokio::runtime::Runtime;

use crate::histories::clients::{self, Shared};
use crate::rng::Rng;
use crate::trouble::{During as _, Trouble};

const REQUESTS: u64 = 120;
const CLIENT: u64 = 0;
/// Long enough to outlive every run.
const TTL_SECONDS: i64 = 5000;
/// Added to a request's number, this is the id of its lease.
const FIRST_LEASE: u64 = 7000;
/// The length of the long values.
const LONG_BYTES: usize = 20_000;

/// What was played of the series: its history, and what the client needs to go on after the restart.
pub(super) struct Played {
    pub(super) shared: Arc<Shared>,
    /// Leases that were granted.
    pub(super) leases: Vec<i64>,
    /// Whether every request was answered.
    pub(super) is_whole: bool,
    runtime: Runtime,
}

/// Plays the whole series to a server, or as much of it as the server answers.
pub(super) fn play(address: SocketAddr) -> Result<Played, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the client")?;
    let shared = Shared::new(address);
    let mut leases = Vec::new();
    let is_whole = runtime.block_on(all(&shared, &mut leases));
    Ok(Played {
        shared,
        leases,
        is_whole,
        runtime,
    })
}

/// The empty series: the server died before it served.
pub(super) fn nothing(address: SocketAddr) -> Result<Played, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the client")?;
    Ok(Played {
        shared: Shared::new(address),
        leases: Vec::new(),
        is_whole: false,
        runtime,
    })
}

async fn all(shared: &Shared, leases: &mut Vec<i64>) -> bool {
    let mut caller = shared.connect().await;
    for number in 0..REQUESTS {
        let mut lease = 0;
        if number % 8 == 6 {
            let Some(connected) = &caller else {
                return false;
            };
            let id = (FIRST_LEASE + number) as i64;
            if connected.grant(id, TTL_SECONDS).await.is_err() {
                return false;
            }
            leases.push(id);
            lease = id;
        }
        if shared
            .ask(&mut caller, CLIENT, &request(number), (lease, false))
            .await
            .is_none()
        {
            return false;
        }
    }
    true
}

fn request(number: u64) -> Request {
    let key = |folder: &str| Bytes::from(format!("{folder}/{}", number % 7));
    let put = |folder: &str| Op::Put {
        key: key(folder),
        value: Bytes::from(format!("value {number}")),
    };
    let delete = |folder: &str| Op::DeleteRange {
        key: key(folder),
        end: None,
    };
    let txn = |compare, success| Request::Txn {
        compare,
        success,
        failure: Vec::new(),
    };
    match number % 8 {
        0 | 1 => Request::One(put("k")),
        2 => txn(Vec::new(), vec![put("a"), put("b"), delete("k")]),
        3 => Request::One(delete("a")),
        4 => txn(
            vec![(Bytes::from(format!("new/{number}")), 0)],
            vec![put("c"), delete("b")],
        ),
        5 => Request::One(Op::Put {
            key: key("long"),
            value: Bytes::from(format!("{number:LONG_BYTES$}")),
        }),
        6 => Request::One(put("held")),
        _ => Request::One(Op::DeleteRange {
            key: Bytes::from_static(b"a"),
            end: Some(Bytes::from_static(b"d")),
        }),
    }
}

impl Played {
    /// After the restart, makes one more write, checks the leases, reads the last state, and watches everything from
    /// the beginning.
    pub(super) fn finish(&self) -> Result<(), Trouble> {
        self.runtime.block_on(async {
            let mut caller = self.shared.connect().await;
            let further = Request::One(Op::Put {
                key: Bytes::from_static(b"further"),
                value: Bytes::from_static(b"further"),
            });
            if self
                .shared
                .ask(&mut caller, CLIENT, &further, (0, false))
                .await
                .is_none()
            {
                return Err(Trouble::new("the server accepts no further write"));
            }
            let leases = match &caller {
                Some(caller) => caller.leases().await.unwrap_or_default(),
                None => Vec::new(),
            };
            if let Some(lost) = self.leases.iter().find(|lease| !leases.contains(lease)) {
                return Err(Trouble::new(format!(
                    "lease {lost} was granted and is not among {leases:?}"
                )));
            }
            if !clients::end(&self.shared, &mut caller).await {
                return Err(Trouble::new("the server does not return its last state"));
            }
            clients::watch(self.shared.clone(), Rng::new(0)).await;
            Ok(())
        })
    }
}
