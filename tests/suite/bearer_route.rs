//! `auth: bearer`: callers with an access token of their own, minted by the real provider.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::{
    AUDIENCES, Browser, Edge, Provider, SECRET, Setup, Upstream, claims, field, free_port, http_client, problem, raw,
};

const OWN: &str = AUDIENCES[0];
const ROUTE: &str =
    "{ id: robots, path: \"/robots/*\", target_service: robots_service, preserve_path: true, auth: bearer }";

fn setup(upstream: &Upstream) -> Setup {
    Setup::new().service_alone("robots", &upstream.url(), None, "timeout: 5").route(ROUTE)
}

async fn call(edge: &Edge, token: &str) -> Response {
    http_client().get(edge.url("/robots/x?y=1")).bearer_auth(token).send().await.unwrap()
}

/// The token with its claims changed and its signature kept.
fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(token);
    change(&mut claims);
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

async fn assert_refused(answer: Response, what: &str) {
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.as_deref(), Some("Bearer error=\"invalid_token\""), "{what}");
    let body = problem(answer).await;
    assert_eq!((&body["status"], &body["code"]), (&json!(401), &json!("invalid_token")), "{what}");
}

#[tokio::test]
async fn a_callers_token_travels_as_it_came() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let token = edge.client_token(Some(OWN)).await;
    for _ in 0..3 {
        assert_eq!(call(&edge, &token).await.status(), 200);
        let received = upstream.last();
        assert_eq!(received.bearer(), token);
        let user = format!("auth:account:testidp:{}", claims(&token)["sub"].as_str().unwrap());
        assert_eq!(received.head.one("x-original-user"), Some(user));
        assert_eq!(received.target(), "/robots/x?y=1");
    }
    let counted = "bff_token_validation_total{status=\"valid\",token_type=\"access_token\"}";
    assert_eq!(edge.metric(counted).await, 3);
}

#[tokio::test]
async fn a_token_that_is_not_good_here_is_refused() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let token = edge.client_token(Some(OWN)).await;
    let other = edge.client_token(Some(AUDIENCES[1])).await;
    let (_, signature) = token.rsplit_once('.').unwrap();
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let payload = token.split('.').nth(1).unwrap();
    let rows = [
        ("another audience", other.clone()),
        ("another person", tampered(&token, |claims| claims["sub"] = json!("root"))),
        ("an audience written in", tampered(&other, |claims| claims["aud"] = json!(OWN))),
        ("a longer life", tampered(&token, |claims| claims["exp"] = json!(4_000_000_000_i64))),
        ("expired", tampered(&token, |claims| claims["exp"] = json!(1_600_000_000))),
        ("another signature", token.replace(signature, &signature.chars().rev().collect::<String>())),
        ("no signature", token.replace(signature, "")),
        ("alg none", format!("{unsigned}.{payload}.")),
        ("opaque", edge.client_token(None).await),
        ("nonsense", "nonsense".to_owned()),
        ("16 KiB", "x".repeat(16 * 1024 + 1)),
    ];
    for (what, token) in &rows {
        assert_refused(call(&edge, token).await, what).await;
    }
    assert_eq!(upstream.count(), 0, "the service was not asked");
    eventually!("the reason is logged with the service", {
        let entries = edge.log.entries(&["INVALID_TOKEN", "audience"]);
        entries.iter().any(|entry| field(entry, "service") == Some(&Value::from("robots_service")))
    });
    assert!(!rows.iter().any(|(_, token)| edge.log.text().contains(&**token)), "no token is logged");
    assert_eq!(call(&edge, &token).await.status(), 200);
}

#[tokio::test]
async fn an_expired_token_of_the_provider_is_refused() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).access_age(600).start().await;
    let token = edge.client_token(Some(OWN)).await;
    assert_refused(call(&edge, &token).await, "over for five minutes").await;
    eventually!("the reason is logged", edge.log.has(&["INVALID_TOKEN", "expired"]));
}

#[tokio::test]
async fn without_a_token_there_is_no_login_to_go_to() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for request in [
        browser.client.get(edge.url("/robots/x")),
        browser
            .client
            .get(edge.url("/robots/x"))
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document"),
        browser.client.get(edge.url("/robots/x")).header("authorization", "Basic YTpi"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        assert_eq!(problem(answer).await["code"], "not_authenticated");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_session_beside_the_token_is_not_looked_at() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token = edge.client_token(Some(OWN)).await;
    let request =
        browser.client.post(edge.url("/robots/x")).bearer_auth(&token).header("origin", "https://elsewhere.test");
    assert_eq!(request.send().await.unwrap().status(), 200, "nothing a foreign page could borrow is used");
    let received = upstream.last();
    let user = format!("auth:account:testidp:{}", claims(&token)["sub"].as_str().unwrap());
    assert_eq!(received.head.one("x-original-user"), Some(user), "the caller, not ada");
    assert_eq!(received.bearer(), token);
    assert_eq!(received.head.one("cookie"), None, "our cookie stays here");
    assert_refused(browser.client.get(edge.url("/robots/x")).bearer_auth("bad").send().await.unwrap(), "no fallback")
        .await;

    let twice = format!(
        "GET /robots/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    assert_eq!(raw(edge.address(), twice).await.0.status(), 400);
    let cookies = format!(
        "GET /robots/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: bearer {token}\r\nCookie: bff_session=a; bff_session=b\r\n\r\n"
    );
    assert_eq!(raw(edge.address(), cookies).await.0.status(), 200);
}

#[tokio::test]
async fn a_policy_may_keep_the_callers_token_or_replace_it() {
    let upstream = Upstream::start().await;
    let route = |id: &str, policy: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: robots_service, preserve_path: true, auth: bearer, \
             token_policy: {{ {policy} }} }}"
        )
    };
    let shared = format!("mode: service_token, audience: \"{}\"", AUDIENCES[2]);
    let edge = setup(&upstream).route(&route("bare", "mode: none")).route(&route("shared", &shared)).start().await;
    let token = edge.client_token(Some(OWN)).await;
    let ask = |path: &'static str| http_client().get(edge.url(path)).bearer_auth(&token).send();
    assert_eq!(ask("/bare/x").await.unwrap().status(), 200);
    assert_eq!(upstream.last().head.one("authorization"), None);
    assert_eq!(ask("/shared/x").await.unwrap().status(), 200);
    assert_eq!(claims(&upstream.last().bearer())["aud"], AUDIENCES[2]);
    assert!(upstream.last().head.one("x-original-user").is_some());
}

fn introspecting(upstream: &Upstream, url: &str) -> Setup {
    let (secret, url) = (format!("client_secret: \"{SECRET}\""), format!("introspection_url: {url}"));
    setup(upstream).client_auth(&[&secret, "token_auth_method: client_secret_basic", &url], &json!({}))
}

#[tokio::test]
async fn the_provider_is_asked_about_opaque_tokens() {
    let upstream = Upstream::start().await;
    let url = format!("{}/token/introspection", Provider::shared().issuer);
    let edge = introspecting(&upstream, &url).start().await;
    let token = edge.client_token(None).await;
    for _ in 0..3 {
        assert_eq!(call(&edge, &token).await.status(), 200);
    }
    assert_eq!(upstream.last().bearer(), token);
    let user = format!("auth:account:testidp:{}", edge.client_id);
    assert_eq!(upstream.last().head.one("x-original-user"), Some(user));
    assert_refused(call(&edge, "made-up").await, "unknown to the provider").await;
    assert_eq!(edge.metric("bff_idp_requests_total{endpoint=\"introspection\",status=\"200\"}").await, 2);
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_says_nothing_about_the_token() {
    let upstream = Upstream::start().await;
    let edge = introspecting(&upstream, &format!("http://127.0.0.1:{}/introspect", free_port())).start().await;
    let answer = call(&edge, "opaque").await;
    assert!(answer.headers().contains_key("retry-after"));
    let body = problem(answer).await;
    assert_eq!((&body["status"], &body["code"]), (&json!(502), &json!("upstream_auth_failed")));
    assert_eq!(upstream.count(), 0);
    assert_eq!(call(&edge, &edge.client_token(Some(OWN)).await).await.status(), 200, "keys need no such question");
}

#[tokio::test]
async fn the_facade_takes_either_credential_and_the_token_decides() {
    let upstream = Upstream::start().await;
    let services = format!("legacy_services: {{ res-admin: \"{}\" }}\n", upstream.url());
    let edge = setup(&upstream).legacy(&services).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token = edge.client_token(Some(OWN)).await;
    let url = edge.url("/api/v1/proxy/res-admin/x");
    let user = Some(format!("auth:account:testidp:{}", claims(&token)["sub"].as_str().unwrap()));
    for client in [&http_client(), &browser.client] {
        let request = client.post(&url).bearer_auth(&token).header("sec-fetch-site", "cross-site");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let received = upstream.last();
        assert_eq!((received.bearer(), received.head.one("x-original-user")), (token.clone(), user.clone()));
        assert_eq!(received.head.one("cookie"), None);
        assert_refused(client.get(&url).bearer_auth("bad").send().await.unwrap(), "no fallback to the session").await;
    }
    // Another scheme is not ours: the session speaks, and the header stays here.
    let request = browser.client.get(&url).header("authorization", "Basic YTpi").send();
    assert_eq!(request.await.unwrap().status(), 200);
    assert_ne!(upstream.last().bearer(), token);
    let user = upstream.last().head.one("x-original-user");
    assert_eq!(user.as_deref(), Some("auth:account:testidp:ada"));
    let cross_site =
        browser.client.post(&url).header("sec-fetch-site", "cross-site").header("authorization", "Basic YTpi");
    assert_eq!(cross_site.send().await.unwrap().status(), 403, "and is guarded as one");
}
