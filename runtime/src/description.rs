//! The description of a member in the first and last lines of the log.

use quoin_core::config::{Config, Url};
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::version::SERVER_VERSION;

use crate::handle::NodeHandle;

/// The settings in the first and last lines of the log.
#[derive(Clone)]
pub(crate) struct Description {
    name: String,
    data_dir: String,
    advertise_peer_urls: Vec<String>,
    listen_peer_urls: Vec<String>,
    advertise_client_urls: Vec<String>,
    listen_client_urls: Vec<String>,
    listen_metrics_urls: Vec<String>,
}

impl Description {
    pub(crate) fn new(config: &Config) -> Self {
        let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
        Self {
            name: config.name.clone(),
            data_dir: config.data_dir.clone(),
            advertise_peer_urls: texts(&config.advertise_peer_urls),
            listen_peer_urls: texts(&config.listen_peer_urls),
            advertise_client_urls: texts(&config.advertise_client_urls),
            listen_client_urls: texts(&config.listen_client_urls),
            listen_metrics_urls: texts(&config.listen_metrics_urls),
        }
    }

    pub(crate) fn log_start(&self, node: &NodeHandle) {
        let published = node.published();
        let version = published.view.cluster.version();
        let version = version.map(|version| format!("{}.{}", version.major, version.minor));
        tracing::info!(
            "local-member-id" = %MemberId(node.member_id()),
            "local-server-version" = SERVER_VERSION,
            "cluster-id" = %ClusterId(node.cluster_id()),
            "cluster-version" = version.as_deref().unwrap_or("to_be_decided"),
            "starting etcd server"
        );
    }

    pub(crate) fn log_serving(&self, node: &NodeHandle) {
        tracing::info!(
            "local-member-id" = %MemberId(node.member_id()),
            "initial-advertise-peer-urls" = ?self.advertise_peer_urls,
            "listen-peer-urls" = ?self.listen_peer_urls,
            "advertise-client-urls" = ?self.advertise_client_urls,
            "listen-client-urls" = ?self.listen_client_urls,
            "listen-metrics-urls" = ?self.listen_metrics_urls,
            "now serving peer/client/metrics"
        );
    }

    /// The attributes that the member publishes, in Go's format.
    pub(crate) fn attributes(&self) -> String {
        let urls = self.advertise_client_urls.join(" ");
        format!("{{Name:{} ClientURLs:[{urls}]}}", self.name)
    }

    pub(crate) fn log_end(&self, message: &str) {
        tracing::info!(
            name = self.name,
            "data-dir" = self.data_dir,
            "advertise-peer-urls" = ?self.advertise_peer_urls,
            "advertise-client-urls" = ?self.advertise_client_urls,
            "{message}"
        );
    }
}
