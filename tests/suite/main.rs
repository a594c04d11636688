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

mod answers;
mod architecture;
mod attacker;
mod backchannel;
mod bearer;
mod bearer_route;
mod bomb;
mod cache;
mod cache_tests;
mod circuit;
mod config;
mod cost;
mod covering;
mod desync;
mod doctor;
mod documents;
mod embed;

mod exhaustion;
mod faltering;
mod fleet;
mod fleet_faults;
mod fleet_outage;
mod flight;
mod frames;
mod framing;
mod full;
mod grpc;
mod h1_conformance;
mod h2_conformance;
mod h2_conformance_cases;
mod killed;
mod kit;
mod legacy;
mod liar;
mod limits;
mod live;
mod login;
mod lying;
mod marks;
mod modes;
mod named;
mod outage;
mod over_http2;
mod page;
mod patience;
mod provider;
mod readers;
mod recall;
mod redis;
mod refusals;
mod regression;
mod reload;
mod replicas;
mod request;
mod rolling;
mod routing;
mod secrets;
mod shutdown;
mod slow;
mod soak;
mod store;
mod streaming;
mod targets;
mod tls;
mod told;
mod upgrade;
mod validation;
mod volume;
mod warnings;
mod websocket;
mod whose;
