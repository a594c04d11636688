//! A route as built from what was written.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::methods::Methods;
use super::rate_limit::RateLimit;
use crate::config::{AuthMode, Place, RouteConfig};
use crate::path::{CanonicalPath, Pattern, PatternError, Template, TemplateError};

/// One rule: which requests, for which service.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its place among all, in file order.
    pub number: usize,
    /// Unique; the `endpoint` label of metrics.
    pub id: Arc<str>,
    /// Key of the service.
    pub target_service: Arc<str>,
    /// What it answers to.
    pub methods: Methods,
    /// Who may call.
    pub auth: AuthMode,
    /// No total timeout; never buffered.
    pub streaming: bool,
    /// Lets WebSocket upgrades through.
    pub websocket: bool,
    /// Bytes a request body may have.
    pub max_body_size: Option<u64>,
    /// Absent: any number of requests.
    pub rate_limit: Option<RateLimit>,
    /// For messages.
    pub written_at: Place,
    pattern: Pattern,
    template: Option<Template>,
}

/// A route that cannot be built.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: route `{route}`: {problem}")]
pub struct RouteError {
    /// Where the route is written.
    pub place: Place,
    /// Its id.
    pub route: String,
    /// What is wrong with it.
    pub problem: RouteProblem,
}

/// What is wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    /// Its `path`.
    #[error("path `{0}`: {1}")]
    Path(String, PatternError),
    /// Its `upstream_path`.
    #[error("upstream_path `{0}`: {1}")]
    UpstreamPath(String, TemplateError),
}

/// Every route that cannot be built; one a line.
#[derive(Debug, Clone)]
pub struct RouteErrors(pub Vec<RouteError>);

impl fmt::Display for RouteErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| writeln!(f, "{error}"))
    }
}

impl std::error::Error for RouteErrors {}

impl Route {
    pub(super) fn build(number: usize, config: &RouteConfig) -> Result<Self, RouteProblem> {
        let pattern =
            Pattern::parse(&config.path).map_err(|problem| RouteProblem::Path(config.path.clone(), problem))?;
        let template = match &config.upstream_path {
            Some(text) if !config.preserve_path => Some(
                Template::parse(text, &pattern).map_err(|problem| RouteProblem::UpstreamPath(text.clone(), problem))?,
            ),
            _ => None,
        };
        Ok(Self {
            number,
            id: config.id.as_str().into(),
            target_service: config.target_service.as_str().into(),
            methods: Methods::new(&config.methods),
            auth: config.auth,
            streaming: config.streaming,
            websocket: config.websocket,
            max_body_size: config.max_body_size,
            rate_limit: config.rate_limit.as_ref().map(RateLimit::build),
            written_at: config.written_at.clone(),
            pattern,
            template,
        })
    }

    /// What it matches.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The path to ask of the service, before its `base_url`'s path ([`super::join_base`]); canonical.
    /// `path` is one this route was found for.
    pub fn upstream_path<'a>(&self, path: &'a CanonicalPath) -> Cow<'a, str> {
        match self.template.as_ref().and_then(|template| template.apply(path)) {
            Some(rewritten) => Cow::Owned(rewritten),
            None => Cow::Borrowed(path.as_str()),
        }
    }

    /// The template as written, or the route's own `path` where nothing is rewritten: for people.
    pub fn upstream_pattern(&self) -> &str {
        self.template.as_ref().map_or(self.pattern.as_str(), Template::as_str)
    }
}
