//! `GET /auth/verify`: ForwardAuth for another proxy, which lets a request pass on 200.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Asked, Endpoints};
use crate::reply::{ProxyError, Reply};
use crate::session::escaped;

impl Endpoints {
    pub(super) async fn verify(&self, asked: Asked<'_>) -> Result<Reply, ProxyError> {
        let session = self.session_of(asked.parts, &asked.correlation_id).await?;
        let said = [
            ("x-user-id", escaped(&session.identity.subject)),
            ("x-session-id", session.log_id()),
            ("x-auth-time", session.authenticated_at.to_string()),
        ];
        let mut reply = Reply::empty(StatusCode::OK);
        for (name, value) in said {
            let value = HeaderValue::try_from(value).map_err(|_| ProxyError::Internal)?;
            reply = reply.with(HeaderName::from_static(name), value);
        }
        Ok(reply)
    }
}
