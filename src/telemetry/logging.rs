//! The logger: one line an event, written by a thread of its own so that a request never waits
//! for a disk or a terminal.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use super::line_writer::{LineWriter, Worker};

/// Keeps the writer thread alive; lines still queued are written when it is dropped.
#[derive(Debug)]
pub struct LogGuard {
    _worker: Worker,
    writer: LineWriter,
}

impl LogGuard {
    /// Where whole lines go: standard output, by way of the writer thread.
    #[must_use]
    pub fn writer(&self) -> LineWriter {
        self.writer.clone()
    }
}

/// Starts logging to standard output. `level` is one of `error` … `trace`; `RUST_LOG` overrides it.
/// A second call in one process changes nothing but still gives a writer.
///
/// # Errors
/// The system gives no thread, or no descriptor.
pub fn start(level: &str, json: bool) -> std::io::Result<LogGuard> {
    // Without the buffer of `Stdout`, which keeps half a line where the whole did not fit.
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let (writer, worker) = LineWriter::start(output)?;
    // The engine logs request lines and peers at its own levels: we log requests ourselves, without
    // queries; of the engine only its warnings are wanted. Its pool calls it an error, one request of a hundred, that
    // a kept connection is still being let go by whoever watched it: the next one is taken.
    let defaults = format!(
        "{level},pingora_bff={level},pingora=warn,pingora_core=warn,pingora_core::connectors=off,pingora_proxy=off,\
         hyper=warn,h2=warn,reqwest=warn,rustls=warn"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(defaults));
    // Colours are for terminals: in a file they are noise that no search finds its way through.
    let colours = std::io::stdout().is_terminal();
    let lines = writer.clone();
    let line = fmt::layer().with_ansi(colours).with_writer(move || lines.clone());
    let heard = tracing_subscriber::registry().with(filter_fn(may_speak)).with(filter);
    // An embedding program may have its own subscriber: then ours yields.
    let _ = if json {
        heard.with(line.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        heard.with(line.compact()).try_init()
    };
    Ok(LogGuard { _worker: worker, writer })
}

/// Below `info` only our own code is heard, whatever `RUST_LOG` says: at `debug` and `trace` the engine and
/// the HTTP libraries write whole requests, with their cookies, codes and tokens.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    let ours =
        metadata.target().strip_prefix("pingora_bff").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    // The engine's plain application, which the admin listener is, writes down whole heads that it cannot read.
    let writes_heads = metadata.target() == "pingora_core::apps::http_app";
    ours || (*metadata.level() <= Level::INFO && !writes_heads)
}
