//! Origin: who the browser says asks. Preflights are answered, unsafe requests from elsewhere refused.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::proxy::Downstream;
use crate::proxy::context::RequestContext;
use crate::proxy::gateway::{Gateway, Origins};
use crate::proxy::headers::Presence;
use crate::reply::{ProxyError, Reply};

/// `Access-Control-Expose-Headers`: what scripts of a listed origin may read beside the fields that Fetch allows to
/// all.
pub(in crate::proxy) const EXPOSED: &str = "X-Correlation-ID, Retry-After, RateLimit, RateLimit-Policy";

/// Where the request says it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum RequestOrigin {
    /// Ours, or nobody said.
    Here,
    /// `cors.allow_origins`.
    Listed,
    Elsewhere,
}

/// An answer if this is a preflight; a refusal if an unsafe request comes from elsewhere.
/// `guarded`: the request would act with the browser's session.
pub(in crate::proxy) fn origin(
    gateway: &Gateway,
    session: &Downstream,
    from: RequestOrigin,
    guarded: bool,
) -> Result<Option<Reply>, ProxyError> {
    let request = session.req_header();
    if request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return match from {
            RequestOrigin::Elsewhere => Err(ProxyError::ForbiddenOrigin),
            RequestOrigin::Here | RequestOrigin::Listed => Ok(Some(preflight(&request.headers))),
        };
    }
    // Browsers let any page open a WebSocket, with cookies: a handshake counts as unsafe.
    let acts = || !request.method.is_safe() || session.is_upgrade_req();
    if guarded && from != RequestOrigin::Listed && acts() {
        refuse_foreign(gateway, &request.headers, from)?;
    }
    Ok(None)
}

fn refuse_foreign(gateway: &Gateway, headers: &HeaderMap, from: RequestOrigin) -> Result<(), ProxyError> {
    let reason = if from == RequestOrigin::Elsewhere {
        "origin"
    } else if headers.get_all("sec-fetch-site").iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
    {
        "fetch_site"
    } else {
        return Ok(());
    };
    gateway.metrics.csrf_violations.with_label_values(&[reason]).inc();
    Err(ProxyError::CsrfFailed(format!(
        "an unsafe request came from another origin; ours is {} (server.public_url in settings.yaml), others are \
         listed in cors.allow_origins",
        gateway.origins.own
    )))
}

/// Where it comes from. A listed origin may read every answer, a refusal too.
pub(in crate::proxy) fn origin_of(gateway: &Gateway, session: &Downstream, ctx: &mut RequestContext) -> RequestOrigin {
    if !ctx.presence.may_have(Presence::ORIGIN) {
        return RequestOrigin::Here;
    }
    let headers = &session.req_header().headers;
    let from = said(&gateway.origins, headers);
    if from == RequestOrigin::Listed {
        ctx.cors_origin = headers.get(ORIGIN).cloned();
    }
    from
}

fn said(origins: &Origins, headers: &HeaderMap) -> RequestOrigin {
    let mut given = headers.get_all(ORIGIN).iter();
    let Some(origin) = given.next() else { return RequestOrigin::Here };
    if given.next().is_some() {
        return RequestOrigin::Elsewhere;
    }
    // A page with `Referrer-Policy: no-referrer` posts its forms with an opaque origin; what the
    // browser says of the site then counts, which no page can forge.
    let opaque_but_ours =
        origin == "null" && headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin");
    if opaque_but_ours || origin.as_bytes() == origins.own.as_bytes() {
        RequestOrigin::Here
    } else if origins.allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        RequestOrigin::Listed
    } else {
        RequestOrigin::Elsewhere
    }
}

/// The Fetch standard's CORS-preflight answer. The origin itself is added to every answer of ours.
fn preflight(headers: &HeaderMap) -> Reply {
    let mut reply = Reply::empty(StatusCode::NO_CONTENT).with(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(method) = headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
        reply = reply.with(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    }
    if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        reply = reply.with(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    reply
}

/// What lets scripts of a listed origin read an answer. It replaces what a service says of that.
pub(in crate::proxy) fn cors_headers(origin: &HeaderValue) -> [(HeaderName, HeaderValue); 2] {
    [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
    ]
}
