//! An embedded server: a cluster of one member, with the settings that embedders use most.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use quoin_core::config::{Config, Url};

use crate::seam::Runtime;
use crate::server::{Handle, Server, StartError};

/// A server to be started by [`Builder::start`].
///
/// It listens for clients on a free port of 127.0.0.1 and for no peers, unless it is configured otherwise.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    listen: Vec<Url>,
}

impl Builder {
    pub(crate) fn new(data_dir: String) -> Self {
        let config = Config {
            data_dir,
            listen_peer_urls: Vec::new(),
            ..Config::with_defaults()
        };
        Self {
            config,
            listen: Vec::new(),
        }
    }

    /// Listens for clients on this port of 127.0.0.1; 0 means a free port, which [`Handle::endpoint`] names.
    pub fn port(self, port: u16) -> Self {
        self.listen(Url::loopback(port))
    }

    /// Listens for clients on a Unix socket at this path.
    pub fn socket(self, path: impl AsRef<str>) -> Self {
        self.listen(Url::unix(path.as_ref()))
    }

    /// Listens for clients at this URL. Repeated calls add URLs.
    pub fn listen(mut self, url: Url) -> Self {
        self.listen.push(url);
        self
    }

    /// Names the member; `default` otherwise.
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.configure(|config| {
            let peers = config.advertise_peer_urls.iter();
            config.initial_cluster = peers.map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
            config.name = name;
        })
    }

    /// Changes any other setting. Where clients are served is set by the methods above, which override changes made
    /// here.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the server on the runtime's workers, and waits until it serves clients.
    ///
    /// # Errors
    /// Why it does not serve: an address is in use, for example, or the data directory is not a member's.
    pub async fn start(self, runtime: Arc<dyn Runtime>) -> Result<Handle, StartError> {
        let Self { mut config, mut listen } = self;
        if listen.is_empty() {
            listen.push(Url::loopback(0));
        }
        config.advertise_client_urls.clone_from(&listen);
        config.listen_client_urls = listen;
        let handle = Server::start(config, runtime).await?;
        let (mut ready, mut ended) = (handle.ready(), handle.ended());
        let why = poll_fn(|cx| {
            if let Poll::Ready(why) = ended.as_mut().poll(cx) {
                return Poll::Ready(Some(why));
            }
            ready.as_mut().poll(cx).map(|()| None)
        });
        match why.await {
            None => Ok(handle),
            Some(why) => Err(StartError::Ended(why)),
        }
    }
}
