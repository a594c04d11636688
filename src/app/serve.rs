//! The program as a server: listeners, housekeeping, and an orderly end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;

use super::certificate::Certificate;
use super::{StartError, capacity, drain, handover, listen, reload};
use crate::config::{Config, ServerConfig};
use crate::proxy::Bff;

/// How long the engine lets a process wait for sockets before it ends it.
const WAITS: Duration = Duration::from_secs(5);

/// Where the listening sockets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// Our own.
    Bind,
    /// Those of a process that serves already, and leaves.
    TakeOver,
}

/// The whole program, as `pingora-bff run` is: serves until told to stop, and reloads on SIGHUP. `bff` was built of
/// `config`. Must not be called from within an async runtime.
pub fn serve(config: &Config, bff: Bff, sockets: Sockets) -> Result<(), StartError> {
    let written = &config.settings.server;
    let upgrade_sock = handover::absolute(&written.upgrade_sock);
    let mut server = match sockets {
        Sockets::Bind => {
            let public = written.listen.iter().map(|address| (*address, "server.listen"));
            listen::probe(public.chain([(written.admin_listen, "server.admin_listen")]))?;
            let mut server = Server::new_with_opt_and_conf(None, engine_conf(config, &upgrade_sock));
            server.bootstrap();
            server
        }
        Sockets::TakeOver => take_over(config, &upgrade_sock)?,
    };
    let conf = Arc::clone(&server.configuration);
    server.add_service(background_service("housekeeping", bff.housekeeping()));
    let certificate = Certificate::of(written)?;
    let reload = reload::OnHangup { bff: bff.clone(), certificate: certificate.clone() };
    server.add_service(background_service("reload", reload));
    server.add_service(bff.admin_service());
    server.add_service(listen::public(&conf, certificate.as_ref(), &bff, bff.clone())?);
    tracing::info!(
        listen = ?written.listen,
        admin = %written.admin_listen,
        public_url = %written.public_url,
        routes = config.routes.len(),
        "serving"
    );
    run(server, bff, written, upgrade_sock);
    Ok(())
}

/// Waits until the process that serves hands its sockets over. The engine ends us if it does not.
fn take_over(config: &Config, upgrade_sock: &Path) -> Result<Server, StartError> {
    handover::prepare(upgrade_sock)?;
    let opt = Opt { upgrade: true, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, engine_conf(config, upgrade_sock));
    tracing::info!(
        path = %upgrade_sock.display(),
        "waiting for the listening sockets: send SIGQUIT to the process that has them"
    );
    let (came, coming) = channel::<()>();
    thread::spawn(move || {
        if coming.recv_timeout(WAITS) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("nobody has handed over listening sockets; giving up");
        }
    });
    server.bootstrap();
    drop(came);
    tracing::info!("the listening sockets are here");
    Ok(server)
}

/// The engine runs on a thread of its own: its grace is a sleep, which ends with us.
fn run(server: Server, bff: Bff, written: &ServerConfig, upgrade_sock: PathBuf) {
    let (over, end) = sync_channel(1);
    let phases = Mutex::new(Some(server.watch_execution_phase()));
    let (delay, grace) = (written.drain_delay, written.shutdown_grace);
    let engine = thread::spawn(move || {
        let stopped = over.clone();
        let drain = drain::Drain { bff, delay, grace, upgrade_sock, phases, over };
        server.run(RunArgs { shutdown_signal: Box::new(drain) });
        let _ = stopped.try_send(());
    });
    // An error: the engine's thread has ended in its own way.
    if end.recv().is_err() {
        let _ = engine.join();
    }
}

fn engine_conf(config: &Config, upgrade_sock: &Path) -> ServerConf {
    ServerConf {
        threads: config.settings.server.threads,
        // One single-threaded runtime a core: measured to cost less per request than stealing work.
        work_stealing: false,
        // Never slept to its end (see `drain`).
        grace_period_seconds: Some(config.settings.server.shutdown_grace.as_secs().saturating_add(2)),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: capacity::pooled(config.settings.server.threads),
        max_retries: 2,
        upgrade_sock: upgrade_sock.to_string_lossy().into_owned(),
        ..ServerConf::default()
    }
}
