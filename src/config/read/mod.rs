//! One reader a file: tree in, plain data out, with the places that later checks point at.

mod idps;
mod legacy;
mod policy;
mod rate_limit;
mod routes;
mod server;
mod services;
mod session;
mod settings;
mod store;

pub(super) use idps::{WrittenIdps, read_idps};
pub(super) use legacy::{read_legacy, strays};
pub(super) use routes::{RouteFile, WrittenRoute, read_route_file};
pub(super) use services::WrittenService;
pub(super) use settings::{WrittenSettings, by_name, read_settings};
