//! The paths the program answers itself, before any route.

use http::Method;

use super::page::Page;
use super::{ANSWERED, REFUSED};
use crate::endpoints::Endpoint;

/// One endpoint of ours.
pub struct Own(Endpoint);

/// The endpoint at this path.
pub fn find(path: &str) -> Option<Own> {
    Endpoint::at(path).map(Own)
}

fn what_for(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Login => "starts a login: 302 to the identity provider",
        Endpoint::Callback => "completes a login: 302 to where it began",
        Endpoint::SessionStatus => "who is logged in: 200, or 401 without a live session",
        Endpoint::Logout => "ends the session",
        Endpoint::BackchannelLogout => "the identity provider ends a session (OIDC Back-Channel Logout)",
        Endpoint::Verify => "ForwardAuth for another proxy: 200 with identity headers, or 401",
        Endpoint::FacadeHealth => "breaker state of each service and cache statistics",
        Endpoint::Live => "200 while the process is alive",
        Endpoint::Ready => "200 while requests can be served; 503 without the session store or while draining",
    }
}

impl Own {
    pub(super) fn explain(&self, page: &mut Page, method: &Method) -> u8 {
        let (methods, what) = (self.0.methods(), what_for(self.0));
        if !methods.is_empty() && !methods.contains(method) {
            let allow: Vec<&str> = methods.iter().map(Method::as_str).collect();
            page.row("Answered by", "pingora-bff itself: 405 method_not_allowed");
            page.more(format!("Allow: {}", allow.join(", ")));
            page.row("Why", format!("an endpoint of its own: {what}"));
            return REFUSED;
        }
        page.row("Answered by", "pingora-bff itself");
        page.more(what);
        page.row("Why", "an endpoint of its own; these come before every route, and nothing goes upstream");
        ANSWERED
    }
}
