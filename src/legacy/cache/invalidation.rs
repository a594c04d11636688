//! What an unsafe request makes invalid (RFC 9111 §4.4).

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// Where a service's resources are seen from: inside, as it sees itself, and outside, as browsers do.
#[derive(Debug, Clone)]
pub struct Site {
    /// The base URL of the service.
    pub inside: Url,
    /// What prefixes every path of it; no slash at its end.
    pub base_path: String,
    /// The façade's URL of the service, with a slash at its end.
    pub outside: Url,
}

impl Site {
    /// The targets, path and query as sent to the service, of which stored answers no longer hold.
    #[must_use]
    pub fn invalidated_by(
        &self,
        method: &Method,
        target: &str,
        status: StatusCode,
        response: &HeaderMap,
    ) -> Vec<String> {
        if method.is_safe() || !(status.is_success() || status.is_redirection()) {
            return Vec::new();
        }
        let mut targets = vec![target.to_owned()];
        for name in [LOCATION, CONTENT_LOCATION] {
            let reference = response.get(name).and_then(|value| value.to_str().ok());
            targets.extend(reference.and_then(|reference| self.target_of(target, reference)));
        }
        targets
    }

    /// `None`: another origin's resource, which nobody here may speak for.
    fn target_of(&self, target: &str, reference: &str) -> Option<String> {
        let meant = self.inside.join(target).ok()?.join(reference).ok()?;
        let path = if meant.origin() == self.inside.origin() {
            meant.path().to_owned()
        } else if meant.origin() == self.outside.origin() {
            format!("{}/{}", self.base_path, meant.path().strip_prefix(self.outside.path())?)
        } else {
            return None;
        };
        Some(meant.query().map_or(path.clone(), |query| format!("{path}?{query}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalidated(method: &str, status: u16, lines: &[(&'static str, &str)]) -> Vec<String> {
        let site = Site {
            inside: "http://res-admin:5000/".parse().unwrap(),
            base_path: "/api".to_owned(),
            outside: "https://app.example/api/v1/proxy/res-admin/".parse().unwrap(),
        };
        let response: HeaderMap =
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        site.invalidated_by(&method, "/api/users?x=1", StatusCode::from_u16(status).unwrap(), &response)
    }

    #[test]
    fn unsafe_methods_that_did_not_fail_invalidate() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
            assert_eq!(invalidated(method, 204, &[]), ["/api/users?x=1"], "{method}");
            assert!(invalidated(method, 404, &[]).is_empty() && invalidated(method, 500, &[]).is_empty());
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(invalidated(method, 200, &[]).is_empty(), "{method}");
        }
    }

    #[test]
    fn locations_of_the_same_origin_too() {
        let second = |reference: &str| invalidated("POST", 201, &[("location", reference)]).get(1).cloned();
        assert_eq!(second("users/7").as_deref(), Some("/api/users/7"));
        assert_eq!(second("/api/users/7?y=2").as_deref(), Some("/api/users/7?y=2"));
        assert_eq!(second("http://res-admin:5000/api/x").as_deref(), Some("/api/x"));
        assert_eq!(second("https://app.example/api/v1/proxy/res-admin/x").as_deref(), Some("/api/x"));
        assert_eq!(second("https://app.example/elsewhere"), None);
        assert_eq!(second("http://victim:5000/api/x"), None);
        assert_eq!(invalidated("PUT", 200, &[("content-location", "/api/a"), ("location", "/api/b")]).len(), 3);
    }
}
