//! The paths the program answers itself, before any route.

use http::Method;

use super::page::Page;
use super::{ANSWERED, REFUSED};

/// One endpoint of ours.
pub struct Endpoint {
    methods: &'static [Method],
    paths: &'static [&'static str],
    what: &'static str,
}

const GET: &[Method] = &[Method::GET];

const ENDPOINTS: &[Endpoint] = &[
    Endpoint { methods: GET, paths: &["/auth/login"], what: "starts a login: 302 to the identity provider" },
    Endpoint { methods: GET, paths: &["/auth/callback"], what: "completes a login: 302 to where it began" },
    Endpoint {
        methods: GET,
        paths: &["/auth/session", "/api/auth/session"],
        what: "who is logged in: 200, or 401 without a live session",
    },
    Endpoint { methods: &[Method::GET, Method::POST], paths: &["/auth/logout"], what: "ends the session" },
    Endpoint {
        methods: &[Method::POST],
        paths: &["/auth/backchannel-logout"],
        what: "the identity provider ends a session (OIDC Back-Channel Logout)",
    },
    Endpoint {
        methods: GET,
        paths: &["/auth/verify", "/auth/forward"],
        what: "ForwardAuth for another proxy: 200 with identity headers, or 401",
    },
    Endpoint {
        methods: GET,
        paths: &["/api/v1/proxy/health"],
        what: "breaker state of each service and cache statistics",
    },
    Endpoint { methods: GET, paths: &["/health/live"], what: "200 while the process is alive" },
    Endpoint {
        methods: GET,
        paths: &["/health/ready", "/health", "/auth/health"],
        what: "200 while requests can be served; 503 without the session store or while draining",
    },
];

/// The endpoint at this path.
pub fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.paths.contains(&path))
}

impl Endpoint {
    pub(super) fn explain(&self, page: &mut Page, method: &Method) -> u8 {
        let takes = self.methods.contains(method) || (method == Method::HEAD && self.methods.contains(&Method::GET));
        if !takes {
            let allow: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
            page.row("Answered by", "pingora-bff itself: 405 method_not_allowed");
            page.more(format!("Allow: {}", allow.join(", ")));
            page.row("Why", format!("an endpoint of its own: {}", self.what));
            return REFUSED;
        }
        page.row("Answered by", "pingora-bff itself");
        page.more(self.what);
        page.row("Why", "an endpoint of its own; these come before every route, and nothing goes upstream");
        ANSWERED
    }
}
