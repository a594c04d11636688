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

mod actionable_logs;
mod architecture;
mod attacker;
mod backchannel;
mod bearer;
mod bearer_route;
mod cache;
mod cache_tests;
mod cache_volume;
mod circuit;
mod config;
mod cors;
mod cost;
mod demo_page;
mod deployment_examples;
mod desync;
mod doctor;
mod doctor_oddities;
mod documents;
mod embed;
mod fleet;
mod fleet_faults;
mod fleet_outage;
mod grpc;
mod h1_conformance;
mod h2_conformance;
mod h2_conformance_cases;
mod http2_bomb;
mod isolation;
mod legacy;
mod limits;
mod live_connections;
mod login;
mod lying;
mod observability;
mod out_of_files;
mod outage;
mod over_http2;
mod provider;
mod recall;
mod redis;
mod redis_refusals;
mod refusals;
mod regression;
mod reload;
mod replicas;
mod request;
mod request_framing;
mod request_targets;
mod response_framing;
mod rolling;
mod routing;
mod secret_marks;
mod secrets;
mod shared_failures;
mod shutdown;
mod slow_clients;
mod soak;
mod sqlite_crash;
mod stale_if_error;
mod store;
mod store_full;
mod streaming;
mod timeouts;
mod tls;
mod token_endpoint_outage;
mod token_policy;
mod upgrade;
mod validation;
mod warnings;
mod websocket;
