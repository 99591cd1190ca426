//! What is right: a sequential etcd and a checker of histories, to hold a simulated cluster or a running server against.
//!
//! - [`call`] has the requests and answers of etcd's API as values;
//! - [`etcd`] is a sequential etcd: fed with a log or with single calls, it says what every answer must be;
//! - [`linear`] says whether a history of concurrent requests is linearizable, without looking at any log.
//!
//! Nothing here shares logic with `quoin-core`, so that a mistake in one is not a mistake in both; of core it takes the
//! messages ([`quoin_core::proto`]) alone.

pub mod call;
pub mod etcd;
pub mod linear;
