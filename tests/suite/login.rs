//! Logging in and out: cookies, flows, `/auth/session`, ForwardAuth, logout.

use std::time::Duration;

use reqwest::Url;
use serde_json::Value;

use crate::harness::{AUDIENCES, Browser, Edge, Provider, SECRET, Setup, Upstream, http_client, location, problem};

const COOKIE: &str = "bff_session";

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0]));
    (setup.start().await, upstream)
}

/// With the store's file open, to make it fail.
async fn edge_and_its_store(folder: &std::path::Path) -> (Edge, rusqlite::Connection) {
    let path = folder.join("sessions.db");
    let edge = Setup::new().store(&format!("sqlite:{}", path.display())).start().await;
    (edge, rusqlite::Connection::open(&path).unwrap())
}

/// The `Set-Cookie` lines of an answer, each as its parts.
fn set_cookies(answer: &reqwest::Response) -> Vec<Vec<String>> {
    let lines = answer.headers().get_all("set-cookie").iter();
    lines.map(|line| line.to_str().unwrap().split(';').map(|part| part.trim().to_owned()).collect()).collect()
}

fn cookie_named<'a>(cookies: &'a [Vec<String>], name: &str) -> Option<&'a Vec<String>> {
    cookies.iter().find(|parts| parts[0].split('=').next() == Some(name))
}

async fn session_of(browser: &Browser, edge: &Edge) -> (u16, Value) {
    let answer = browser.get(edge.url("/auth/session")).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn the_session_cookie_has_exactly_its_attributes() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/here?x=1").await;
    let answer = browser.get(&callback).await;
    assert!(matches!(answer.status().as_u16(), 302 | 303), "{}", answer.status());
    assert_eq!(location(&answer).as_deref(), Some("/here?x=1"));
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let cookies = set_cookies(&answer);
    let mut parts = cookie_named(&cookies, COOKIE).expect("a session cookie").clone();
    let value = parts.remove(0);
    assert!(value.len() > "bff_session=".len() + 60, "48 random bytes or more: {} characters", value.len());
    parts.sort();
    assert_eq!(parts, ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Lax"]);
}

#[tokio::test]
async fn the_flow_cookie_is_short_lived_and_goes_with_the_callback() {
    let (edge, _upstream) = edge().await;
    let started = http_client().get(edge.url("/auth/login")).send().await.unwrap();
    assert_eq!(started.status(), 302);
    assert_eq!(started.headers()["cache-control"], "no-store");
    let cookies = set_cookies(&started);
    assert_eq!(cookies.len(), 1, "one flow cookie and nothing else: {cookies:?}");
    for attribute in ["HttpOnly", "SameSite=Lax"] {
        assert!(cookies[0].iter().any(|part| part == attribute), "{attribute}: {cookies:?}");
    }
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(browser.cookie_header(&edge.origin).split("; ").count(), 1, "only the session is left");
}

#[tokio::test]
async fn the_authorization_request_is_what_the_contract_says() {
    let upstream = Upstream::start().await;
    let [own, analytics, crud, _] = crate::harness::AUDIENCES;
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(analytics))
        .service("crud", &upstream.url(), Some(crud))
        .service("same", &upstream.url(), Some(crud));
    let edge = setup.start().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let started = http_client().get(edge.url("/auth/login")).send().await.unwrap();
        let url = Url::parse(&location(&started).unwrap()).unwrap();
        let all = |name: &str| -> Vec<String> {
            url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
        };
        assert!(url.as_str().starts_with(&edge.provider.issuer));
        assert_eq!(all("response_type"), ["code"]);
        assert_eq!(all("redirect_uri"), [edge.url("/auth/callback")]);
        assert_eq!(all("code_challenge_method"), ["S256"]);
        let mut resources = all("resource");
        resources.sort();
        assert_eq!(resources, [analytics, crud, own], "each distinct audience once");
        for once in ["state", "nonce", "code_challenge"] {
            let value = all(once).pop().unwrap_or_default();
            assert!(value.len() >= 22, "{once} holds 128 bits: {value}");
            assert!(seen.insert(value), "{once} is used once");
        }
    }
}

#[tokio::test]
async fn what_idps_yaml_writes_of_endpoints_and_parameters_is_used_as_it_is() {
    let issuer = &Provider::shared().issuer;
    let lines = [
        &format!("client_secret: \"{SECRET}\""),
        &format!("authorization_url: {issuer}/auth?p=b2c_1"),
        &format!("token_url: {issuer}/token?p=b2c_1"),
        &format!("end_session_url: {issuer}/session/end?p=b2c_1"),
    ];
    let written = [
        (r#"{ prompt: login consent, ui_locales: "de fr", login_hint: "" }"#, Some("login consent"), Some("de fr")),
        (r#"{ prompt: "" }"#, None, None),
        ("{}", Some("consent"), None),
    ];
    for (params, prompt, locales) in written {
        let params = format!("authorization_params: {params}");
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).chain([params.as_str()]).collect();
        let edge = Setup::new().client_auth(&lines, &serde_json::json!({})).start().await;
        let started = http_client().get(edge.url("/auth/login")).send().await.unwrap();
        let url = Url::parse(&location(&started).unwrap()).unwrap();
        assert!(url.as_str().starts_with(&format!("{issuer}/auth?p=b2c_1&response_type=code&")), "{url}");
        let all = |name: &str| -> Vec<String> {
            url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
        };
        let sent = [all("prompt"), all("ui_locales"), all("login_hint")];
        let expected = [prompt, locales, None].map(|one| one.map(str::to_owned).into_iter().collect::<Vec<_>>());
        assert_eq!(sent, expected, "{params}");
        let left = Browser::logged_in(&edge, "ada").await.post(edge.url("/auth/logout")).await;
        let target = location(&left).unwrap();
        assert!(target.starts_with(&format!("{issuer}/session/end?p=b2c_1&id_token_hint=")), "{target}");
    }
}

#[tokio::test]
async fn every_login_makes_a_new_session_id() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let first = browser.cookie(&edge.origin, COOKIE).unwrap();
    browser.login(&edge, "ada", "/").await;
    let second = browser.cookie(&edge.origin, COOKIE).unwrap();
    assert_ne!(first, second);
    // A planted id is not taken over either.
    let planted = Browser::new();
    planted.put_cookie(&edge.origin, &format!("{COOKIE}={}; Path=/", "A".repeat(first.len())));
    planted.login(&edge, "eve", "/").await;
    assert_ne!(planted.cookie(&edge.origin, COOKIE).unwrap(), "A".repeat(first.len()));
}

#[tokio::test]
async fn two_tabs_that_log_in_at_once_both_arrive() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let first = browser.authorize(&edge, "ada", "/first").await;
    let second = browser.authorize(&edge, "ada", "/second").await;
    for (callback, target) in [(first, "/first"), (second, "/second")] {
        let answer = browser.get(&callback).await;
        assert_eq!(location(&answer).as_deref(), Some(target), "{}", answer.status());
    }
    assert_eq!(session_of(&browser, &edge).await.0, 200);
}

/// A session that is ended under a tab has it log in again, which would end the next tab's.
#[tokio::test]
async fn a_tab_that_logs_in_later_keeps_the_session_of_the_first() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let before = browser.cookie(&edge.origin, COOKIE).unwrap();
    let [first, second] =
        [browser.authorize(&edge, "ada", "/first").await, browser.authorize(&edge, "ada", "/second").await];
    browser.get(&first).await;
    let session = browser.cookie(&edge.origin, COOKIE).unwrap();
    assert_ne!(session, before, "every login but that one makes a new one");
    let answer = browser.get(&second).await;
    assert_eq!(location(&answer).as_deref(), Some("/second"));
    assert!(cookie_named(&set_cookies(&answer), COOKIE).is_none());
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"replaced\"}").await, 1, "the one from before");
    assert_eq!(session_of(&browser, &edge).await.0, 200);
    // Somebody else's goes.
    let third = browser.authorize(&edge, "ada", "/").await;
    let other = Browser::logged_in(&edge, "eve").await.cookie(&edge.origin, COOKIE).unwrap();
    browser.put_cookie(&edge.origin, &format!("{COOKIE}={other}; Path=/"));
    browser.get(&third).await;
    assert_eq!(session_of(&browser, &edge).await.1["user"]["sub"], "ada");
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"replaced\"}").await, 2);
}

/// A strict cookie is not sent to a login that another site leads to, and comes along to its end where the provider's site is
/// ours.
#[tokio::test]
async fn a_session_that_was_there_before_a_login_is_none_that_came_meanwhile() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0])).session("same_site: strict");
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let before = browser.cookie(&edge.origin, COOKIE).unwrap();
    browser.put_cookie(&edge.origin, &format!("{COOKIE}=; Path=/; Max-Age=0"));
    // Sessions begin by the second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let callback = browser.authorize(&edge, "ada", "/").await;
    browser.put_cookie(&edge.origin, &format!("{COOKIE}={before}; Path=/"));
    let answer = browser.get(&callback).await;
    assert!(cookie_named(&set_cookies(&answer), COOKIE).is_some(), "a person has logged in anew");
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"replaced\"}").await, 1);
}

/// The browser brings it to the beginning of a login, and not along with the provider's redirect to the end.
#[tokio::test]
async fn the_session_before_a_login_ends_though_its_strict_cookie_does_not_come_along() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0])).session("same_site: strict");
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let before = browser.cookie(&edge.origin, COOKIE).unwrap();
    let callback = browser.authorize(&edge, "ada", "/").await;
    browser.put_cookie(&edge.origin, &format!("{COOKIE}=; Path=/; Max-Age=0"));
    browser.get(&callback).await;
    let old = Browser::new();
    old.put_cookie(&edge.origin, &format!("{COOKIE}={before}; Path=/"));
    assert_eq!((session_of(&browser, &edge).await.0, session_of(&old, &edge).await.0), (200, 401));
    assert_eq!(edge.metric("bff_sessions_destroyed_total{reason=\"replaced\"}").await, 1);
}

#[tokio::test]
async fn a_script_that_wants_a_login_right_after_one_gets_on_with_that() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let login = |fields: &[(&'static str, &'static str)]| {
        let request = browser.client.get(edge.url("/auth/login?return_to=/late%3Fa%23b"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        async { location(&request.send().await.unwrap()).unwrap() }
    };
    let script = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")];
    let person = [script[0], script[1], ("sec-fetch-user", "?1")];
    assert!(login(&script).await.starts_with(&edge.provider.issuer), "there is no session");
    browser.login(&edge, "ada", "/").await;
    assert_eq!(login(&script).await, "/late?a#b");
    for wanted in [&person[..], &[], &[("sec-fetch-site", "cross-site"), script[1]]] {
        assert!(login(wanted).await.starts_with(&edge.provider.issuer), "{wanted:?}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    assert!(login(&script).await.starts_with(&edge.provider.issuer), "the session is not new any more");
}

#[tokio::test]
async fn nobody_is_logged_in_ahead_of_a_click() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    for (name, word) in [("sec-purpose", "prefetch"), ("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch")] {
        let ahead = browser.client.get(edge.url("/auth/login?return_to=/x")).header(name, word).send().await.unwrap();
        assert!(set_cookies(&ahead).is_empty(), "no flow was begun");
        // Nothing a browser would keep for the click (2xx, 3xx).
        assert_eq!((ahead.status().as_u16(), problem(ahead).await["code"].as_str()), (403, Some("csrf_failed")));
    }
    assert_eq!(edge.metric("bff_csrf_violations_total{reason=\"fetch_site\"}").await, 0, "it is no attack");
}

#[tokio::test]
async fn the_back_button_with_a_live_session_redirects() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/here").await;
    browser.get(&callback).await;
    let cookie = browser.cookie(&edge.origin, COOKIE);
    let again = browser.get(&callback).await;
    assert!(matches!(again.status().as_u16(), 302 | 303), "{}", again.status());
    assert!(location(&again).unwrap().starts_with('/') || location(&again).unwrap().starts_with(&edge.origin));
    assert!(!location(&again).unwrap().contains("/auth/login"), "no second login");
    assert_eq!(browser.cookie(&edge.origin, COOKIE), cookie, "the session is the same");
    assert_eq!(session_of(&browser, &edge).await.0, 200);
    assert_eq!(edge.grants("authorization_code").await, 1, "the code was not sent twice");
}

#[tokio::test]
async fn a_stale_callback_without_a_session_restarts_the_login_once() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let stale = edge.url(&format!("/auth/callback?code=abc&state=unknown&iss={}", edge.provider.issuer));
    let first = browser.get(&stale).await;
    assert!(matches!(first.status().as_u16(), 302 | 303), "{}", first.status());
    assert!(location(&first).unwrap().contains("/auth/login") || location(&first).unwrap().contains("/auth?"));
    let second = browser.get(&stale).await;
    assert!(second.status().is_client_error(), "no loop: {}", second.status());
    assert_eq!(edge.grants("authorization_code").await + edge.grants("refused").await, 0);
}

#[tokio::test]
async fn a_login_whose_cookie_gave_way_to_younger_tabs_starts_again_once() {
    let (edge, _upstream) = edge().await;
    // The one has lost the cookies of the other's tabs.
    let (tabs, browser) = (Browser::new(), Browser::new());
    let [first, second, third, fourth] = [
        tabs.authorize(&edge, "ada", "/first?a=b").await,
        tabs.authorize(&edge, "ada", "/second").await,
        tabs.authorize(&edge, "ada", "/third").await,
        tabs.authorize(&edge, "ada", "/fourth").await,
    ];
    let answer = browser.get(&first).await;
    let again = "/auth/login?return_to=%2Ffirst%3Fa%3Db&again=1";
    assert_eq!(location(&answer).as_deref(), Some(again), "{}", answer.status());
    let again = "/auth/login?return_to=%2Fsecond&again=1";
    assert_eq!(location(&browser.get(&second).await).as_deref(), Some(again), "each of them");
    let lost = browser.walk(edge.url(again).parse().unwrap(), "ada", &edge.url("/auth/callback")).await;
    assert_eq!(Browser::new().get(&lost).await.status(), 400, "once");
    assert_eq!(edge.grants("authorization_code").await, 0, "no code was redeemed");
    assert_eq!(session_of(&browser, &edge).await.0, 401);
    browser.login(&edge, "ada", "/").await;
    assert_eq!(location(&browser.get(&third).await).as_deref(), Some("/third"), "the session goes on");
    // Another value in the cookie: another browser's login.
    let other = Browser::new();
    for pair in tabs.cookie_header(&edge.origin).split("; ").filter(|pair| pair.starts_with("bff_flow_")) {
        other.put_cookie(&edge.origin, &format!("{}=guess; Path=/", pair.split('=').next().unwrap()));
    }
    assert_eq!(other.get(&fourth).await.status(), 400);
}

/// One that keeps no cookies cannot be marked by one.
#[tokio::test]
async fn a_browser_that_keeps_no_cookies_is_not_sent_round_for_ever() {
    let (edge, _upstream) = edge().await;
    let at_provider = Browser::new();
    let first = at_provider.authorize(&edge, "ada", "/deep").await;
    let again = location(&http_client().get(first).send().await.unwrap()).unwrap();
    let again = location(&http_client().get(edge.url(&again)).send().await.unwrap()).unwrap();
    let second = at_provider.walk(again.parse().unwrap(), "ada", &edge.url("/auth/callback")).await;
    let end = http_client().get(second).send().await.unwrap();
    assert_eq!(end.status(), 400);
    assert!(end.text().await.unwrap().contains("/auth/login?return_to=%2Fdeep"), "a way to try it by hand");
    assert_eq!(edge.grants("authorization_code").await, 0);
}

#[tokio::test]
async fn another_browser_cannot_finish_a_login() {
    let (edge, _upstream) = edge().await;
    let (victim, attacker) = (Browser::new(), Browser::new());
    let callback = attacker.authorize(&edge, "eve", "/").await;
    // So often that the restarts are used up that a flow and a stale callback may have.
    for _ in 0..3 {
        let answer = victim.get(&callback).await;
        assert!(cookie_named(&set_cookies(&answer), COOKIE).is_none_or(|parts| parts[0] == "bff_session="));
    }
    assert_eq!(session_of(&victim, &edge).await.0, 401);
    assert_eq!(edge.grants("authorization_code").await, 0);
}

/// Changes a callback URL.
type Tamper = fn(&str) -> String;

#[tokio::test]
async fn a_tampered_answer_of_the_provider_is_refused() {
    let (edge, _upstream) = edge().await;
    let tampered: [(&str, Tamper); 4] = [
        ("wrong iss", |url| url.replace("iss=http%3A%2F%2F127", "iss=http%3A%2F%2F128")),
        ("no iss", |url| url.split("&iss=").next().unwrap().to_owned()),
        ("no code", |url| url.replace("code=", "kode=")),
        ("state twice", |url| format!("{url}&state=x")),
    ];
    for (what, tamper) in tampered {
        let browser = Browser::new();
        let callback = browser.authorize(&edge, "ada", "/").await;
        let bad = tamper(&callback);
        assert_ne!(bad, callback, "{what}");
        let answer = browser.get(&bad).await;
        assert!(answer.status().is_client_error(), "{what}: {}", answer.status());
        assert_eq!(session_of(&browser, &edge).await.0, 401, "{what}");
    }
    assert_eq!(edge.grants("authorization_code").await, 0, "no token request was made");
}

#[tokio::test]
async fn an_error_of_the_provider_is_shown_escaped_and_without_a_loop() {
    let (edge, _upstream) = edge().await;
    let answer = answered_with(&edge, "access_denied").await;
    assert_eq!(answer.status(), 403);
    assert!(!answer.text().await.unwrap().contains("<script>"));
}

#[tokio::test]
async fn a_provider_in_trouble_has_refused_nobody() {
    let (edge, _upstream) = edge().await;
    for (code, status) in [("server_error", 502), ("temporarily_unavailable", 503)] {
        let answer = answered_with(&edge, code).await;
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (status, true), "{code}");
        let page = answer.text().await.unwrap();
        assert!(page.contains("in trouble") && page.contains("/auth/login?return_to=%2F"), "{page}");
        assert!(!page.contains("<script>"));
    }
}

/// The callback, to which the provider brings an error instead of a code.
async fn answered_with(edge: &Edge, error: &str) -> reqwest::Response {
    let browser = Browser::new();
    let callback = Url::parse(&browser.authorize(edge, "ada", "/").await).unwrap();
    let state = callback.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    let mut bad = Url::parse(&edge.url("/auth/callback")).unwrap();
    bad.query_pairs_mut()
        .append_pair("error", error)
        .append_pair("error_description", "<script>alert(1)</script>")
        .append_pair("state", &state)
        .append_pair("iss", &edge.provider.issuer);
    browser.get(&bad).await
}

#[tokio::test]
async fn an_unusable_return_to_becomes_the_root() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for good in ["/", "/a/b?c=d&e=%2F#f", "/?next=https://evil.example"] {
        assert_eq!(browser.login(&edge, "ada", good).await, good);
    }
    let evil = [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/%0d%0aSet-Cookie:x=y\r\nX: y",
        "https://localhost@evil.example/",
    ];
    for target in evil {
        assert_eq!(browser.login(&edge, "ada", target).await, "/", "{target:?}");
    }
}

#[tokio::test]
async fn a_listed_host_may_be_returned_to() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0]));
    let edge = setup.auth("allowed_redirect_hosts: [app.example.com]").start().await;
    let browser = Browser::new();
    assert_eq!(browser.login(&edge, "ada", "https://app.example.com/a?b").await, "https://app.example.com/a?b");
    for target in
        ["https://app.example.com.evil.example/", "https://app.example.com:444/", "https://x@app.example.com/"]
    {
        assert_eq!(browser.login(&edge, "ada", target).await, "/", "{target}");
    }
}

#[tokio::test]
async fn the_session_endpoint_tells_who_is_logged_in() {
    let (edge, _upstream) = edge().await;
    for path in ["/auth/session", "/api/auth/session"] {
        let answer = http_client().get(edge.url(path)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (401, &"no-store".parse().unwrap()));
        assert_eq!(answer.json::<Value>().await.unwrap()["authenticated"], false);
    }
    let browser = Browser::logged_in(&edge, "ada").await;
    for path in ["/auth/session", "/api/auth/session"] {
        let answer = browser.get(edge.url(path)).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &"no-store".parse().unwrap()));
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["authenticated"], true);
        assert_eq!(body["user"]["sub"], "ada");
        assert_eq!(body["user"]["email"], "ada@example.test");
        assert_eq!(body["arn"], "auth:account:testidp:ada");
        assert!(!body["expires_at"].is_null(), "{body}");
        // At once: it is the first that a page asks after its login.
        let mapped = [&body["services"], &body["services_count"]];
        assert_eq!(mapped, [&serde_json::json!(["echo_service"]), &Value::from(1)]);
    }
    eventually!("the check is logged", edge.log.has(&["Session status check successful", "services_count"]));
}

#[tokio::test]
async fn forward_auth_names_the_user_to_another_proxy() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let cookie = browser.cookie(&edge.origin, COOKIE).unwrap();
    for path in ["/auth/verify", "/auth/forward"] {
        assert_eq!(http_client().get(edge.url(path)).send().await.unwrap().status(), 401);
        let answer = browser.get(edge.url(path)).await;
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("x-user-id").contains("ada"));
        assert!(!header("x-auth-time").is_empty());
        assert!(!header("x-correlation-id").is_empty());
        let id = header("x-session-id");
        assert!((4..=20).contains(&id.len()) && !cookie.contains(&id), "shortened, and no part of the cookie: {id}");
    }
    let (one, other) = (Browser::logged_in(&edge, "k\u{fc}").await, Browser::logged_in(&edge, "k%C3%BC").await);
    let user = async |browser: &Browser| browser.get(edge.url("/auth/verify")).await.headers()["x-user-id"].clone();
    assert_eq!([user(&one).await, user(&other).await], ["k%C3%BC", "k%25C3%25BC"], "two people, two names");
}

#[tokio::test]
async fn logout_ends_the_session_here_and_at_the_provider() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let stolen = browser.cookie_header(&edge.origin);
    assert_eq!(edge.provider.live_refresh_tokens(&edge.client_id).await, 1);
    let answer = browser.post(edge.url("/auth/logout")).await;
    assert!(matches!(answer.status().as_u16(), 302 | 303), "{}", answer.status());
    let target = Url::parse(&location(&answer).unwrap()).unwrap();
    assert!(target.as_str().starts_with(&format!("{}/session/end", edge.provider.issuer)), "{target}");
    assert!(target.query_pairs().any(|(key, value)| key == "id_token_hint" && value.split('.').count() == 3));
    let cookies = set_cookies(&answer);
    let expired = cookie_named(&cookies, COOKIE).expect("the cookie is expired");
    assert!(expired.contains(&"Max-Age=0".to_owned()) && expired.contains(&"Path=/".to_owned()), "{expired:?}");
    assert_eq!(session_of(&browser, &edge).await.0, 401);
    // The old cookie opens nothing, even where it was kept.
    let replay = http_client().get(edge.url("/auth/session")).header("cookie", stolen).send().await.unwrap();
    assert_eq!(replay.status(), 401);
    eventually!("the refresh token is revoked", edge.provider.live_refresh_tokens(&edge.client_id).await == 0);
    assert!(edge.metric("bff_sessions_destroyed_total{reason=\"logout\"}").await >= 1);
}

#[tokio::test]
async fn logout_everywhere_ends_the_other_browsers_too() {
    let (edge, _upstream) = edge().await;
    let (desk, phone) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let stranger = Browser::logged_in(&edge, "grace").await;
    assert_eq!(session_of(&phone, &edge).await.0, 200);
    desk.post(edge.url("/auth/logout?everywhere=true")).await;
    for (browser, status) in [(&desk, 401), (&phone, 401), (&stranger, 200)] {
        assert_eq!(session_of(browser, &edge).await.0, status);
    }
}

/// What did not succeed can be asked for again: the session that asks goes last. The store deletes all but the oldest.
#[tokio::test]
async fn a_logout_everywhere_that_failed_halfway_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, store) = edge_and_its_store(folder.path()).await;
    let (phone, desk) = (Browser::logged_in(&edge, "ada").await, Browser::logged_in(&edge, "ada").await);
    let stuck = "CREATE TRIGGER stuck BEFORE DELETE ON sessions WHEN OLD.rowid = (SELECT min(rowid) FROM sessions)
                 BEGIN SELECT RAISE(ABORT, 'stuck'); END";
    store.execute_batch(stuck).unwrap();
    assert_eq!(desk.post(edge.url("/auth/logout?everywhere=true")).await.status(), 503);
    assert_eq!(session_of(&desk, &edge).await.0, 200, "it may ask again");
    store.execute_batch("DROP TRIGGER stuck").unwrap();
    assert_eq!(desk.post(edge.url("/auth/logout?everywhere=true")).await.status(), 302);
    for browser in [&desk, &phone] {
        assert_eq!(session_of(browser, &edge).await.0, 401);
    }
}

/// Another process on the same file may have renewed it since this one read the session.
#[tokio::test]
async fn a_logout_revokes_the_newest_refresh_token() {
    let (folder, upstream, ear) = (tempfile::tempdir().unwrap(), Upstream::start().await, Upstream::start().await);
    let store = format!("sqlite:{}", folder.path().join("sessions.db").display());
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[1])).store(&store);
    let one = setup.clone().start().await;
    let other = setup.start_beside(&one).await;
    other.rewrite("conf/idps.yaml", |text| format!("{text}    revocation_url: {}/revoke\n", ear.url()));
    assert!(other.reload().await);
    let browser = Browser::new();
    let callback = browser.authorize(&one, "ada", "/").await;
    one.provider.set_mode(&one.client_id, "late:700").await;
    assert_eq!(browser.get(&callback).await.status(), 302);
    let (reader, url) = (browser.clone(), other.url("/auth/verify"));
    // Whenever it hears that the file has changed, it reads the session again.
    let reading = tokio::spawn(async move {
        loop {
            assert_eq!(reader.get(&url).await.status(), 200);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(session_of(&browser, &one).await.1["services_count"], 1, "a renewal has just been stored");
    reading.abort();
    assert_eq!(browser.post(other.url("/auth/logout")).await.status(), 302);
    eventually!("a refresh token is revoked", ear.count() == 1);
    let [newest] = &*one.provider.refresh_tokens(&one.client_id).await else { panic!("one is live") };
    let asked = String::from_utf8_lossy(&ear.last().body.start).into_owned();
    assert!(asked.contains(newest.as_str()), "{asked}");
}

/// Whether the provider has ended the login meanwhile cannot be asked: no browser gets the cookie of what was stored.
#[tokio::test]
async fn a_login_that_cannot_be_confirmed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, store) = edge_and_its_store(folder.path()).await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/").await;
    edge.provider.set_mode(&edge.client_id, "late:700").await;
    let login = tokio::spawn(async move { browser.get(&callback).await.status().as_u16() });
    eventually!("the provider has the code", edge.grants("authorization_code").await == 1);
    store.execute_batch("ALTER TABLE notes RENAME TO elsewhere").unwrap();
    assert_eq!(login.await.unwrap(), 503);
    eventually!("the refresh token is revoked", edge.provider.live_refresh_tokens(&edge.client_id).await == 0);
    let sessions: i64 = store.query_one("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(sessions, 0);
}

/// The store may have ended the session and its word been lost: then nobody comes back with its tokens.
#[tokio::test]
async fn a_logout_that_the_store_does_not_confirm_revokes_the_refresh_token() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, store) = edge_and_its_store(folder.path()).await;
    let browser = Browser::logged_in(&edge, "ada").await;
    store
        .execute_batch("CREATE TRIGGER stuck BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        .unwrap();
    let answer = browser.post(edge.url("/auth/logout")).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("set-cookie")), (503, false));
    eventually!("the refresh token is revoked", edge.provider.live_refresh_tokens(&edge.client_id).await == 0);
}

#[tokio::test]
async fn a_foreign_page_cannot_log_the_user_out() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let post = browser.client.post(edge.url("/auth/logout")).header("sec-fetch-site", "cross-site");
    assert_eq!(problem(post.send().await.unwrap()).await["code"], "csrf_failed");
    let get = browser.client.get(edge.url("/auth/logout")).header("sec-fetch-site", "cross-site");
    assert!(get.send().await.unwrap().status().is_client_error());
    let image = browser.client.get(edge.url("/auth/logout")).header("sec-fetch-site", "same-origin");
    assert!(image.header("sec-fetch-mode", "no-cors").send().await.unwrap().status().is_client_error());
    for (name, word) in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch"), ("x-moz", "prefetch")] {
        let ahead = browser.client.get(edge.url("/auth/logout")).header("sec-fetch-site", "same-origin");
        let ahead = ahead.header("sec-fetch-mode", "navigate").header(name, word);
        assert_eq!(problem(ahead.send().await.unwrap()).await["code"], "csrf_failed", "{name}: nobody has clicked");
    }
    for origin in ["https://evil.example", "null"] {
        let old = browser.client.get(edge.url("/auth/logout")).header("origin", origin);
        assert_eq!(problem(old.send().await.unwrap()).await["code"], "csrf_failed", "{origin}");
    }
    assert_eq!(edge.metric("bff_csrf_violations_total{reason=\"fetch_site\"}").await, 6, "all are counted");
    assert_eq!(edge.metric("bff_csrf_violations_total{reason=\"origin\"}").await, 2);
    assert_eq!(session_of(&browser, &edge).await.0, 200);
}

#[tokio::test]
async fn a_head_begins_no_login_and_ends_none() {
    let (edge, _upstream) = edge().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/here").await;
    for url in [edge.url("/auth/login"), callback.clone()] {
        let answer = browser.client.head(&url).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"GET".parse().unwrap()), "{url}");
        assert!(!answer.headers().contains_key("set-cookie"), "{url}");
    }
    assert_eq!(edge.grants("authorization_code").await, 0);
    assert_eq!(location(&browser.get(&callback).await).as_deref(), Some("/here"), "the flow was not spent");
}

#[tokio::test]
async fn a_login_with_a_session_cookie_alias_is_read_but_never_set() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0]));
    let edge = setup.session("cookie_aliases: [_eid_sid]").start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let value = browser.cookie(&edge.origin, COOKIE).unwrap();
    let request = http_client().get(edge.url("/auth/session")).header("cookie", format!("_eid_sid={value}"));
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(browser.cookie(&edge.origin, "_eid_sid"), None);
}

/// A browser would follow a redirect that the provider's site began without the new strict cookie.
#[tokio::test]
async fn with_strict_cookies_a_page_of_ours_goes_on_instead_of_the_providers_redirect() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0]));
    let edge = setup.session("same_site: strict").start().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/a?b=\"<&c").await;
    let answer = browser.client.get(&callback).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().map(|one| one.to_str().unwrap()).collect();
    assert!(cookies.iter().any(|one| one.starts_with(COOKIE) && one.contains("SameSite=Strict")), "{cookies:?}");
    let page = answer.text().await.unwrap();
    assert!(page.contains("content=\"0;url=/a?b=%22%3C&amp;c\""), "{page}");
    assert_eq!(browser.login(&edge, "ada", "/x").await, "/x", "who says nothing of the site is redirected");
}

#[tokio::test]
async fn a_client_may_authenticate_in_the_body_or_with_a_key() {
    let upstream = Upstream::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let point = key.public_key_raw();
    let coordinate = |range| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &point[range]);
    let jwk = serde_json::json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": coordinate(1..33), "y": coordinate(33..65),
    });
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("client.pem");
    std::fs::write(&pem, key.serialize_pem()).unwrap();
    let by_key = format!("client_secret: \"file:{}\"", pem.display());
    let methods = [
        (
            vec!["client_secret: a-plain-secret-that-is-long-enough", "token_auth_method: client_secret_post"],
            serde_json::json!({
                "token_endpoint_auth_method": "client_secret_post",
                "client_secret": "a-plain-secret-that-is-long-enough",
            }),
        ),
        (
            vec![by_key.as_str(), "token_auth_method: private_key_jwt", "key_id: k1"],
            serde_json::json!({
                "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
                "jwks": {"keys": [jwk]},
            }),
        ),
    ];
    for (lines, metadata) in methods {
        let setup = Setup::new().service("echo", &upstream.url(), Some(AUDIENCES[0]));
        let edge = setup.client_auth(&lines, &metadata).start().await;
        let browser = Browser::logged_in(&edge, "ada").await;
        assert_eq!(session_of(&browser, &edge).await.1["user"]["sub"], "ada", "{lines:?}");
    }
}
