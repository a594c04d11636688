//! The configuration of one measured proxy, as a user would write it, and of the nginx beside it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::provider::AUDIENCE;

/// Where one proxy of ours listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// `server.listen`.
    pub public: u16,
    /// `server.admin_listen`.
    pub admin: u16,
}

/// Writes `conf/` and `routes/` below `dir`.
pub fn write(dir: &Path, ports: Ports, store: &str, issuer: &str, upstream: SocketAddr) {
    let (conf, routes) = (dir.join("conf"), dir.join("routes"));
    fs::create_dir_all(&conf).unwrap();
    fs::create_dir_all(&routes).unwrap();
    let Ports { public, admin } = ports;
    let settings = format!(
        "server: {{ listen: \"127.0.0.1:{public}\", admin_listen: \"127.0.0.1:{admin}\", threads: 1, shutdown_grace: 1 }}\n\
         session: {{ store: \"{store}\", secret: \"{SECRET}\", lifetime_seconds: 86400, max_lifetime_seconds: 172800 }}\n\
         service_audiences: {{ api: \"{AUDIENCE}\" }}\nlog: {{ level: info, format: json }}\n"
    );
    fs::write(conf.join("settings.yaml"), settings).unwrap();
    let idps = format!(
        "idps:\n  - {{ name: main, provider: bench, issuer: \"{issuer}\", audience: \"{AUDIENCE}\", client_id: bench,\n\
         \x20     client_secret: \"not used by any request\", algorithms: [RS256], audience_parameter: resource }}\n"
    );
    fs::write(conf.join("idps.yaml"), idps).unwrap();
    let legacy =
        format!("legacy_services: {{ old: \"http://{upstream}\" }}\nrequest_limits: {{ max_concurrent: 1000 }}\n");
    fs::write(conf.join("legacy_services.yaml"), legacy).unwrap();
    let text = format!(
        "services: {{ api: {{ base_url: \"http://{upstream}\", timeout: 30 }} }}\nroutes:\n\
         \x20 - {{ id: public, path: \"/public/*\", target_service: api, upstream_path: \"/{{path}}\", auth: none }}\n\
         \x20 - {{ id: api, path: \"/api/*\", target_service: api, upstream_path: \"/{{path}}\", auth: session }}\n\
         \x20 - {{ id: machine, path: \"/machine/*\", target_service: api, upstream_path: \"/{{path}}\", auth: bearer }}\n"
    );
    fs::write(routes.join("all.yaml"), text).unwrap();
}

/// Writes one file more: `routes` public routes, shared out to `services` at the same address.
pub fn add_routes(dir: &Path, upstream: SocketAddr, routes: usize, services: usize) {
    let mut text = String::from("services:\n");
    for number in 0..services {
        writeln!(text, "  many-{number}: {{ base_url: \"http://{upstream}\" }}").unwrap();
    }
    text += "routes:\n";
    for number in 0..routes {
        let (path, service) = (many(number), number % services);
        writeln!(text, "  - {{ id: many-{number}, path: \"{path}*\", target_service: many-{service}, auth: none }}")
            .unwrap();
    }
    fs::write(dir.join("routes").join("many.yaml"), text).unwrap();
}

/// Below which the route of that number lies.
pub fn many(number: usize) -> String {
    format!("/many/{number}/")
}

/// 32 bytes.
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// nginx as a plain reverse proxy, one process, connections kept; below `/kept` with `proxy_cache`.
pub fn nginx(dir: &Path, port: u16, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.log error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000; client_max_body_size 10m; client_body_buffer_size 128k;\n\
         \x20 client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         \x20 proxy_cache_path {dir}/cache keys_zone=one:10m;\n\
         \x20 upstream service {{ server {upstream}; keepalive 256; keepalive_requests 1000000; }}\n\
         \x20 server {{\n    listen 127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         \x20   location / {{ proxy_pass http://service; }}\n\
         \x20   location /kept {{ proxy_pass http://service; proxy_cache one; }}\n  }}\n}}\n"
    )
}
