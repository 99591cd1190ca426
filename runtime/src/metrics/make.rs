//! Makes metrics and registers them.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, DEFAULT_BUCKETS, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, Opts, Registry,
};

/// The registry of the metrics.
pub(super) struct Make {
    pub(super) registry: Registry,
}

impl Make {
    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry
            .register(Box::new(collector.clone()))
            .expect("every name is used once");
        collector
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("a valid name"))
    }

    pub(super) fn float_counter(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::new(name, help).expect("a valid name"))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.register(CounterVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    pub(super) fn int_counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect("a valid name"))
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help).expect("a valid name"))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.bounds());
        self.register(Histogram::with_opts(options).expect("valid names and buckets"))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Buckets) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.bounds());
        self.register(HistogramVec::new(options, labels).expect("valid names and buckets"))
    }
}

/// The bounds of a histogram's buckets.
#[derive(Clone, Copy)]
pub(super) enum Buckets {
    /// The default of Prometheus' clients.
    Default,
    /// `Doubling(first, count)`: `count` buckets. The first ends at `first`, each further one at twice the bound before
    /// it.
    Doubling(f64, usize),
}

impl Buckets {
    fn bounds(self) -> Vec<f64> {
        match self {
            Self::Default => DEFAULT_BUCKETS.to_vec(),
            Self::Doubling(first, count) => std::iter::successors(Some(first), |bound| Some(bound * 2.0))
                .take(count)
                .collect(),
        }
    }
}
