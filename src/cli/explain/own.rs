//! The paths the program answers itself, before any route.

use http::Method;

use super::page::Page;
use super::{ANSWERED, refuse};
use crate::endpoints::Endpoint;

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

/// Writes the rows and gives the exit status.
pub fn explain(page: &mut Page, endpoint: Endpoint, method: &Method) -> u8 {
    let what = what_for(endpoint);
    if let Err(error) = endpoint.require_method(method) {
        let status = refuse(page, &error);
        page.more(format!("an endpoint of its own: {what}"));
        return status;
    }
    page.row("Answered by", "pingora-bff itself");
    page.more(what);
    page.row("Why", "an endpoint of its own; these come before every route, and nothing goes upstream");
    ANSWERED
}
