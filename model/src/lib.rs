//! The reference: a sequential etcd and a checker of histories, with which a simulated cluster or a running server is
//! compared.
//!
//! - [`call`] has the requests and answers of etcd's API as values;
//! - [`etcd`] is a sequential etcd: fed with a log or with single calls, it returns what every answer must be;
//! - [`linear`] decides whether a history of concurrent requests is linearizable, without any log.
//!
//! The model shares no logic with `quoin-core`, so that a mistake in one is not a mistake in both; from core it takes
//! only the messages ([`quoin_core::proto`]).

pub mod call;
pub mod etcd;
pub mod linear;
