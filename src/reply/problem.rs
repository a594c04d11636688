//! The one table from [`ProxyError`] to what the client sees: status, `code`, title (RFC 9457).

use http::header::{ALLOW, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;

use super::{LOGIN, ProxyError, Reply};
use crate::resilience::whole_seconds;

/// What of the request shows in its error.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Goes into the body, so that a screenshot is enough to find the log line.
    pub correlation_id: &'a str,
    /// Where a 401 sends people: `/auth/login?return_to=…`.
    pub login_url: &'a str,
    /// A top-level page load (Fetch Metadata): a missing session redirects instead of 401.
    pub navigation: bool,
}

/// How a refusal looks.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// Status line.
    pub status: StatusCode,
    /// For programs: bounded, and a promise.
    pub code: &'static str,
    /// For people.
    pub title: &'static str,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<&'a str>,
}

impl ProxyError {
    /// The whole map.
    #[must_use]
    pub fn face(&self) -> Face {
        let (status, code, title) = match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request", "The request is ambiguous or malformed"),
            Self::TargetTooLong => (StatusCode::URI_TOO_LONG, "bad_request", "The request line is too long"),
            Self::HeaderTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_request", "The request header is too large")
            }
            Self::VersionNotSupported => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "bad_request", "HTTP version not supported")
            }
            Self::TooManyConnections | Self::NoFilesOrPorts => {
                (StatusCode::SERVICE_UNAVAILABLE, "rate_limited", "Too many connections")
            }
            Self::ShortOfMemory => (StatusCode::SERVICE_UNAVAILABLE, "rate_limited", "Too many requests"),
            Self::ClientTimeout => (StatusCode::REQUEST_TIMEOUT, "bad_request", "The request did not arrive in time"),
            Self::NotAuthenticated | Self::NoCredential => {
                (StatusCode::UNAUTHORIZED, "not_authenticated", "Not logged in")
            }
            Self::LoginNeeded(_) => (StatusCode::UNAUTHORIZED, "not_authenticated", "A new login is needed"),
            Self::BearerMissing => (StatusCode::UNAUTHORIZED, "not_authenticated", "No access token"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token", "Access token not accepted"),
            Self::NoTokenAvailable(_) => (StatusCode::UNAUTHORIZED, "no_token_available", "No token for this service"),
            Self::CsrfFailed(_) => (StatusCode::FORBIDDEN, "csrf_failed", "Cross-site request refused"),
            Self::ForbiddenOrigin => (StatusCode::FORBIDDEN, "forbidden_origin", "Origin not allowed"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no_route", "No such route"),
            Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::UpstreamError(_) => (StatusCode::BAD_GATEWAY, "upstream_error", "The service failed"),
            Self::UpstreamAuthFailed(_) => {
                (StatusCode::BAD_GATEWAY, "upstream_auth_failed", "The identity provider failed")
            }
            Self::UnknownService => (StatusCode::NOT_FOUND, "unknown_service", "No such legacy service"),
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "rate_limited", "The service is busy"),
            Self::CircuitOpen { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "circuit_open", "The service is being left alone")
            }
            Self::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "Session store unreachable")
            }
            Self::StoreFull => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "Session store full"),
            Self::NotStored => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "Nothing is stored"),
            Self::UpstreamTimeout(_) => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "The service took too long"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error"),
        };
        Face { status, code, title }
    }

    /// Whether there is no room for the request, nor for anything that waits.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::TooManyConnections | Self::NoFilesOrPorts | Self::ShortOfMemory)
    }

    /// RFC 6750 §3: what a caller with a token of its own is told. A browser with a session cookie
    /// is told nothing, since it could do nothing but ask for a password.
    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::BearerMissing | Self::NoCredential => Some(HeaderValue::from_static("Bearer")),
            Self::InvalidToken => Some(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            _ => None,
        }
    }

    /// Seconds after which trying again makes sense.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::StoreUnavailable
            | Self::StoreFull
            | Self::Busy
            | Self::TooManyConnections
            | Self::NoFilesOrPorts
            | Self::ShortOfMemory => Some(1),
            Self::RateLimited { retry_after } | Self::CircuitOpen { retry_after } => Some(whole_seconds(*retry_after)),
            Self::UpstreamAuthFailed(_) => Some(5),
            _ => None,
        }
    }
}

/// The answer to a refused request.
#[must_use]
pub fn from_error(error: &ProxyError, around: Circumstances<'_>) -> Reply {
    let Face { status, code, title } = error.face();
    let login = matches!(error, ProxyError::NotAuthenticated | ProxyError::LoginNeeded(_) | ProxyError::NoCredential);
    if login && around.navigation {
        let target = HeaderValue::from_str(around.login_url).unwrap_or_else(|_| HeaderValue::from_static(LOGIN));
        return Reply::empty(StatusCode::FOUND).with(LOCATION, target);
    }
    let problem = Problem {
        r#type: format!("urn:pingora-bff:problem:{code}"),
        title,
        status: status.as_u16(),
        detail: error.to_string(),
        code,
        correlation_id: around.correlation_id,
        login_url: (status == StatusCode::UNAUTHORIZED).then_some(around.login_url),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut reply = Reply::empty(status).with_body("application/problem+json", body);
    if let ProxyError::MethodNotAllowed { allow } = error {
        let methods = allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        reply.headers.extend(HeaderValue::from_str(&methods).ok().map(|value| (ALLOW, value)));
    }
    reply.headers.extend(error.challenge().map(|value| (WWW_AUTHENTICATE, value)));
    if let Some(seconds) = error.retry_after() {
        reply.headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
    }
    reply
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_of_refusals() {
        let reason = || "because".to_owned();
        let all = [
            ProxyError::BadRequest(reason()),
            ProxyError::ClientTimeout,
            ProxyError::TargetTooLong,
            ProxyError::HeaderTooLarge,
            ProxyError::VersionNotSupported,
            ProxyError::TooManyConnections,
            ProxyError::NoFilesOrPorts,
            ProxyError::ShortOfMemory,
            ProxyError::NotAuthenticated,
            ProxyError::LoginNeeded(reason()),
            ProxyError::NoCredential,
            ProxyError::BearerMissing,
            ProxyError::InvalidToken,
            ProxyError::NoTokenAvailable(reason()),
            ProxyError::CsrfFailed(reason()),
            ProxyError::ForbiddenOrigin,
            ProxyError::NoRoute,
            ProxyError::MethodNotAllowed { allow: vec![Method::GET, Method::HEAD] },
            ProxyError::BodyTooLarge { limit: 10 },
            ProxyError::Internal,
            ProxyError::UpstreamError(reason()),
            ProxyError::UpstreamAuthFailed(reason()),
            ProxyError::UnknownService,
            ProxyError::Busy,
            ProxyError::RateLimited { retry_after: Duration::from_millis(1_200) },
            ProxyError::CircuitOpen { retry_after: Duration::from_millis(12_001) },
            ProxyError::NotStored,
            ProxyError::StoreUnavailable,
            ProxyError::StoreFull,
            ProxyError::UpstreamTimeout(Duration::from_secs(30)),
        ];
        let around = Circumstances { correlation_id: "c-1", login_url: "/auth/login", navigation: false };
        let table: Vec<String> = all
            .iter()
            .map(|error| {
                let reply = from_error(error, around);
                let headers: Vec<String> =
                    reply.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
                format!(
                    "{}\n  {}\n  {}",
                    reply.status,
                    headers.join(", "),
                    String::from_utf8(reply.body.to_vec()).unwrap()
                )
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn a_page_load_without_a_session_goes_to_the_login() {
        let around = Circumstances { correlation_id: "c", login_url: "/auth/login?return_to=%2Fx", navigation: true };
        let reply = from_error(&ProxyError::NotAuthenticated, around);
        assert_eq!(reply.status, StatusCode::FOUND);
        assert!(reply.headers.iter().any(|(name, value)| name == LOCATION && value == "/auth/login?return_to=%2Fx"));
    }
}
