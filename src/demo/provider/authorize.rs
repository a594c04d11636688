//! `/authorize`: checks what is asked, shows the login form, and sends a code back to the proxy.
//! The form posts to its own URL, so that nothing has to be remembered between the two.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::ledger::{Code, Grant};
use super::params::Params;
use super::refusal::Refusal;
use super::{Provider, pages, users};
use crate::crypto::draw_text;

/// A checked authorization request.
#[derive(Debug)]
pub struct Ask {
    /// `scope`; contains `openid`.
    pub scopes: Vec<String>,
    /// Every `resource` (RFC 8707 §2.1).
    pub resources: Vec<String>,
    state: Option<String>,
    nonce: Option<String>,
    challenge: String,
}

/// The login form, or the reason why not.
pub fn show(provider: &Provider, query: &str) -> Response {
    match check(provider, query) {
        Ok(ask) => pages::login(provider, &ask, None),
        Err(answer) => *answer,
    }
}

/// The form comes back: a code for a known person, the form again for anybody else.
pub fn submit(provider: &Provider, query: &str, form: &str) -> Response {
    let ask = match check(provider, query) {
        Ok(ask) => ask,
        Err(answer) => return *answer,
    };
    let form = Params::read(form);
    let login = form.all("login").next().unwrap_or_default();
    let Some(user) = users::find(login) else { return pages::login(provider, &ask, Some(login)) };
    match issue(provider, &ask, user) {
        Ok(code) => send_back(provider, ask.state.as_deref(), &[("code", &code)]),
        Err(refusal) => refuse(provider, ask.state.as_deref(), &refusal),
    }
}

fn issue(provider: &Provider, ask: &Ask, user: &'static users::User) -> Result<String, Refusal> {
    let now = provider.clock.now();
    let grant = Grant {
        user,
        sid: draw_text().map_err(|_| Refusal::broken())?,
        scopes: ask.scopes.clone(),
        resources: ask.resources.clone(),
        authenticated_at: now,
    };
    provider.ledger.issue_code(now, Code { grant, challenge: ask.challenge.clone(), nonce: ask.nonce.clone() })
}

/// Boxed, because an answer is much larger than a request.
fn check(provider: &Provider, query: &str) -> Result<Ask, Box<Response>> {
    let params = Params::read(query);
    // Nobody is sent anywhere before the client and its address are known (RFC 6749 §4.1.2.1).
    let addressed = || -> Result<bool, Refusal> {
        Ok(params.required("client_id")? == provider.client.id
            && params.required("redirect_uri")? == provider.client.redirect_uri)
    };
    match addressed() {
        Ok(true) => {}
        Ok(false) => return Err(Box::new(pages::wrong("client_id or redirect_uri is not registered here."))),
        Err(refusal) => return Err(Box::new(pages::wrong(&refusal.description))),
    }
    let state = params.optional("state").ok().flatten().map(str::to_owned);
    read(provider, &params).map_err(|refusal| Box::new(refuse(provider, state.as_deref(), &refusal)))
}

fn read(provider: &Provider, params: &Params) -> Result<Ask, Refusal> {
    if params.required("response_type")? != "code" {
        return Err(Refusal::bad("unsupported_response_type", "only `code` is offered"));
    }
    if params.optional("code_challenge_method")? != Some("S256") {
        return Err(Refusal::bad("invalid_request", "PKCE with code_challenge_method=S256 is required"));
    }
    let challenge = params.required("code_challenge")?.to_owned();
    let scopes = params.words("scope")?.unwrap_or_default();
    if !scopes.iter().any(|scope| scope == "openid") {
        return Err(Refusal::bad("invalid_scope", "`openid` is missing from the scopes"));
    }
    if let Some(unknown) = scopes.iter().find(|scope| !provider.scopes.contains(scope)) {
        return Err(Refusal::bad("invalid_scope", format!("`{}` is unknown here", unknown.escape_default())));
    }
    let resources: Vec<String> = params.all("resource").map(str::to_owned).collect();
    if let Some(unknown) = resources.iter().find(|resource| !provider.knows_resource(resource)) {
        return Err(Refusal::bad("invalid_target", format!("`{}` is unknown here", unknown.escape_default())));
    }
    if params.words("prompt")?.is_some_and(|prompts| prompts.iter().any(|prompt| prompt == "none")) {
        return Err(Refusal::bad("login_required", "this provider keeps nobody logged in"));
    }
    Ok(Ask {
        scopes,
        resources,
        state: params.optional("state")?.map(str::to_owned),
        nonce: params.optional("nonce")?.map(str::to_owned),
        challenge,
    })
}

fn refuse(provider: &Provider, state: Option<&str>, refusal: &Refusal) -> Response {
    send_back(provider, state, &[("error", refusal.code), ("error_description", &refusal.description)])
}

/// Redirects with `iss`, so that the answer of another provider cannot be slipped in (RFC 9207).
fn send_back(provider: &Provider, state: Option<&str>, answer: &[(&str, &str)]) -> Response {
    let Ok(mut target) = Url::parse(&provider.client.redirect_uri) else {
        return pages::wrong("The registered redirect_uri is not a URL.");
    };
    target.query_pairs_mut().extend_pairs(answer).extend_pairs(state.map(|state| ("state", state)));
    target.query_pairs_mut().append_pair("iss", &provider.issuer);
    redirect(&target)
}

/// 303: the browser follows with GET, whatever it came with.
pub fn redirect(target: &Url) -> Response {
    let headers = [(header::LOCATION, target.as_str()), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}
