//! What is told to Prometheus, to the log and to nobody: every metric, the access line, the logger.

mod metrics;

pub use metrics::Metrics;
