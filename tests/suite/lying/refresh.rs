//! Lies and faults when a token is renewed: what ends a session, what never does, and that a rotated
//! refresh token is not lost with an answer that is of no use otherwise.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::edge_at;
use crate::harness::liar::{Canned, Liar, logged_in, now, part, tokens};
use crate::harness::{Browser, Edge, Setup, Upstream, location, problem};

/// For whom the service's tokens are.
const OWN: &str = "https://own.example.test";

/// The login token is over at once: the first request must renew it.
const SHORT: fn() -> Value = || json!({ "expires_in": 0, "refresh_token": "rt-0" });

/// An ID token as it may come with a refresh, changed.
fn id_token(liar: &Liar, edge: &Edge, name: &str, value: Value) -> Value {
    let mut claims = json!({ "iss": liar.base, "aud": edge.client_id, "sub": "ada", "iat": now(), "exp": now() + 300 });
    claims[name] = value;
    json!(liar.sign(&claims))
}

async fn pass(browser: &Browser, edge: &Edge) -> reqwest::Response {
    browser.get(edge.url("/pass/x")).await
}

#[tokio::test]
async fn a_rotated_refresh_token_outlives_the_answer_it_came_in() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let forged = format!("{}x", id_token(&liar, &edge, "sub", json!("ada")).as_str().unwrap());
    let unsigned = json!({ "iss": liar.base, "sub": "ada", "aud": edge.client_id });
    let unsigned = format!("{}.{}.", part(&json!({ "alg": "none" })), part(&unsigned));
    let faults = [
        ("forged", json!({ "id_token": forged })),
        ("unsigned", json!({ "id_token": unsigned })),
        ("no JWT", json!({ "id_token": "garbage" })),
        ("for somebody else", json!({ "id_token": id_token(&liar, &edge, "aud", json!("somebody-else")) })),
        ("expired", json!({ "id_token": id_token(&liar, &edge, "exp", json!(1_700_000_000)) })),
        ("token_type", json!({ "token_type": "mac" })),
        ("no access_token", json!({ "access_token": null })),
        ("access_token of another type", json!({ "access_token": 7 })),
    ];
    let mut waiting = Vec::new();
    for (number, (what, fault)) in faults.iter().enumerate() {
        let browser = logged_in(&edge, &liar, &SHORT()).await;
        let mut answer = tokens(fault);
        answer["refresh_token"] = json!(format!("rotated-{number}"));
        liar.answer("/token", Canned::json(&answer));
        let refused = pass(&browser, &edge).await;
        assert_eq!(refused.status(), 502, "{what}");
        assert_eq!(problem(refused).await["code"], "upstream_auth_failed", "{what}");
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "{what}: the session lives");
        waiting.push(browser);
    }
    eventually!("the log says so", edge.log.has(&["brought a new refresh token, which is kept"]));
    // Honest again: each session goes on with the refresh token that it was given last.
    liar.answer("/token", Canned::json(&tokens(&json!({}))));
    for (number, browser) in waiting.iter().enumerate() {
        eventually!("it is renewed", pass(browser, &edge).await.status() == 200);
        let form = liar.asked("/token").pop().unwrap();
        assert!(form.contains(&format!("refresh_token=rotated-{number}")), "{}: {form}", faults[number].0);
    }
    assert!(!edge.log.text().contains("rotated-"), "and none is in the log");
}

#[tokio::test]
async fn a_token_endpoint_out_of_order_ends_no_session() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let json = |status, body: &str| Canned::Whole(status, "application/json", body.to_owned());
    let mut waiting = Vec::new();
    for (what, canned) in [
        ("500", json(500, r#"{"error":"invalid_grant"}"#)),
        ("503", json(503, "")),
        ("429", json(429, r#"{"error":"invalid_grant"}"#)),
        ("HTML", Canned::Whole(200, "text/html", "<html>".to_owned())),
        ("HTML of a gateway", Canned::Whole(400, "text/html", "<html>invalid_grant".to_owned())),
        ("nothing", json(200, "")),
        ("50 MB", Canned::Huge(50 << 20)),
        ("elsewhere", Canned::Redirect("/elsewhere".to_owned())),
        ("reset", Canned::Reset),
    ] {
        let browser = logged_in(&edge, &liar, &SHORT()).await;
        liar.answer("/token", canned);
        let before = liar.asked("/token").len();
        assert_eq!(pass(&browser, &edge).await.status(), 502, "{what}");
        assert_eq!(pass(&browser, &edge).await.status(), 502, "{what}");
        assert_eq!(liar.asked("/token").len(), before + 1, "{what}: asked once, then left alone for a while");
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "{what}");
        waiting.push(browser);
    }
    liar.answer("/token", Canned::json(&tokens(&json!({}))));
    for browser in &waiting {
        eventually!("it is renewed", pass(browser, &edge).await.status() == 200);
        assert!(liar.asked("/token").pop().unwrap().contains("refresh_token=rt-0"));
    }
    assert!(liar.asked("/elsewhere").is_empty());
    eventually!("the log says so", edge.log.has(&["the answer to a refresh is lost"]));
}

#[tokio::test]
async fn somebody_else_or_a_plain_no_ends_the_session_and_nothing_is_asked_again() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let spent = r#"{"error":"invalid_grant","error_description":"spent"}"#;
    let spent = Canned::Whole(400, "application/json", spent.to_owned());
    let with = |name, value| Canned::json(&tokens(&json!({ "id_token": id_token(&liar, &edge, name, value) })));
    for (what, canned, reason) in [
        ("invalid_grant", spent, "invalid_grant"),
        ("another sub", with("sub", json!("eve")), "identity_changed"),
        ("another iss", with("iss", json!("https://evil.example")), "identity_changed"),
        ("no sub", with("sub", Value::Null), "identity_changed"),
    ] {
        let browser = logged_in(&edge, &liar, &SHORT()).await;
        liar.answer("/token", canned);
        let before = liar.asked("/token").len();
        let refused = pass(&browser, &edge).await;
        assert_eq!(problem(refused).await["code"], "not_authenticated", "{what}");
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 401, "{what}");
        assert_eq!(pass(&browser, &edge).await.status(), 401, "{what}");
        assert_eq!(liar.asked("/token").len(), before + 1, "{what}");
        eventually!("the log says why", edge.log.has(&["the provider ended this session", "\"login\"", reason]));
    }
    eventually!("in the provider's words", edge.log.has(&["ended this session", "invalid_grant: spent"]));
}

/// As Entra ID says it where nobody consented to one service, or that has conditions of its own.
#[tokio::test]
async fn a_service_that_is_refused_ends_no_session() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let route = "{ id: pass, path: \"/pass/*\", target_service: own_service, preserve_path: true, auth: session, \
                token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).route(route);
    let edge = setup.provider_at(&liar.base).start().await;
    let access_token = liar.sign(&json!({ "aud": OWN }));
    let two_seconds = json!({ "access_token": access_token, "expires_in": 2, "refresh_token": "rt-0" });
    let mut browsers = Vec::new();
    for suberror in ["consent_required", "basic_action", "additional_action", "message_only"] {
        browsers.push((suberror, logged_in(&edge, &liar, &two_seconds).await));
    }
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    for (suberror, browser) in &browsers {
        let said = json!({ "error": "invalid_grant", "error_description": "AADSTS65001: no", "suberror": suberror });
        liar.answer("/token", Canned::Whole(400, "application/json", said.to_string()));
        let told = problem(browser.get(edge.url("/api/own/x")).await).await;
        let detail = told["detail"].as_str().unwrap();
        assert_eq!(told["code"], "no_token_available", "{detail}");
        assert!(
            detail.contains(&format!("{OWN} for service `own_service`: invalid_grant: {suberror}: AADSTS65001: no"))
        );
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "{suberror}: the session lives");
        eventually!("the log says so", edge.log.has(&["NO_TOKEN_AVAILABLE", "own_service", suberror]));
    }
    // Said of the login's own token it is the end, as ever: only a new login helps.
    let (_, browser) = &browsers[0];
    assert_eq!(problem(pass(browser, &edge).await).await["code"], "not_authenticated");
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 401);
    eventually!("the log says why", edge.log.has(&["ended this session", "\"login\"", "invalid_grant", "AADSTS65001"]));
}

#[tokio::test]
async fn a_refusal_of_the_client_names_the_clients_keys_and_not_the_audience() {
    let liar = Liar::start().await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN));
    let base64 = ["client_secret: \"a+b/c=\"", "token_auth_method: client_secret_basic"];
    let edge = setup.client_auth(&base64, &json!({})).provider_at(&liar.base).start().await;
    for (code, hint) in [("invalid_client", "`client_secret`"), ("unauthorized_client", "allow this grant")] {
        let browser = logged_in(&edge, &liar, &json!({ "refresh_token": "rt-0" })).await;
        liar.answer("/token", Canned::Whole(400, "application/json", json!({ "error": code }).to_string()));
        let mut told;
        // The mapping behind the login may have come first, and is remembered for a moment.
        eventually!("the refusal is told", {
            told = problem(browser.get(edge.url("/api/own/x")).await).await;
            told["detail"].as_str().unwrap().contains(&format!("`own_service`: {code}; "))
        });
        let detail = told["detail"].as_str().unwrap();
        assert_eq!(told["code"], "no_token_available", "{detail}");
        assert!(detail.contains(hint), "{detail}");
        assert!(!detail.contains("service_audiences"), "{detail}");
        assert!(detail.contains("form-encod") && detail.contains("client_secret_post"), "{detail}");
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "the session lives");
    }
}

/// What a provider says when it no longer knows the refresh token, or has bound it to what was asked for last.
#[tokio::test]
async fn a_refusal_that_a_new_login_mends_says_so() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let edge = Setup::new().service("own", &upstream.url(), Some(OWN)).provider_at(&liar.base).start().await;
    let refused = |code| Canned::Whole(400, "application/json", json!({ "error": code }).to_string());
    let cases = [
        (refused("invalid_target"), "switch rotation of refresh tokens off for this client there", "service_audiences"),
        (refused("invalid_request"), "or it no longer knows this login: log out and in", "rotation"),
        (refused("invalid_scope"), "check `service_audiences.own_service`", "no longer"),
        (
            Canned::json(&tokens(&json!({}))),
            "let it issue JWT access tokens for this API, or send the login's token as it is",
            "(an opaque token)",
        ),
    ];
    // What the login gave fits, and is over before it is asked for.
    let access_token = liar.sign(&json!({ "aud": OWN }));
    let two_seconds = json!({ "access_token": access_token, "expires_in": 2, "refresh_token": "rt-0" });
    let mut browsers = Vec::new();
    for _case in &cases {
        browsers.push(logged_in(&edge, &liar, &two_seconds).await);
    }
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    for ((answer, told, never), browser) in cases.into_iter().zip(browsers) {
        liar.answer("/token", answer);
        let answer = problem(browser.get(edge.url("/api/own/x")).await).await;
        let detail = answer["detail"].as_str().unwrap();
        assert_eq!(answer["code"], "no_token_available", "{detail}");
        assert!(detail.contains(told) && !detail.contains(never), "{detail}");
    }
}

#[tokio::test]
async fn a_token_that_is_over_as_it_comes_is_used_and_not_asked_for_again_at_once() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let mut setup = Setup::new().service("own", &upstream.url(), Some(OWN));
    for mode in ["service_token", "on_behalf_of", "session_passthrough"] {
        setup = setup.route(&format!(
            "{{ id: {mode}, path: \"/{mode}/*\", target_service: own_service, preserve_path: true, auth: session, \
             token_policy: {{ mode: {mode} }} }}"
        ));
    }
    let edge = setup.provider_at(&liar.base).start().await;
    // Without `expires_in` it is the token's own end that counts: here the provider's clock is an hour behind.
    let late = json!(liar.sign(&json!({ "aud": OWN, "exp": now() - 3300 })));
    for over in [json!(0), json!(-5), Value::Null] {
        let answer = json!({ "access_token": late, "expires_in": over, "refresh_token": "rt-0" });
        let asked = || liar.asked("/token").len();
        let before = asked();
        let browser = logged_in(&edge, &liar, &answer).await;
        let begun = Instant::now();
        // The first is fetched after the login, too; the last is everybody's.
        let paths = ["/api/own/x", "/session_passthrough/x", "/on_behalf_of/x", "/service_token/x"];
        for (number, path) in (1..).zip(paths) {
            while begun.elapsed() < Duration::from_secs(number) {
                let herd = (0..10).map(|_| async { browser.get(edge.url(path)).await.status() });
                let answers = futures::future::join_all(herd).await;
                assert!(answers.iter().all(|status| *status == 200), "{over} {path}: {answers:?}");
            }
            // The code, and one token for each path.
            let count = asked() - before;
            assert!(count as u64 <= 1 + number, "{over} {path}: asked {count} times");
        }
        let before = asked();
        eventually!("it is asked again in the end", {
            browser.get(edge.url("/api/own/x")).await;
            asked() > before
        });
        assert!(begun.elapsed() > Duration::from_millis(4_900), "{over}: after {:?}", begun.elapsed());
    }
    eventually!("the log says why", edge.log.has(&["a token was over when it came", "compare the clock"]));
}

#[tokio::test]
async fn without_a_refresh_token_people_log_in_again_once_what_their_login_gave_is_over() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let route = |id: &str, mode: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: session, \
             token_policy: {{ mode: {mode} }} }}"
        )
    };
    let setup = Setup::new()
        .service("own", &upstream.url(), Some(OWN))
        .service("other", &upstream.url(), Some("https://other.example.test"))
        .route(&route("pass", "session_passthrough"))
        .route(&route("behalf", "on_behalf_of"));
    let edge = setup.provider_at(&liar.base).start().await;
    let ways = ["/api/own/x", "/pass/x", "/behalf/x"];
    let told = async |browser: &Browser, path: &str| problem(browser.get(edge.url(path)).await).await;
    let code = async |browser: &Browser, path: &str| told(browser, path).await["code"].as_str().unwrap().to_owned();
    let access_token = liar.sign(&json!({ "aud": OWN }));
    let given = |seconds: u32| json!({ "access_token": access_token, "expires_in": seconds });
    let browser = logged_in(&edge, &liar, &given(8)).await;
    assert_eq!(browser.get(edge.url(ways[0])).await.status(), 200, "it works");
    tokio::time::sleep(Duration::from_millis(8_200)).await;
    for path in ways {
        let told = told(&browser, path).await;
        assert_eq!(told["code"], "not_authenticated", "{path}");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains("the session is kept") && detail.contains("offline_access"), "{path}: {detail}");
        let page = browser.client.get(edge.url(path)).header("sec-fetch-mode", "navigate");
        let page = page.header("sec-fetch-dest", "document").send().await.unwrap();
        let login = format!("/auth/login?return_to={}", path.replace('/', "%2F"));
        assert_eq!(location(&page), Some(login), "{path}: a page goes there by itself");
    }
    eventually!("who runs it is told", edge.log.has(&["NO_TOKEN_AVAILABLE", "own_service", "offline_access"]));
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "nobody has ended the session");
    assert_eq!(
        code(&browser, "/api/other/x").await,
        "no_token_available",
        "a new login would not give this one either"
    );
    let over_as_it_came = logged_in(&edge, &liar, &given(0)).await;
    for path in ways {
        assert_eq!(code(&over_as_it_came, path).await, "no_token_available", "{path}: no logins without an end");
    }
}

#[tokio::test]
async fn a_client_that_the_provider_knows_again_is_served_as_soon_as_after_an_outage() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let browser = logged_in(&edge, &liar, &SHORT()).await;
    liar.answer("/token", Canned::Whole(401, "application/json", r#"{"error":"invalid_client"}"#.to_owned()));
    let (before, begun) = (liar.asked("/token").len(), Instant::now());
    for _ in 0..10 {
        assert_eq!(problem(pass(&browser, &edge).await).await["code"], "no_token_available");
    }
    liar.answer("/token", Canned::json(&tokens(&json!({}))));
    eventually!("it is asked again", pass(&browser, &edge).await.status() == 200);
    assert_eq!(liar.asked("/token").len(), before + 2);
    assert!(begun.elapsed() > Duration::from_millis(4_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_a_new_refresh_token_the_old_one_goes_on() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let browser = logged_in(&edge, &liar, &SHORT()).await;
    liar.answer("/token", Canned::json(&tokens(&json!({ "expires_in": 0 }))));
    for _ in 0..3 {
        pass(&browser, &edge).await;
    }
    let forms = liar.asked("/token");
    assert!(forms.len() > 1 && forms[1..].iter().all(|form| form.contains("refresh_token=rt-0")), "{forms:?}");
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
}
