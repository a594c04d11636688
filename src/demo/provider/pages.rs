//! The few pages a person sees at the provider. Whatever came from outside is escaped.

use std::fmt::Write as _;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::authorize::Ask;
use super::users::USERS;
use super::{Provider, discovery};

/// The login form; `rejected` is the unknown name that was typed.
pub fn login(provider: &Provider, ask: &Ask, rejected: Option<&str>) -> Response {
    let people = USERS.iter().fold(String::new(), |mut list, user| {
        let _ = write!(list, "<option value=\"{}\">{} {}</option>", user.login, user.given_name, user.family_name);
        list
    });
    let complaint = rejected.map_or_else(String::new, |name| {
        format!(
            "<p class=\"alert\" role=\"alert\">There is no “{}” here. Try <b>ada</b> or <b>grace</b>.</p>",
            escape(name)
        )
    });
    let body = include_str!("../page/login.html")
        .replace("%COMPLAINT%", &complaint)
        .replace("%PEOPLE%", &people)
        .replace("%CLIENT%", &escape(&provider.client.id))
        .replace("%RESOURCES%", &items(&ask.resources))
        .replace("%SCOPES%", &escape(&ask.scopes.join(" ")));
    page(StatusCode::OK, "Log in", &body)
}

/// Nothing to redirect to, so it is said here.
pub fn wrong(why: &str) -> Response {
    let body = format!("<h1>This cannot go on</h1><p class=\"alert\" role=\"alert\">{}</p>", escape(why));
    page(StatusCode::BAD_REQUEST, "Error", &body)
}

/// The end of a logout that named no place to return to.
pub fn logged_out(provider: &Provider) -> Response {
    let home = provider.client.redirect_uri.split("/auth/").next().unwrap_or_default();
    let body = format!("<h1>You are logged out</h1><p><a href=\"{0}/\">Back to {0}</a></p>", escape(home));
    page(StatusCode::OK, "Logged out", &body)
}

/// What a person sees who opens the issuer's URL.
pub fn front(provider: &Provider) -> Response {
    let document = serde_json::to_string_pretty(&discovery::document(provider)).unwrap_or_default();
    let body = format!(
        "<h1>A development identity provider</h1>\
         <p>It runs inside the demo, on loopback, and forgets everything when the demo ends. \
         This is what it says at <code>/.well-known/openid-configuration</code>:</p><pre tabindex=\"0\">{}</pre>",
        escape(&document)
    );
    page(StatusCode::OK, "Development provider", &body)
}

fn items(list: &[String]) -> String {
    if list.is_empty() {
        return "<li>nothing in particular</li>".to_owned();
    }
    list.iter().flat_map(|item| ["<li><code>".to_owned(), escape(item), "</code></li>".to_owned()]).collect()
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = include_str!("../page/provider.html").replace("%TITLE%", title).replace("%BODY%", body);
    // No `form-action`: the form's answer is a redirect to the proxy, which browsers count as its target.
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
