//! What is told to Prometheus and to the log, and in which words.

mod access_log;
mod logging;
mod metrics;

pub use access_log::{AccessLine, AccessLog};
pub use logging::{LogGuard, start as start_logging};
pub use metrics::Metrics;
