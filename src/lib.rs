//! An edge proxy for single-page applications on Cloudflare's Pingora: the browser holds one
//! `HttpOnly` cookie, each upstream gets an OAuth access token bound to its audience.
//!
//! The binary is `pingora-bff run`, and [`serve`] is all of it. As a plugin, [`Bff`] is a [`pingora::proxy::ProxyHttp`] for
//! your own server; `examples/embed.rs` mounts it.
// A test fails by panicking (the other lints of this kind are told so in clippy.toml).
#![cfg_attr(test, allow(clippy::string_slice))]

mod app;
pub mod cli;
pub mod config;
mod crypto;
#[cfg(feature = "demo")]
mod demo;
mod endpoints;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod legacy;
mod list_fields;
pub mod oidc;
mod path;
mod pem;
mod proxy;
mod reply;
pub mod resilience;
pub mod routing;
pub mod session;
pub mod telemetry;
pub mod token;
mod upstream;

pub use app::{Listening, Sockets, StartError, serve};
pub use config::Config;
pub use proxy::{Bff, Door};
pub use telemetry::AccessLog;
