//! The proxy inside your own Pingora server: load a configuration, build the plugin, add it.
//!
//! `cargo run --example embed -- conf routes`

use std::error::Error;
use std::path::Path;

use pingora::proxy::http_proxy_service;
use pingora::server::Server;
use pingora::services::background::background_service;
use pingora_bff::{AccessLog, Bff, Config};

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders = std::env::args().skip(1);
    let conf = folders.next().unwrap_or_else(|| "conf".to_owned());
    let routes = folders.next().unwrap_or_else(|| "routes".to_owned());
    let config = Config::load(Path::new(&conf), Path::new(&routes), &|name| std::env::var(name).ok())?;

    let bff = Bff::build(&config, AccessLog::off())?;
    let mut server = Server::new(None)?;
    server.bootstrap();
    // Sessions are swept and the provider is watched here.
    server.add_service(background_service("bff housekeeping", bff.housekeeping()));
    let mut edge = http_proxy_service(&server.configuration, bff);
    for address in &config.settings.server.listen {
        edge.add_tcp(&address.to_string());
    }
    server.add_service(edge);
    server.run_forever()
}
