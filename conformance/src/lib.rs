//! Compares Quoin with a real etcd through real clients: the shared code of the suites.
//!
//! [`fetch`] downloads a real etcd, [`binaries`] builds Quoin's servers, one for each runtime ("ours"), [`server`] runs
//! any of them on loopback, [`script`] and [`scene`] play etcdctl scripts, [`golden`] compares results with recorded
//! ones, [`users`] and [`signed`] compare who may do what, [`histories`] and [`sweep`] disturb and kill servers and check the
//! observations of clients, [`churn`] does so with a cluster; [`suites`] runs them one after another and writes the
//! [`report`]. This code treats every server alike, apart from its name. The suites themselves are in `tests/`, their
//! expected results in `scripts/`.

pub mod binaries;
pub mod certs;
pub mod children;
pub mod churn;
pub mod clients;
pub mod command;
pub mod diff;
pub mod fetch;
pub mod gateway;
pub mod golden;
pub mod histories;
pub mod members;
pub mod metrics;
pub mod network;
pub mod normalise;
pub mod outcome;
pub mod paths;
pub mod proxy;
pub mod report;
pub mod rng;
pub mod scene;
pub mod script;
pub mod server;
pub mod setup;
pub mod shapes;
pub mod signed;
pub mod suites;
pub mod sweep;
pub mod trouble;
mod tunnel;
pub mod unserved;
pub mod usage;
pub mod users;
pub mod wait;

pub use binaries::Kind;
pub use server::{Launch, Server};
pub use setup::Setup;
pub use trouble::Trouble;

/// Makes one test of every story for every server; a new server is a new row here.
///
/// The calling file supplies `fn play(kind, name, story)`.
#[macro_export]
macro_rules! on_every_server {
    ($($story:ident),+ $(,)?) => {
        $crate::on_every_server!(@row real_etcd, Etcd: $($story)+);
        $crate::on_every_server!(@ours $($story)+);
    };
    (@ours $($story:ident)+) => {
        $crate::on_every_server!(@row quoin_tokio, QuoinTokio: $($story)+);
        $crate::on_every_server!(@row quoin_smol, QuoinSmol: $($story)+);
        $crate::on_every_server!(@row quoin_async_std, QuoinAsyncStd: $($story)+);
    };
    (@row $row:ident, $kind:ident: $($story:ident)+) => {
        mod $row {
            $(
                #[test]
                fn $story() {
                    super::play($crate::Kind::$kind, stringify!($story), super::$story);
                }
            )+
        }
    };
}
