//! `GET /auth/session`: the one question a single-page application asks at start.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Asked, Endpoints};
use crate::reply::{ProxyError, Reply};
use crate::session::{Reading, Session};

impl Endpoints {
    pub(super) async fn session_status(&self, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        let session = match self.mapped_session(&asked).await {
            Ok(session) => session,
            Err(ProxyError::NotAuthenticated) => {
                return Ok(Reply::json(StatusCode::UNAUTHORIZED, &json!({ "authenticated": false })));
            }
            Err(error) => return Err(error),
        };
        let services = self.broker.mapped_services(&session);
        tracing::info!(
            correlation_id = asked.correlation_id,
            session = %session.log_id(),
            services_count = services.len(),
            "Session status check successful"
        );
        let mut user: Map<String, Value> =
            session.identity.claims.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        user.insert("sub".to_owned(), Value::from(session.identity.subject.clone()));
        let mut body = json!({
            "authenticated": true,
            "user": user,
            "arn": session.identity.arn(),
            "expires_at": session.expires_at(),
            "services": services,
            "services_count": services.len(),
        });
        if self.csrf_token
            && let Some(fields) = body.as_object_mut()
        {
            fields.insert("csrf_token".to_owned(), Value::from(self.sessions.csrf_token(&session)));
        }
        Ok(Reply::json(StatusCode::OK, &body))
    }

    /// The session as it is once its services are mapped.
    async fn mapped_session(&self, asked: &Asked<'_>) -> Result<Arc<Session>, ProxyError> {
        if let Reading::One(token) = self.cookies.read(&asked.parts.headers) {
            self.broker.wait_until_mapped(&token.session_key()).await;
        }
        self.session_of(asked.parts, &asked.correlation_id).await
    }
}
