//! Asking the provider about a token we cannot read (RFC 7662).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::BearerError;
use crate::config::{IdpConfig, Secret};
use crate::oidc::claims::Claims;
use crate::oidc::client_auth::ClientAuth;
use crate::oidc::discovery::Discovery;
use crate::oidc::error::{FetchError, SetupError};
use crate::oidc::grant::Form;
use crate::oidc::http::{Endpoint, HttpClient};
use crate::oidc::relying_party::is_local;
use crate::resilience::Clock;
use crate::telemetry::Metrics;

/// A request waits for this, three times at worst.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Asking changes nothing at the provider, so it may be asked again; these are the pauses between.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// Questions at once. Anybody can make up tokens; the provider answers more than callers.
const QUESTIONS: usize = 64;

/// One introspection endpoint and who we are there.
#[derive(Debug)]
pub(super) struct Introspector {
    url: Url,
    auth: ClientAuth,
    http: HttpClient,
    /// Only for client assertions: their algorithms, and for whom they are.
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    places: Semaphore,
}

impl Introspector {
    pub(super) fn new(
        idp: &IdpConfig,
        url: &Url,
        discovery: Discovery,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let http = HttpClient::with_timeout(is_local(idp), TIMEOUT, Arc::clone(metrics))?;
        let places = Semaphore::new(QUESTIONS);
        Ok(Self { url: url.clone(), auth: ClientAuth::new(idp)?, http, discovery, clock, places })
    }

    /// What the provider says of an active token; `None` when it is not active.
    pub(super) async fn ask(&self, token: &Secret) -> Result<Option<Claims>, BearerError> {
        let Ok(Ok(_place)) = timeout(TIMEOUT, self.places.acquire()).await else {
            return Err(BearerError::cannot_ask("too many other questions wait for the introspection endpoint"));
        };
        let mut pauses = BACK_OFF.iter();
        loop {
            let fault = match self.ask_once(token).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let pause = pauses.next().filter(|_| is_passing(&fault));
            let Some(pause) = pause else {
                return Err(BearerError::cannot_ask(format!("the introspection endpoint {fault}")));
            };
            tokio::time::sleep(*pause).await;
        }
    }

    async fn ask_once(&self, token: &Secret) -> Result<Option<Claims>, FetchError> {
        let known = self.discovery.peek();
        let mut form = Form::new();
        form.add("token", token.expose()).add("token_type_hint", "access_token");
        let authorization = self
            .auth
            .apply(&mut form, known.as_deref(), self.clock.now())
            .map_err(|error| FetchError::Malformed(error.to_string()))?;
        let answer = self.http.post(Endpoint::Introspection, &self.url, form.finish(), authorization).await?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        read(&answer.body)
    }
}

/// Without a clear yes or no there is no answer.
fn read(body: &[u8]) -> Result<Option<Claims>, FetchError> {
    let unusable = || FetchError::Malformed("not an introspection response".into());
    let claims: Claims = serde_json::from_slice(body).map_err(|_error| unusable())?;
    let active = claims.get("active").and_then(serde_json::Value::as_bool).ok_or_else(unusable)?;
    Ok(active.then_some(claims))
}

/// Whether the next moment may bring another answer.
fn is_passing(fault: &FetchError) -> bool {
    match fault {
        FetchError::Unreachable(_) | FetchError::Broken(_) | FetchError::TimedOut => true,
        FetchError::Status(status) => matches!(status, 502..=504),
        FetchError::TooLarge | FetchError::Malformed(_) => false,
    }
}
