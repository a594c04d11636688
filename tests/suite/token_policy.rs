//! What the written modes of `token_policy` have in common: no token for nobody in particular, and nothing of the
//! application's own in a user's.

use url::Url;

use crate::harness::{AUDIENCES, Browser, Setup, Upstream, claims, has_audience, http_client, location, problem};

/// Compared before it is sent: without an audience there is nothing to compare with.
#[tokio::test]
async fn without_an_audience_no_mode_sends_a_token() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1])).service_alone(
        "any",
        &upstream.url(),
        None,
        "timeout: 5",
    );
    for (id, auth, mode) in [
        ("shared", "session", "service_token"),
        ("open", "none", "service_token"),
        ("exchanged", "session", "on_behalf_of"),
    ] {
        setup = setup.route(&format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: any_service, preserve_path: true, auth: {auth}, \
             token_policy: {{ mode: {mode}, scopes: [read] }} }}"
        ));
    }
    let edge = setup.start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    for path in ["/shared/x", "/open/x", "/exchanged/x"] {
        let answer = browser.get(edge.url(path)).await;
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(problem(answer).await["code"], "no_token_available", "{path}");
    }
    assert_eq!(upstream.heads(), 0, "nobody was called");
    assert_eq!(edge.grants("client_credentials").await, 0, "and nobody asked");
    let none = "bff_token_lookups_total{result=\"none\",service=\"any_service\"}";
    assert_eq!(edge.metric(none).await, 3);
    assert!(edge.log.has(&["NO_TOKEN_AVAILABLE", "any_service", "service_audiences.any_service"]));
}

/// Else every user's token could do what the application's alone is to do.
#[tokio::test]
async fn a_login_asks_for_no_scope_of_a_service_token() {
    let upstream = Upstream::start().await;
    let with = |id: &str, mode: &str, scope: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: session, \
             token_policy: {{ mode: {mode}, scopes: [{scope}] }} }}"
        )
    };
    let edge = Setup::new()
        .service("own", &upstream.url(), Some(AUDIENCES[1]))
        .route(&with("shared", "service_token", "write"))
        .route(&with("exchanged", "on_behalf_of", "read"))
        .start()
        .await;
    let started = http_client().get(edge.url("/auth/login")).send().await.unwrap();
    let url = Url::parse(&location(&started).unwrap()).unwrap();
    let scope = url.query_pairs().find(|(key, _)| key == "scope").unwrap().1.into_owned();
    let words: Vec<&str> = scope.split(' ').collect();
    assert!(words.contains(&"read") && !words.contains(&"write"), "{scope}");
}

/// Two routes to one service that differ in their audience keep a token each, and neither drives the other's out.
#[tokio::test]
async fn a_route_may_name_the_audience_of_the_sessions_own_token() {
    let upstream = Upstream::start().await;
    let route = |id: &str, policy: &str| {
        format!(
            "{{ id: {id}, path: \"/{id}/*\", target_service: own_service, preserve_path: true, auth: session, \
             token_policy: {{ {policy} }} }}"
        )
    };
    let edge = Setup::new()
        .service("own", &upstream.url(), Some(AUDIENCES[0]))
        .route(&route("other", &format!("audience: \"{}\"", AUDIENCES[1])))
        .route(&route("less", "scopes: [read]"))
        .start()
        .await;
    let browser = Browser::logged_in(&edge, "ada").await;
    let token_at = async |path: &str| {
        assert_eq!(browser.get(edge.url(path)).await.status(), 200, "{path}");
        upstream.last().bearer()
    };
    let first = [token_at("/api/own/x").await, token_at("/other/x").await, token_at("/less/x").await];
    assert!(has_audience(&claims(&first[0]), AUDIENCES[0]) && has_audience(&claims(&first[1]), AUDIENCES[1]));
    assert!(has_audience(&claims(&first[2]), AUDIENCES[0]) && claims(&first[2])["scope"] == "read");
    let again = [token_at("/api/own/x").await, token_at("/other/x").await, token_at("/less/x").await];
    assert_eq!(first, again, "each is kept");
}
