//! What is told to Prometheus and to the log, and in which words.

mod access_log;
mod line_writer;
mod logging;
mod meters;
mod metrics;

pub use access_log::{AccessLine, AccessLog};
pub use line_writer::LineWriter;
pub use logging::{LogGuard, start as start_logging};
pub use meters::Meters;
pub use metrics::Metrics;
