//! The program as a server: listeners, housekeeping, and an orderly end.

use std::sync::Arc;

use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;

use super::certificate::Certificate;
use super::{StartError, drain, listen, reload};
use crate::config::Config;
use crate::proxy::Bff;

/// Serves until told to stop. Must not be called from within an async runtime.
pub fn serve(config: &Config, bff: Bff) -> Result<(), StartError> {
    let written = &config.settings.server;
    let public = written.listen.iter().map(|address| (*address, "server.listen"));
    listen::probe(public.chain([(written.admin_listen, "server.admin_listen")]))?;

    let mut server = Server::new_with_opt_and_conf(None, engine_conf(config));
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);
    let gateway = bff.gateway();
    server.add_service(background_service("housekeeping", bff.housekeeping()));
    let certificate = written.tls.as_ref().map(Certificate::read).transpose()?;
    let reload = reload::OnHangup { bff: bff.clone(), certificate: certificate.clone() };
    server.add_service(background_service("reload", reload));
    server.add_service(listen::admin(written.admin_listen, bff.clone()));
    server.add_boxed_service(listen::public(&conf, written, certificate.as_ref(), bff)?);
    tracing::info!(
        listen = ?written.listen,
        admin = %written.admin_listen,
        public_url = %written.public_url,
        routes = config.routes.len(),
        "serving"
    );
    let signal = drain::Drain { gateway, grace: written.shutdown_grace };
    server.run(RunArgs { shutdown_signal: Box::new(signal) });
    Ok(())
}

fn engine_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.settings.server.threads,
        // One single-threaded runtime a core: measured to cost less per request than stealing work.
        work_stealing: false,
        // Requests have finished by the time the engine is told (see `drain`).
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 1024,
        max_retries: 2,
        ..ServerConf::default()
    }
}
