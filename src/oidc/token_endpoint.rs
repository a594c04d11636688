//! The token endpoint (RFC 6749 §3.2): every grant goes through [`TokenEndpoint::redeem`], so that a
//! provider that is down is told apart from one that says no in one place.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::client_auth::{ClientAuth, is_sent_encoded};
use super::discovery::{Discovery, Metadata};
use super::error::{GrantError, IdpError, quote, said};
use super::grant::{Ask, Form, Grant};
use super::http::{Answer, Endpoint, HttpClient};
use super::token_response::{self, TokenResponse};
use crate::config::{AudienceParameter, IdpConfig, Secret};
use crate::resilience::Clock;
use crate::telemetry::Metrics;

/// Asks the provider for tokens, and to revoke them, as this client.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    auth: ClientAuth,
    /// The same secret sent the other way, for a revocation endpoint that takes no other.
    otherwise: Option<ClientAuth>,
    /// Our secret goes out as something else than it is.
    pub(super) encoded: bool,
    /// What no log may repeat, in whatever way it is sent.
    client_secret: Option<Secret>,
    audience_parameter: AudienceParameter,
    discovery: Discovery,
    http: HttpClient,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
    /// Entra ID's own.
    suberror: Option<Value>,
}

/// What a refusal is about (RFC 6749 §5.2, RFC 8707 §2).
const CODES: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
];

/// With these Entra ID says `invalid_grant` of the service that was asked for, and the grant goes on: nobody consented
/// to it, or it has conditions of its own.
const OF_THE_SERVICE: [&str; 4] = ["basic_action", "additional_action", "message_only", "consent_required"];

impl TokenEndpoint {
    pub(super) fn new(
        idp: &IdpConfig,
        auth: ClientAuth,
        discovery: Discovery,
        http: HttpClient,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (client_secret, audience_parameter) = (idp.client_secret.clone(), idp.audience_parameter);
        let otherwise = ClientAuth::otherwise(idp);
        let encoded = is_sent_encoded(idp);
        Self { auth, otherwise, encoded, client_secret, audience_parameter, discovery, http, clock, metrics }
    }

    /// Turns `grant` into tokens. Tried once: a code or rotating refresh token must not be sent twice.
    pub(super) async fn redeem(&self, grant: &Grant<'_>, ask: &Ask<'_>) -> Result<TokenResponse, GrantError> {
        let outcome = self.ask(grant, ask).await;
        let status = outcome.as_ref().map_or_else(GrantError::label, |_tokens| "ok");
        self.metrics.token_exchange.with_label_values(&[grant.name(), status]).inc();
        outcome
    }

    async fn ask(&self, grant: &Grant<'_>, ask: &Ask<'_>) -> Result<TokenResponse, GrantError> {
        let metadata = self.discovery.get().await?;
        let url = metadata.token.as_ref().ok_or(IdpError::NoEndpoint("token_endpoint"))?;
        let asked_at = self.clock.now();
        let mut form = grant.form(ask, self.audience_parameter);
        let authorization = self.auth.apply(&mut form, Some(&*metadata), asked_at)?;
        let answer = self.http.post(Endpoint::Token, url, form.finish(), authorization).await?;
        if answer.status == 200 {
            return token_response::read(&answer.body, ask, asked_at).map_err(|reason| GrantError::Malformed {
                reason: reason.into(),
                rotated: token_response::refresh_token_of(&answer.body),
            });
        }
        Err(self.refusal(&answer, grant.secrets()))
    }

    /// RFC 7009 §2.1. Nothing is asked of a provider that has no such endpoint.
    pub(super) async fn revoke(&self, refresh_token: &Secret) -> Result<(), GrantError> {
        let metadata = self.discovery.get().await?;
        let Some(url) = &metadata.revocation else { return Ok(()) };
        let mut form = Form::new();
        form.add("token", refresh_token.expose()).add("token_type_hint", "refresh_token");
        let auth = self.auth_for_revocation(&metadata).unwrap_or(&self.auth);
        let authorization = auth.apply(&mut form, Some(&*metadata), self.clock.now())?;
        let answer = self.http.post(Endpoint::Revocation, url, form.finish(), authorization).await?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(self.refusal(&answer, vec![refresh_token])) }
    }

    /// As at the token endpoint, if the provider takes that there, too; `None`: it lists nothing we have.
    pub(super) fn auth_for_revocation(&self, metadata: &Metadata) -> Option<&ClientAuth> {
        let told = &metadata.revocation_methods;
        let taken = |auth: &&ClientAuth| told.is_empty() || told.iter().any(|method| method == auth.method());
        std::iter::once(&self.auth).chain(&self.otherwise).find(taken)
    }

    fn refusal<'a>(&'a self, answer: &Answer, mut sent: Vec<&'a Secret>) -> GrantError {
        sent.extend(&self.client_secret);
        // The longest first: of one that contains another, the rest would stay.
        sent.sort_by_key(|secret| Reverse(secret.expose().len()));
        let mut error = refusal(answer, &sent);
        if let GrantError::Refused { encoded, .. } = &mut error {
            *encoded = self.encoded;
        }
        error
    }
}

/// A refusal counts only where it is one: a 4xx that speaks OAuth. A gateway's error page, an
/// overloaded server and a rate limit say nothing about our token. Some providers repeat what was `sent`: it is blotted out.
fn refusal(answer: &Answer, sent: &[&Secret]) -> GrantError {
    let status = answer.status;
    if !(400..500).contains(&status) || matches!(status, 408 | 429) {
        return GrantError::Failed { status };
    }
    let Ok(Refusal { error, error_description, suberror }) = serde_json::from_slice(&answer.body) else {
        return GrantError::Failed { status };
    };
    let blotted = |text: String| {
        let secrets = sent.iter().map(|secret| secret.expose()).filter(|secret| !secret.is_empty());
        quote(&secrets.fold(text, |text, secret| text.replace(secret, "…")))
    };
    let description = blotted(error_description.unwrap_or_default());
    let suberror = suberror.as_ref().and_then(Value::as_str).filter(|word| OF_THE_SERVICE.contains(word));
    match error.as_str() {
        "invalid_grant" => GrantError::InvalidGrant {
            description: suberror.map_or_else(|| description.clone(), |word| said(word, &description)),
            of_service: suberror.is_some(),
        },
        "server_error" | "temporarily_unavailable" => GrantError::Failed { status },
        // A short secret may be part of a word that others look for.
        code if CODES.contains(&code) => GrantError::Refused { error, description, encoded: false },
        _ => GrantError::Refused { error: blotted(error), description, encoded: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_4xx_that_says_so_is_invalid_grant() {
        let token = Secret::new("rt-7");
        let judge = |status, body: &str| refusal(&Answer { status, location: None, body: body.into() }, &[&token]);
        let spent = r#"{"error":"invalid_grant","error_description":"spent\n"}"#;
        let invalid =
            |description: &str, of_service| GrantError::InvalidGrant { description: description.into(), of_service };
        assert_eq!(judge(400, spent), invalid("spent ", false));
        let told = r#"{"error":"invalid_grant","error_description":"Invalid refresh token: rt-7"}"#;
        assert_eq!(judge(400, told), invalid("Invalid refresh token: …", false), "it may still be good");
        for (suberror, description, of_service) in [
            (r#""consent_required""#, "consent_required: AADSTS65001", true),
            (r#""basic_action""#, "basic_action: AADSTS65001", true),
            (r#""additional_action""#, "additional_action: AADSTS65001", true),
            (r#""message_only""#, "message_only: AADSTS65001", true),
            (r#""bad_token""#, "AADSTS65001", false),
            ("7", "AADSTS65001", false),
            ("null", "AADSTS65001", false),
        ] {
            let body =
                format!(r#"{{"error":"invalid_grant","error_description":"AADSTS65001","suberror":{suberror}}}"#);
            assert_eq!(judge(400, &body), invalid(description, of_service), "{suberror}");
        }
        assert_eq!(judge(401, r#"{"error":"invalid_client"}"#).label(), "refused");
        for (status, body) in [
            (500, spent),
            (503, spent),
            (429, spent),
            (302, spent),
            (201, spent),
            (400, "<html>"),
            (404, ""),
            (400, r#"{"error":"temporarily_unavailable"}"#),
        ] {
            assert_eq!(judge(status, body), GrantError::Failed { status }, "{body}");
            assert!(judge(status, body).is_provider_down());
        }
    }

    #[test]
    fn whatever_was_sent_is_blotted_out_of_what_is_said() {
        let [code, verifier, own] = ["c-1client", "v-2", "client"].map(Secret::new);
        let redirect_uri = url::Url::parse("https://app.example/auth/callback").unwrap();
        let grant = Grant::Code { code: &code, redirect_uri: &redirect_uri, verifier: &verifier };
        let mut sent = grant.secrets();
        sent.push(&own);
        let judge = |error: &str| {
            let body =
                serde_json::json!({ "error": error, "error_description": "c-1client, v-2 and client are wrong" });
            match refusal(&Answer { status: 401, location: None, body: body.to_string().into() }, &sent) {
                GrantError::Refused { error, description, .. } => (error, description),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(judge("invalid_client"), ("invalid_client".to_owned(), "…, … and … are wrong".to_owned()));
        assert_eq!(judge("no client").0, "no …");
    }
}
