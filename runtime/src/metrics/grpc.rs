//! Metrics of calls, one set of counters per method, resolved before the first call.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use prometheus::{CounterVec, Histogram, IntCounter, IntCounterVec};
use quoin_core::api::{Kind, Method};

use super::make::{Buckets, Make};
use crate::serve::grpc::status::CODE_NAMES;

/// Number of client versions that are counted separately; further versions share the label `other`. Clients choose the
/// text of the header, so without a bound the counters could fill the memory.
const CLIENT_VERSIONS_MAX: usize = 64;

/// Calls of clients.
#[derive(Debug)]
pub(crate) struct Grpc {
    methods: Vec<MethodMetrics>,
    /// `etcd_network_client_grpc_received_bytes_total`
    pub(crate) received_bytes: IntCounter,
    /// `etcd_network_client_grpc_sent_bytes_total`
    pub(crate) sent_bytes: IntCounter,
    /// `etcd_server_client_requests_total`
    pub(crate) clients: Clients,
    stream_failures: CounterVec,
}

/// One method's counters.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    /// `grpc_server_started_total`
    pub(crate) started: IntCounter,
    /// `grpc_server_msg_received_total`
    pub(crate) received: IntCounter,
    /// `grpc_server_msg_sent_total`
    pub(crate) sent: IntCounter,
    /// `grpc_server_handled_total`, by number of the code
    pub(crate) handled: Vec<IntCounter>,
    /// `grpc_server_handling_seconds`, with `--metrics=extensive`
    pub(crate) seconds: Option<Histogram>,
}

/// `etcd_server_client_requests_total`, by kind of call and version of the client.
#[derive(Debug)]
pub(crate) struct Clients {
    vec: IntCounterVec,
    unknown: [IntCounter; 2],
    versions: RwLock<BTreeMap<String, [IntCounter; 2]>>,
}

impl Grpc {
    pub(super) fn new(make: &Make, extensive: bool) -> Self {
        let labels = ["grpc_service", "grpc_method", "grpc_type"];
        let started = make.int_counters("grpc_server_started_total", "Calls started.", &labels);
        let received = make.int_counters("grpc_server_msg_received_total", "Messages received.", &labels);
        let sent = make.int_counters("grpc_server_msg_sent_total", "Messages sent.", &labels);
        let with_code = ["grpc_service", "grpc_method", "grpc_type", "grpc_code"];
        let handled = make.int_counters("grpc_server_handled_total", "Calls ended, by code.", &with_code);
        let seconds = extensive.then(|| {
            let name = "grpc_server_handling_seconds";
            make.histograms(name, "How long calls took.", &labels, Buckets::Default)
        });
        let method_metrics = |method: &Method| {
            let (service, name, kind) = method.parts();
            let labels = [service, name, kind.name()];
            let by_code = |code: &&str| handled.with_label_values(&[service, name, kind.name(), code]);
            MethodMetrics {
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: CODE_NAMES.iter().map(by_code).collect(),
                seconds: seconds.as_ref().map(|seconds| seconds.with_label_values(&labels)),
            }
        };
        let vec = make.int_counters(
            "etcd_server_client_requests_total",
            "Requests of clients, by the version of their API.",
            &["type", "client_api_version"],
        );
        let stream_failures = make.counters(
            "etcd_network_server_stream_failures_total",
            "Streams that broke on this member.",
            &["Type", "API"],
        );
        Self {
            methods: Method::ALL.iter().map(method_metrics).collect(),
            received_bytes: make.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of messages received from clients.",
            ),
            sent_bytes: make.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of messages sent to clients.",
            ),
            clients: Clients::new(vec),
            stream_failures,
        }
    }

    /// The counters of a method.
    pub(crate) fn method(&self, method: Method) -> &MethodMetrics {
        &self.methods[method as usize]
    }

    /// A stream broke while receiving (`receive`) or sending (`send`).
    pub(crate) fn stream_failed(&self, direction: &str, api: &str) {
        self.stream_failures.with_label_values(&[direction, api]).inc();
    }
}

impl Clients {
    fn new(vec: IntCounterVec) -> Self {
        let unknown = Self::pair(&vec, "unknown");
        Self {
            vec,
            unknown,
            versions: RwLock::new(BTreeMap::new()),
        }
    }

    fn pair(vec: &IntCounterVec, version: &str) -> [IntCounter; 2] {
        ["unary", "stream"].map(|kind| vec.with_label_values(&[kind, version]))
    }

    /// Counts calls of this kind by clients of this version.
    pub(crate) fn of(&self, kind: Kind, version: Option<&str>) -> IntCounter {
        let index = usize::from(kind != Kind::Unary);
        let Some(version) = version else {
            return self.unknown[index].clone();
        };
        if let Some(pair) = self
            .versions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(version)
        {
            return pair[index].clone();
        }
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        let version = if versions.len() < CLIENT_VERSIONS_MAX {
            version
        } else {
            "other"
        };
        versions
            .entry(version.to_owned())
            .or_insert_with(|| Self::pair(&self.vec, version))[index]
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    use super::*;

    #[test]
    fn versions_of_clients_are_counted_up_to_a_bound() {
        let metrics = Metrics::new(false, "3.6.9", "0");
        let clients = &metrics.grpc.clients;
        clients.of(Kind::Unary, None).inc();
        clients.of(Kind::BidiStream, Some("3.5.0")).inc();
        for number in 0..1000 {
            clients.of(Kind::Unary, Some(&format!("v{number}"))).inc();
        }
        let text = metrics.render(|_| ());
        let value = |labels: &str| {
            let name = format!("etcd_server_client_requests_total{{{labels}}} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
        };
        assert_eq!(value("client_api_version=\"unknown\",type=\"unary\""), Some(1));
        assert_eq!(value("client_api_version=\"3.5.0\",type=\"stream\""), Some(1));
        assert_eq!(value("client_api_version=\"other\",type=\"unary\""), Some(1000 - 63));
    }
}
