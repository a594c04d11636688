//! `POST /auth/logout`: the session ends here and in the store, then at the provider.

use http::StatusCode;
use http::header::{ACCEPT, ORIGIN};
use serde_json::json;
use url::{Url, form_urlencoded};

use super::{Asked, Endpoints, refused_by_store, return_to};
use crate::reply::{ProxyError, Reply};
use crate::session::{Session, StoreError, Tokens};

impl Endpoints {
    pub(super) async fn logout(&self, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        self.refuse_foreign_navigation(asked)?;
        let query: Vec<(String, String)> = form_urlencoded::parse(asked.query().as_bytes()).into_owned().collect();
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let back = return_to::safe(value("return_to").unwrap_or("/"), &self.public_url, &self.allowed_redirect_hosts);
        let back = self.public_url.join(&back).unwrap_or_else(|_| self.public_url.clone());

        let target = match self.session_of(asked.parts, &asked.correlation_id).await {
            Ok(session) => {
                self.require_csrf_token(asked.parts, &session)?;
                if value("everywhere") == Some("true") {
                    // The own one last: while it lives, what failed can be asked for again.
                    self.sessions
                        .end_others(&session, "logout_everywhere")
                        .await
                        .map_err(|error| not_ended(&error, asked))?;
                }
                let ended = self.sessions.end_for_tokens(&session, "logout").await;
                // The store's answer may be lost where the session is not: nobody would come back with it.
                let latest = ended.as_ref().ok().and_then(Option::as_ref).unwrap_or(&session.tokens);
                let farewell = self.leave_provider(&session, latest, &back).await;
                ended.map_err(|error| not_ended(&error, asked))?;
                farewell.unwrap_or(back)
            }
            Err(ProxyError::NotAuthenticated) => back,
            // Saying "logged out" while the session lives on would be a lie: the cookie stays, too.
            Err(error) => return Err(error),
        };
        Ok(farewell(asked, &target).with_cookie(Some(self.cookies.expire())))
    }

    /// Where the provider's own logout begins, while it is asked to forget the refresh token.
    async fn leave_provider(&self, session: &Session, tokens: &Tokens, back: &Url) -> Option<Url> {
        let (issuer, named) = (session.identity.issuer.as_str(), self.relying_party.issuer());
        if issuer != named {
            tracing::warn!(
                issuer,
                named,
                "a session ended of an issuer that users no longer log in at: nobody is told"
            );
            return None;
        }
        if let Some(refresh_token) = &tokens.refresh_token {
            self.broker.revoke_in_background(refresh_token.clone());
        }
        self.relying_party.end_session_url(&tokens.id_token, back).await
    }

    /// Another site must not log people out by a link, nor anybody by an image that a page of ours shows, nor a browser
    /// by fetching what might be wanted next: GET is for
    /// navigations from our own pages. (Unsafe methods were checked before they came here.)
    fn refuse_foreign_navigation(&self, asked: Asked<'_>) -> Result<(), ProxyError> {
        let foreign = matches!(asked.header("sec-fetch-site"), Some("cross-site" | "same-site"));
        let part_of_a_page = asked.header("sec-fetch-mode").is_some_and(|mode| mode != "navigate");
        // Navigations by GET carry no `Origin`; who sends one and nothing else is an older browser's script.
        let ours = self.public_url.origin().ascii_serialization();
        let elsewhere = asked.parts.headers.get_all(ORIGIN).iter().any(|origin| origin.as_bytes() != ours.as_bytes());
        let reason = if !asked.parts.method.is_safe() {
            return Ok(());
        } else if foreign || part_of_a_page || asked.is_ahead() {
            "fetch_site"
        } else if elsewhere {
            "origin"
        } else {
            return Ok(());
        };
        self.metrics.csrf_violations.with_label_values(&[reason]).inc();
        Err(ProxyError::CsrfFailed("logout by GET is for navigations from our own pages".to_owned()))
    }
}

fn not_ended(error: &StoreError, asked: Asked<'_>) -> ProxyError {
    tracing::error!(%error, correlation_id = asked.correlation_id, "a session could not be ended");
    refused_by_store(error)
}

/// A redirect; for a script that asks for JSON the address, since `fetch` cannot follow it elsewhere.
fn farewell(asked: Asked<'_>, target: &Url) -> Reply {
    let wants_json = asked.header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("application/json"));
    if wants_json {
        Reply::json(StatusCode::OK, &json!({ "logout_url": target.as_str() }))
    } else {
        Reply::redirect(target.as_str())
    }
}
