//! The way out and the way back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::provider::{Canned, NOW, World, tokens};
use crate::config::{AudienceParameter, ClientAuthMethod, Secret};
use crate::oidc::{CallbackParams, Flow, LoginAsk, LoginError};
use crate::resilience::UnixTime;

fn pairs(url: &Url, name: &str) -> Vec<String> {
    url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

fn ask() -> LoginAsk {
    let audiences = ["https://a.example", "https://b.example", "https://a.example"].map(String::from).to_vec();
    LoginAsk { audiences, scopes: vec!["x.all".into(), "openid".into()], return_to: "/x".into() }
}

#[tokio::test]
async fn the_browser_is_sent_with_everything_a_strict_provider_wants() {
    let world = World::with(|idp| idp.audience = Some("https://own.example".into())).await;
    let (url, flow) = world.rp.begin_login(ask()).await.unwrap();
    assert!(url.as_str().starts_with(&format!("{}/authorize?tenant=1&", world.base)));
    for (name, values) in [
        ("response_type", vec!["code"]),
        ("client_id", vec!["client"]),
        ("redirect_uri", vec!["http://localhost:8080/auth/callback"]),
        ("scope", vec!["openid offline_access x.all"]),
        ("resource", vec!["https://own.example", "https://a.example", "https://b.example"]),
        ("audience", vec![]),
        ("prompt", vec!["consent"]),
        ("code_challenge_method", vec!["S256"]),
        ("state", vec![flow.state.expose()]),
        ("nonce", vec![flow.nonce.expose()]),
    ] {
        assert_eq!(pairs(&url, name), values, "{name}");
    }
    assert!(!url.as_str().contains(flow.verifier.expose()), "the verifier stays here");
    let (_, second) = world.rp.begin_login(ask()).await.unwrap();
    assert!(second.state != flow.state && second.nonce != flow.nonce && second.verifier != flow.verifier);
}

#[tokio::test]
async fn the_audience_is_asked_for_as_the_provider_wants_it() {
    let world = World::with(|idp| {
        idp.audience_parameter = AudienceParameter::Audience;
        idp.scopes = Some(vec!["openid".into()]);
    })
    .await;
    let (url, _) = world.rp.begin_login(LoginAsk { scopes: vec![], ..ask() }).await.unwrap();
    assert_eq!(pairs(&url, "audience"), ["https://a.example"]);
    assert_eq!((pairs(&url, "resource").len(), pairs(&url, "prompt").len()), (0, 0));
    let world = World::with(|idp| idp.audience_parameter = AudienceParameter::None).await;
    let (url, flow) = world.rp.begin_login(ask()).await.unwrap();
    assert_eq!((pairs(&url, "resource").len(), pairs(&url, "audience").len()), (0, 0));
    assert_eq!(flow.audiences, ["https://a.example", "https://b.example"]);
}

#[tokio::test]
async fn what_is_written_for_the_request_is_added_to_it() {
    let written = [("prompt", ""), ("access_type", "offline"), ("login_hint", "")];
    let world = World::with(|idp| {
        idp.authorization_params = written.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    })
    .await;
    let (login, _) = world.rp.begin_login(ask()).await.unwrap();
    assert!(pairs(&login, "scope")[0].contains("offline_access"));
    assert!(pairs(&login, "prompt").is_empty());
    let question = world.rp.question(Url::parse(&world.base).unwrap(), "openid", None);
    assert_eq!(pairs(&question, "prompt"), ["none"], "no page comes of a question");
    for url in [login, question] {
        assert_eq!((pairs(&url, "access_type"), pairs(&url, "login_hint")), (vec!["offline".to_owned()], vec![]));
    }
}

#[tokio::test]
async fn the_query_of_an_endpoint_stays() {
    let world = World::with(|idp| {
        let at = |path: &str| Some(Url::parse(&format!("{}{path}?p=1", idp.issuer)).unwrap());
        (idp.endpoints.token, idp.endpoints.revocation, idp.endpoints.end_session) =
            (at("/token"), at("/revoke"), at("/end"));
    })
    .await;
    world.login_with(|_| {}).await.unwrap();
    let [secret, hint] = ["rt", "hint"].map(crate::config::Secret::new);
    world.answer("/revoke", Canned::Json(200, json!({})));
    world.rp.revoke(&secret).await.unwrap();
    for path in ["/token", "/revoke"] {
        let head = world.requests(path).pop().unwrap().head;
        assert!(head.starts_with(&format!("POST {path}?p=1 ")), "{head}");
    }
    let url = world.rp.end_session_url(&hint, &Url::parse("http://localhost:8080/").unwrap()).await.unwrap();
    assert!(url.as_str().starts_with(&format!("{}/end?p=1&id_token_hint=hint&", world.base)), "{url}");
}

#[tokio::test]
async fn a_flow_survives_being_put_away_and_does_not_show_its_secrets() {
    let world = World::new().await;
    let flow = world.begin().await;
    let written = serde_json::to_string(&flow).unwrap();
    let read: Flow = serde_json::from_str(&written).unwrap();
    assert_eq!((&read.verifier, read.created_at), (&flow.verifier, UnixTime(NOW)));
    assert!(!format!("{flow:?}").contains(flow.state.expose()));
}

#[tokio::test]
async fn a_login_brings_the_person_and_the_tokens() {
    let mapping = BTreeMap::from([("email".into(), "mail".into()), ("sub".into(), "name".into())]);
    let world = World::with(|idp| {
        idp.claims_mapping = mapping;
        idp.audience = Some("https://own.example".into());
    })
    .await;
    let login = world
        .login_with(|claims| {
            claims["mail"] = json!("a@example.com");
            claims["picture"] = json!("x".repeat(5000));
            claims["internal"] = json!("not shown");
        })
        .await
        .unwrap();
    assert_eq!((login.subject.as_str(), login.provider.as_str()), ("alice", "corp"));
    assert_eq!((login.idp_session.as_deref(), login.authenticated_at), (Some("s1"), UnixTime(NOW - 5)));
    let shown = BTreeMap::from([
        ("sub".to_owned(), json!("alice")),
        ("name".to_owned(), json!("Alice")),
        ("email".to_owned(), json!("a@example.com")),
    ]);
    assert_eq!(login.claims, shown);
    assert_eq!(login.tokens.expires_at, Some(UnixTime(NOW + 300)));

    let request = world.requests("/token").pop().unwrap();
    let field = |name: &str| request.form.get(name).map(String::as_str);
    assert_eq!(field("grant_type"), Some("authorization_code"));
    assert_eq!(field("code"), Some("c1"));
    assert_eq!(field("redirect_uri"), Some("http://localhost:8080/auth/callback"));
    assert_eq!(field("resource"), Some("https://own.example"));
    assert_eq!(field("code_verifier").map(str::len), Some(43));
    assert!(request.head.contains("authorization: Basic Y2xpZW50OnMzY3JldA=="), "{}", request.head);
}

#[tokio::test]
async fn an_answer_that_is_not_ours_never_reaches_the_token_endpoint() {
    let world = World::new().await;
    let mut document = world.document();
    document["authorization_response_iss_parameter_supported"] = json!(true);
    world.answer("/.well-known/openid-configuration", Canned::Json(200, document));
    world.answer("/token", Canned::Json(200, tokens(json!({}))));
    let flow = world.begin().await;
    let (state, iss) = (flow.state.expose(), &world.base);
    for (query, error) in [
        (format!("code=c&iss={iss}"), LoginError::State),
        (format!("code=c&state=&iss={iss}"), LoginError::State),
        (format!("code=c&state={state}x&iss={iss}"), LoginError::State),
        (format!("error=access_denied&state=x&iss={iss}"), LoginError::State),
        (format!("code=c&state={state}"), LoginError::IssuerMissing),
        (format!("error=access_denied&state={state}"), LoginError::IssuerMissing),
        (format!("code=c&state={state}&iss={iss}/"), LoginError::Issuer(format!("{iss}/"))),
        (format!("state={state}&iss={iss}"), LoginError::NoCode),
        (
            format!("error=access_denied&error_description=%3Cscript%3E&code=c&state={state}&iss={iss}"),
            LoginError::Denied { error: "access_denied".into(), description: Some("<script>".into()) },
        ),
    ] {
        let outcome = world.rp.finish_login(flow.clone(), &CallbackParams::parse(&query).unwrap()).await;
        assert_eq!(outcome.unwrap_err(), error, "{query}");
    }
    let params = CallbackParams::parse(&format!("code=c&state={state}&iss={iss}")).unwrap();
    let mut early = serde_json::to_value(&flow).unwrap();
    early.as_object_mut().unwrap().remove("issuer");
    for foreign in [
        Flow { idp: "other".into(), ..flow.clone() },
        Flow { issuer: "https://before.example".into(), ..flow.clone() },
        serde_json::from_value(early).unwrap(),
    ] {
        assert_eq!(world.rp.finish_login(foreign, &params).await.unwrap_err(), LoginError::WrongProvider);
    }
    assert!(world.requests("/token").is_empty());
}

#[tokio::test]
async fn an_issuer_that_was_not_announced_is_checked_all_the_same() {
    let world = World::new().await;
    let flow = world.begin().await;
    let query = format!("code=c&state={}&iss=https://evil.example", flow.state.expose());
    let error = world.rp.finish_login(flow, &CallbackParams::parse(&query).unwrap()).await.unwrap_err();
    assert_eq!(error, LoginError::Issuer("https://evil.example".into()));
}

#[tokio::test]
async fn a_secret_is_sent_to_the_revocation_endpoint_as_that_takes_it() {
    use ClientAuthMethod::{ClientSecretBasic as Basic, ClientSecretPost as Post};
    for (method, listed, as_basic) in [
        (Post, json!(["client_secret_basic"]), true),
        (Basic, json!(["client_secret_post"]), false),
        (Post, json!(["client_secret_basic", "client_secret_post"]), false),
        (Basic, Value::Null, true),
        (Post, Value::Null, false),
        (Post, json!(["private_key_jwt"]), false),
    ] {
        let world = World::with(|idp| idp.token_auth_method = method).await;
        let mut document = world.document();
        document["revocation_endpoint_auth_methods_supported"] = listed.clone();
        world.answer("/.well-known/openid-configuration", Canned::Json(200, document));
        world.answer("/revoke", Canned::Json(200, json!({})));
        world.rp.revoke(&Secret::new("rt-7")).await.unwrap();
        let request = world.requests("/revoke").pop().unwrap();
        let sent =
            (request.head.to_lowercase().contains("authorization: basic "), request.form.contains_key("client_secret"));
        assert_eq!(sent, (as_basic, !as_basic), "{method:?} {listed}");
    }
}

#[tokio::test]
async fn leaving_revokes_and_sends_the_browser_to_the_provider() {
    let world = World::new().await;
    let back = Url::parse("http://localhost:8080/").unwrap();
    let [secret, hint] = ["rt", "hint"].map(crate::config::Secret::new);
    world.answer("/.well-known/openid-configuration", Canned::Html(503, ""));
    assert_eq!(world.rp.end_session_url(&hint, &back).await, None, "the provider is not known, and does not answer");
    world.answer("/.well-known/openid-configuration", Canned::Json(200, world.document()));
    world.clock.advance(Duration::from_secs(2));
    let url = world.rp.end_session_url(&hint, &back).await.unwrap();
    assert_eq!(pairs(&url, "id_token_hint"), ["hint"]);
    assert_eq!(pairs(&url, "client_id"), ["client"]);
    assert_eq!(pairs(&url, "post_logout_redirect_uri"), ["http://localhost:8080/"]);

    world.answer("/revoke", Canned::Json(200, json!({})));
    assert_eq!(world.rp.revoke(&secret).await, Ok(()));
    let request = world.requests("/revoke").pop().unwrap();
    assert_eq!(request.form.get("token").map(String::as_str), Some("rt"));
    assert_eq!(request.form.get("token_type_hint").map(String::as_str), Some("refresh_token"));
    world.answer("/revoke", Canned::Html(503, ""));
    assert!(world.rp.revoke(&secret).await.unwrap_err().is_provider_down());
}
