//! Configuration → runtime objects. Everything that can be wrong at start is found here. A reload builds
//! the same again, around what must live on: sessions, metrics, and whatever its configuration left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use super::{capacity, memory};
use crate::config::{AudienceParameter, Config, CsrfMode, IdpConfig, RouteConfig, StoreConfig};
use crate::endpoints::{Endpoint, Endpoints};
use crate::legacy::Facade;
use crate::oidc::{BearerValidator, RelyingParty, SetupError};
use crate::proxy::{Bff, Destination, Gateway, Memory, Origins, Rates};
use crate::resilience::{Clock, FleetClock};
use crate::routing::{RouteErrors, RouteTable};
use crate::session::{InvalidCookie, OpenError, SessionCookie, Sessions};
use crate::telemetry::{AccessLog, Meters, Metrics};
use crate::token::{RouteToken, TokenBroker, TokenPolicy};
use crate::upstream::{Upstream, UpstreamError};

/// Why the program cannot start. Each message names what to change.
#[derive(Debug, Error)]
pub enum StartError {
    /// `auth.idp` names no entry.
    #[error("auth.idp `{0}` is not in idps.yaml")]
    NoIdp(String),
    /// An entry cannot work.
    #[error("idps.yaml, entry `{0}`: {1}")]
    Idp(String, SetupError),
    /// The session store or its secret.
    #[error("session: {0}{key}", key = key_of(.0))]
    Sessions(#[from] OpenError),
    /// The cookie's name or attributes.
    #[error("session: {0}")]
    Cookie(#[from] InvalidCookie),
    /// A service.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A route leads to no service.
    #[error("route `{0}`: no service is named `{1}`")]
    NoService(String, String),
    /// Routes that cannot be built.
    #[error(transparent)]
    Routes(#[from] RouteErrors),
    /// Two metrics of one name: a fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system said, and which key to change.
        reason: String,
    },
    /// The listening sockets of another process cannot be taken over.
    #[error("server.upgrade_sock {}: {reason}", path.display())]
    Upgrade {
        /// As configured.
        path: std::path::PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// The engine.
    #[error("the server cannot start: {0}")]
    Engine(String),
}

/// Which key to change; a secret's error names its own.
fn key_of(error: &OpenError) -> &'static str {
    match error {
        OpenError::Store(_) => " (settings.yaml, session.store)",
        OpenError::Secret(_) => "",
    }
}

/// What a process has once, whatever its configuration says.
struct Lasting {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    sessions: Arc<Sessions>,
    rates: Arc<Rates>,
    access_log: AccessLog,
    draining: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
    memory: Arc<Memory>,
}

impl Lasting {
    fn instruments(&self) -> (Arc<dyn Clock>, Arc<Metrics>) {
        (Arc::clone(&self.clock), Arc::clone(&self.metrics))
    }
}

impl Bff {
    /// Builds the plugin. Opens the session store; asks nobody over the network.
    ///
    /// What [`Config::load`] returns was checked. Of a configuration made or changed in code, only what cannot be built is
    /// refused here, and durations end at ten years: that `public_url` is https, that no route hides one of our own paths
    /// and everything else that `check` says is yours to see to.
    pub fn build(config: &Config, access_log: AccessLog) -> Result<Self, StartError> {
        let config = config.clone().bounded();
        let told = matches!(config.settings.session.store, StoreConfig::Redis(_));
        let clock: Arc<dyn Clock> = Arc::new(if told { FleetClock::awaiting() } else { FleetClock::default() });
        let metrics = Arc::new(Metrics::new()?);
        let sessions = Sessions::open(&config.settings.session, Arc::clone(&clock), Arc::clone(&metrics))?;
        sessions.keep_near(memory::allowed(&config.settings.server) / 4);
        let sessions = Arc::new(sessions);
        let rates = Arc::new(Rates::new(Arc::clone(&sessions)));
        let (draining, leaving, memory) = (Arc::default(), Arc::default(), Arc::default());
        let lasting = Lasting { clock, metrics, sessions, rates, access_log, draining, leaving, memory };
        Assembly { config, lasting, old: None }.gateway().map(|gateway| Self::over(Arc::new(gateway)))
    }
}

/// The gateway of another configuration, with the sessions, metrics, cache and circuits of `old`.
pub(super) fn rebuild(config: Config, old: &Gateway) -> Result<Gateway, StartError> {
    let lasting = Lasting {
        clock: Arc::clone(&old.endpoints.clock),
        metrics: Arc::clone(&old.metrics),
        sessions: Arc::clone(&old.endpoints.sessions),
        rates: Arc::clone(&old.rates),
        access_log: old.access_log.clone(),
        draining: Arc::clone(&old.endpoints.draining),
        leaving: Arc::clone(&old.leaving),
        memory: Arc::clone(&old.memory),
    };
    Assembly { config, lasting, old: Some(old) }.gateway()
}

/// What is put together, around what was there before.
struct Assembly<'a> {
    config: Config,
    lasting: Lasting,
    old: Option<&'a Gateway>,
}

impl Assembly<'_> {
    fn gateway(self) -> Result<Gateway, StartError> {
        let relying_party = self.relying_party()?;
        let before = self.old.map(|old| (&old.config, &*old.facade));
        let facade = Arc::new(Facade::build(&self.config, &self.lasting.metrics, before)?);
        let bearers = self.bearers(&relying_party)?;
        let broker = self.broker(&relying_party);
        let (audiences, service_scopes) = (self.audiences_at_login(), self.scopes_at_login(relying_party.config()));
        let destinations = self.destinations()?;
        let Self { config, lasting, old: _ } = self;
        let Lasting { clock, metrics, sessions, rates, access_log, draining, leaving, memory } = lasting;
        let settings = &config.settings;
        let endpoints = Arc::new(Endpoints {
            facade: Arc::clone(&facade),
            audiences,
            service_scopes,
            sessions,
            relying_party,
            broker: Arc::clone(&broker),
            cookies: Arc::new(SessionCookie::new(&settings.session, &settings.server.public_url)?),
            metrics: Arc::clone(&metrics),
            clock,
            public_url: settings.server.public_url.clone(),
            allowed_redirect_hosts: settings.auth.allowed_redirect_hosts.clone(),
            csrf_token: settings.csrf_mode == CsrfMode::Token,
            draining,
        });
        let meters = |endpoint: &str| Arc::new(Meters::new(Arc::clone(&metrics), endpoint.into(), None));
        Ok(Gateway {
            own_meters: Endpoint::ALL.iter().map(|endpoint| (endpoint.name(), meters(endpoint.name()))).collect(),
            unmatched: meters("unmatched"),
            unknown_service: meters("legacy-unknown"),
            routes: RouteTable::build(&config.routes)?,
            destinations,
            facade,
            endpoints,
            rates,
            broker,
            bearers,
            origins: Origins::new(&settings.server.public_url, settings.cors_allow_origins.clone()),
            metrics,
            access_log,
            leaving,
            files: capacity::together(),
            memory,
            config,
        })
    }

    /// As it was, with its discovered endpoints and keys, unless its entry changed.
    fn relying_party(&self) -> Result<Arc<RelyingParty>, StartError> {
        let settings = &self.config.settings;
        let wanted = &settings.auth.idp;
        let entry = self.config.idps.iter().find(|idp| idp.name == *wanted);
        let entry = entry.ok_or_else(|| StartError::NoIdp(wanted.clone()))?;
        let scopes = &settings.auth.oauth_scopes;
        let same = self.old.filter(|old| {
            old.endpoints.relying_party.config() == entry && old.config.settings.auth.oauth_scopes == *scopes
        });
        if let Some(old) = same {
            return Ok(Arc::clone(&old.endpoints.relying_party));
        }
        let before = self.old.map(|old| &*old.bearers);
        let (clock, metrics) = self.lasting.instruments();
        RelyingParty::new(entry, &settings.server.public_url, scopes, before, clock, metrics)
            .map(Arc::new)
            .map_err(|error| StartError::Idp(entry.name.clone(), error))
    }

    /// As it was, with its keys and remembered tokens, unless an entry changed: then with the keys of those that did not.
    fn bearers(&self, party: &RelyingParty) -> Result<Arc<BearerValidator>, StartError> {
        if let Some(old) = self.old.filter(|old| old.config.idps == self.config.idps) {
            return Ok(Arc::clone(&old.bearers));
        }
        let before = self.old.map(|old| &*old.bearers);
        let (clock, metrics) = self.lasting.instruments();
        BearerValidator::new(&self.config.idps, party, before, clock, metrics)
            .map(Arc::new)
            .map_err(|(entry, error)| StartError::Idp(entry, error))
    }

    /// As it was, with its flights and shared tokens, unless what it asks for changed.
    fn broker(&self, party: &Arc<RelyingParty>) -> Arc<TokenBroker> {
        let settings = &self.config.settings;
        let same = self.old.filter(|old| {
            let before = &old.config.settings;
            Arc::ptr_eq(&old.endpoints.relying_party, party)
                && before.token_refresh_threshold == settings.token_refresh_threshold
                && before.service_audiences == settings.service_audiences
                && before.service_scopes == settings.service_scopes
        });
        if let Some(old) = same {
            return Arc::clone(&old.broker);
        }
        let (clock, metrics) = self.lasting.instruments();
        let broker = TokenBroker::new(Arc::clone(&self.lasting.sessions), Arc::clone(party), settings, clock, metrics);
        Arc::new(match self.old {
            Some(old) => broker.after(&old.broker),
            None => broker,
        })
    }

    fn token(&self, route: &RouteConfig) -> RouteToken {
        RouteToken::of(route, &self.config.settings)
    }

    /// What a user's own tokens are for, on any route. Exchanged ones are asked for later on.
    fn audiences_at_login(&self) -> Vec<String> {
        let of_routes = self.config.routes.iter().filter_map(|route| match self.token(route) {
            RouteToken::By(TokenPolicy::Session(need)) => need.audience.clone(),
            _ => None,
        });
        self.config.settings.service_audiences.values().cloned().chain(of_routes).collect()
    }

    /// A provider that binds tokens to resources grants a scope only if the login asked for it; one
    /// that binds them by scope alone would refuse a login that names several resources' scopes.
    fn scopes_at_login(&self, idp: &IdpConfig) -> Vec<String> {
        if idp.audience_parameter == AudienceParameter::None {
            return Vec::new();
        }
        let written = self.config.settings.service_scopes.values().flatten();
        // Not what is the application's own alone (`service_token`).
        let of_routes = self.config.routes.iter().flat_map(|route| match self.token(route) {
            RouteToken::By(TokenPolicy::Session(need) | TokenPolicy::OnBehalfOf { need, .. }) => need.scopes.clone(),
            _ => Vec::new(),
        });
        written.cloned().chain(of_routes).collect()
    }

    fn destinations(&self) -> Result<Vec<Arc<Destination>>, StartError> {
        let before = self.old.into_iter().flat_map(|old| old.destinations.iter());
        let before: HashMap<&str, &Upstream> = before.map(|to| (&*to.upstream.name, &*to.upstream)).collect();
        let mut upstreams = HashMap::new();
        for (name, service) in &self.config.services {
            let mut upstream = Upstream::build(name, service)?;
            if let Some(old) = before.get(name.as_str()) {
                upstream.take_over(old);
            }
            upstreams.insert(name.as_str(), Arc::new(upstream));
        }
        let built = self.config.routes.iter().map(|route| {
            let unknown = || StartError::NoService(route.id.clone(), route.target_service.clone());
            let upstream = Arc::clone(upstreams.get(route.target_service.as_str()).ok_or_else(unknown)?);
            let (endpoint, service) = (route.id.as_str().into(), route.target_service.as_str().into());
            let meters = Meters::new(Arc::clone(&self.lasting.metrics), endpoint, Some(service));
            Ok(Arc::new(Destination { upstream, token: self.token(route), meters: Arc::new(meters) }))
        });
        built.collect()
    }
}
