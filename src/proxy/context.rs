//! What one request knows about itself, from its first callback to its log line.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use prometheus::IntGauge;

use super::correlation::CorrelationId;
use super::gateway::Gateway;
use super::headers::Presence;
use super::hop::Hop;
use super::memory::LargeAnswer;
use super::stages::hold::Live;
use super::who::Who;
use crate::legacy::cache::Recall;
use crate::legacy::{LegacyService, Slot};
use crate::reply::{LOGIN, ProxyError};
use crate::resilience::Permit;
use crate::telemetry::Meters;
use crate::token::Bearer;
use crate::upstream::Upstream;

/// The engine's `CTX`, in a box: the engine moves its context and the future around it several times.
#[derive(Debug)]
pub struct RequestContext {
    /// The configuration this request began with.
    pub(super) gateway: Arc<Gateway>,
    pub(super) started: Instant,
    /// `X-Correlation-ID`, of this request and its answer.
    pub(super) correlation_id: CorrelationId,
    /// Fields that need not be looked for.
    pub(super) presence: Presence,
    /// What is counted where it went. Their endpoint is a route's id, the name of one of ours, or `unmatched`.
    pub(super) meters: Arc<Meters>,
    /// Where the request goes.
    pub(super) upstream: Option<Arc<Upstream>>,
    /// `target_service`, or the legacy service's name.
    pub(super) service: Option<Arc<str>>,
    /// The façade's part in it.
    pub(super) legacy: Option<LegacyCall>,
    /// This is a WebSocket handshake on a route that takes it.
    pub(super) websocket: bool,
    /// Its dealings with the response cache.
    pub(super) recall: Option<Recall>,
    /// Its place among the answers that last; boxed, since few have one.
    pub(super) live: Option<Box<Live>>,
    /// Neither a total timeout nor buffering.
    pub(super) streaming: bool,
    /// Bytes the request body may have.
    pub(super) body_limit: Option<u64>,
    /// The caller's own `Authorization` is the service's business.
    pub(super) keeps_authorization: bool,
    /// How it went there.
    pub(super) hop: Hop,
    pub(super) who: Who,
    pub(super) bearer: Option<Bearer>,
    /// Whether a bearer was wanted and found.
    pub(super) token_found: Option<bool>,
    /// The allowed foreign origin that asked: its answers carry CORS headers.
    pub(super) cors_origin: Option<HeaderValue>,
    /// A top-level page load.
    pub(super) navigation: bool,
    /// Where a login would start from here.
    pub(super) login_url: Cow<'static, str>,
    pub(super) body_received: u64,
    /// `RateLimit-Policy` and `RateLimit`, where the route has a limit.
    pub(super) quota: Option<(HeaderValue, HeaderValue)>,
    /// Held while its answer may take much memory.
    pub(super) large: Option<LargeAnswer>,
    /// Why we refused; set where the refusal is decided.
    pub(super) refusal: Option<ProxyError>,
    /// Status of an answer that is ours.
    pub(super) own_status: Option<u16>,
    _in_flight: InFlight,
}

impl RequestContext {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            _in_flight: InFlight::enter(&gateway.metrics.http_in_flight),
            meters: Arc::clone(&gateway.unmatched),
            gateway,
            started: Instant::now(),
            correlation_id: CorrelationId::default(),
            presence: Presence::UNKNOWN,
            upstream: None,
            service: None,
            legacy: None,
            websocket: false,
            recall: None,
            live: None,
            streaming: false,
            body_limit: None,
            keeps_authorization: false,
            hop: Hop::default(),
            who: Who::Nobody,
            bearer: None,
            token_found: None,
            cors_origin: None,
            navigation: false,
            login_url: Cow::Borrowed(LOGIN),
            body_received: 0,
            quota: None,
            large: None,
            refusal: None,
            own_status: None,
        }
    }

    /// Of the service; zero where there is none.
    pub(super) fn timeout(&self) -> Duration {
        self.upstream.as_ref().map(|upstream| upstream.timeout).unwrap_or_default()
    }
}

/// A request to the façade: its service, its place among the concurrent ones, its right to call.
#[derive(Debug)]
pub(super) struct LegacyCall {
    pub(super) service: Arc<LegacyService>,
    /// Taken when the service is called: a stored answer needs none.
    pub(super) slot: Option<Slot>,
    pub(super) permit: Option<Permit>,
}

/// Counts a request while it lives; also when its task is dropped half-way.
#[derive(Debug)]
struct InFlight(IntGauge);

impl InFlight {
    fn enter(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
