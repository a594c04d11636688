//! The runtime objects of the request path, built once by the composition root and then only read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use url::Url;

use super::memory::Memory;
use super::rates::Rates;
use crate::config::{Config, ServerConfig};
use crate::endpoints::Endpoints;
use crate::legacy::Facade;
use crate::oidc::BearerValidator;
use crate::routing::{Route, RouteTable};
use crate::telemetry::{AccessLog, Meters, Metrics};
use crate::token::{RouteToken, TokenBroker};
use crate::upstream::Upstream;

/// What a route leads to.
#[derive(Debug)]
pub struct Destination {
    /// Where.
    pub upstream: Arc<Upstream>,
    /// With which token.
    pub token: RouteToken,
    /// What is counted for the route.
    pub meters: Arc<Meters>,
}

/// Whom the browser may come from.
#[derive(Debug)]
pub struct Origins {
    /// Our own origin, serialised as browsers send it.
    pub own: String,
    /// `cors.allow_origins`.
    pub allowed: Vec<String>,
}

impl Origins {
    /// From `server.public_url` and what is listed.
    #[must_use]
    pub fn new(public_url: &Url, allowed: Vec<String>) -> Self {
        Self { own: public_url.origin().ascii_serialization(), allowed }
    }
}

/// Everything a request needs. A request keeps the `Arc` it began with.
#[derive(Debug)]
pub struct Gateway {
    /// What all of this was built from.
    pub config: Config,
    /// Path → route.
    pub routes: RouteTable,
    /// By the route's number.
    pub destinations: Vec<Arc<Destination>>,
    /// The old services.
    pub facade: Arc<Facade>,
    /// What is counted for our own paths, by the endpoint's name.
    pub own_meters: HashMap<&'static str, Arc<Meters>>,
    /// What is counted where nothing is found for a request.
    pub unmatched: Arc<Meters>,
    /// And where it names a legacy service that is not listed.
    pub unknown_service: Arc<Meters>,
    /// Our own paths.
    pub endpoints: Arc<Endpoints>,
    /// Tokens for services.
    pub broker: Arc<TokenBroker>,
    /// Callers with access tokens of their own.
    pub bearers: Arc<BearerValidator>,
    /// Who has asked how often.
    pub rates: Arc<Rates>,
    /// CORS and CSRF.
    pub origins: Origins,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line a request.
    pub access_log: AccessLog,
    /// Set once this process is to be left: answers say so to their connections.
    pub leaving: Arc<AtomicBool>,
    /// Clients and requests that there are files for; one more request is refused, so that a new client is heard.
    pub files: usize,
    /// What `server.max_memory` allows.
    pub memory: Arc<Memory>,
}

impl Gateway {
    /// `server:` of the settings.
    #[must_use]
    pub fn server(&self) -> &ServerConfig {
        &self.config.settings.server
    }

    /// The destination of a route of this table.
    #[must_use]
    pub fn destination(&self, route: &Route) -> Option<&Arc<Destination>> {
        self.destinations.get(route.number)
    }

    /// Whether this process is to be left, so that no connection goes on behind an answer.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
