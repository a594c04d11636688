//! An edge proxy for single-page applications on Cloudflare's Pingora: the browser holds one
//! `HttpOnly` cookie, each upstream gets an OAuth access token bound to its audience.

pub mod cli;
pub mod config;
pub mod oidc;
pub mod reply;
pub mod resilience;
pub mod routing;
pub mod session;
pub mod telemetry;
pub mod token;
