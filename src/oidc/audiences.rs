//! Which audiences this provider refuses. One audience that is configured here but unknown there
//! would make every login fail with `invalid_target`, and the answer does not say which one: so each
//! is asked for alone, without a browser, and the refused ones are left out of logins for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;
use url::Url;

use super::http::{Endpoint, HttpClient};
use super::relying_party::RelyingParty;
use crate::config::AudienceParameter;

/// How long a refusal is believed; a provider that was mended in the meantime is asked again.
const BELIEVED: Duration = Duration::from_secs(300);

/// How long nothing is asked again: anybody can send us the error that makes us ask.
const ASKED_LATELY: Duration = Duration::from_secs(2);

/// Questions under way at once: a provider that hangs takes its whole time for each, while everybody who is refused waits
/// for all.
const AT_ONCE: usize = 8;

/// The refused ones, and since when.
#[derive(Debug, Default)]
pub(super) struct RefusedAudiences {
    refused: Mutex<HashMap<String, Instant>>,
    /// When it was asked last. Held by the one who asks.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl RefusedAudiences {
    pub(super) fn contains(&self, audience: &str) -> bool {
        let refused = self.refused.lock();
        refused.get(audience).is_some_and(|since| since.elapsed() < BELIEVED)
    }

    fn add(&self, audience: &str) {
        let mut refused = self.refused.lock();
        refused.insert(audience.to_owned(), Instant::now());
    }
}

impl RelyingParty {
    /// Whether the provider refused this audience lately.
    pub fn refuses_audience(&self, audience: &str) -> bool {
        self.refused.contains(audience)
    }

    /// Asks for each audience alone with `prompt=none` (OpenID Connect Core §3.1.2.1: no page is
    /// shown) and remembers those answered with `invalid_target` (RFC 8707 §2). Whether there were any.
    pub async fn sort_out_audiences(&self, audiences: &[String]) -> bool {
        let Some(endpoint) = self.known.discovery.peek().and_then(|metadata| metadata.authorization.clone()) else {
            return false;
        };
        if self.idp.audience_parameter != AudienceParameter::Resource {
            return false;
        }
        let mut asked = self.refused.asked.lock().await;
        let lately = asked.is_some_and(|when| when.elapsed() < ASKED_LATELY);
        let ask = |audience: &String| (audience.clone(), self.question(endpoint.clone(), "openid", Some(audience)));
        let questions: Vec<(String, Url)> = audiences.iter().filter(|_| !lately).map(ask).collect();
        let http = &self.http;
        let answers = stream::iter(questions)
            .map(|(audience, question)| async move { (audience, refuses(http, question).await) });
        let mut answers = answers.buffered(AT_ONCE);
        while let Some((audience, refused)) = answers.next().await {
            if refused {
                let written = if self.idp.audience.as_ref() == Some(&audience) {
                    format!("idps[{}].audience in idps.yaml", self.name())
                } else {
                    "service_audiences in settings.yaml, or the token_policy.audience of a route".to_owned()
                };
                tracing::error!(
                    idp = self.name(),
                    audience,
                    "the provider refuses this audience (invalid_target): allow it for this client at the provider, \
                     or correct {written}"
                );
                self.refused.add(&audience);
            }
        }
        if !lately {
            *asked = Some(Instant::now());
        }
        audiences.iter().any(|audience| self.refuses_audience(audience))
    }

    /// An authorization request that no page can come of.
    pub(super) fn question(&self, mut endpoint: Url, scope: &str, audience: Option<&str>) -> Url {
        let written = self.idp.authorization_params.iter();
        endpoint
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.idp.client_id)
            .append_pair("redirect_uri", self.redirect_uri.as_str())
            .append_pair("scope", scope)
            .append_pair("prompt", "none")
            .append_pair("state", "audience-check")
            .append_pair("nonce", "audience-check")
            // No code comes of this; some providers refuse any request without PKCE.
            .append_pair("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(audience.map(|one| ("resource", one)))
            .extend_pairs(written.filter(|(name, value)| *name != "prompt" && !value.is_empty()));
        endpoint
    }
}

async fn refuses(http: &HttpClient, question: Url) -> bool {
    let Ok(Ok(target)) = http.redirect_target(Endpoint::Authorization, &question).await else { return false };
    target.query_pairs().any(|(name, value)| name == "error" && value == "invalid_target")
}
