//! The page itself: five files, served by a service like any other; the proxy reaches it through
//! ordinary routes with `auth: none`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// No inline script or style, nothing from elsewhere. No `form-action`: the logout form is answered
/// with a redirect to the provider, which browsers count as the form's target.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// `/` and what it loads from `/demo/`.
pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("index.html")) }))
        .route("/demo/style.css", get(|| async { file("text/css; charset=utf-8", include_str!("style.css")) }))
        .route("/demo/app.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("app.js")) }))
        .route("/demo/facade.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("facade.js")) }))
        .route("/demo/errors.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("errors.js")) }))
        .route("/demo/icon.svg", get(|| async { file("image/svg+xml", include_str!("icon.svg")) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "There is no such page in the demo.\n") })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}
