//! The end-to-end suite: one binary, one module a topic. It drives the built program from outside,
//! against a certified OpenID provider (`tests/oidc`), echo services and a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking; the harness is test code outside of #[test] functions"
)]

#[macro_use]
mod harness;

mod architecture;
mod backchannel;
mod bearer;
mod bearer_route;
mod cache;
mod cache_tests;
mod config;
mod cost;
mod doctor;
mod documents;
mod legacy;
mod login;
mod lying;
mod outage;
mod page;
mod provider;
mod redis;
mod refusals;
mod replicas;
mod request;
mod routing;
mod shutdown;
mod store;
mod streaming;
mod tls;
mod told;
mod websocket;
