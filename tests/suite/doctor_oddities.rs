//! `pingora-bff doctor` against what providers answer in ways of their own: what it must not call well, and what it must
//! not blame the configuration for.

use serde_json::{Value, json};

use crate::doctor::{assert_only, lines};
use crate::harness::liar::{Canned, Liar};
use crate::harness::{DOCTORED, Setup, Upstream, doctor};

/// For whom the service's tokens are.
const OWN: &str = "https://own.example.test";

fn refusal(status: u16, code: &str) -> Canned {
    Canned::Whole(status, "application/json", json!({ "error": code }).to_string())
}

/// One that sends browsers back, looks refresh tokens up before the credentials, and has this in its description, too.
async fn provider(more: &[(&str, Value)]) -> Liar {
    let liar = Liar::start().await;
    let mut document = liar.document();
    document["revocation_endpoint"] = json!(format!("{}/revoke", liar.base));
    for (name, value) in more {
        document[*name] = value.clone();
    }
    liar.answer("/.well-known/openid-configuration", Canned::json(&document));
    let back = format!("http://localhost:{DOCTORED}/auth/callback?error=login_required");
    liar.answer("/auth", Canned::Redirect(back));
    liar.answer("/token refresh_token", refusal(400, "invalid_grant"));
    liar.answer("/token client_credentials", refusal(400, "unauthorized_client"));
    liar.answer("/revoke", Canned::json(&json!({})));
    liar
}

/// What the doctor says of a client with this in its entry, beside a service with an audience.
async fn page_of(liar: &Liar, entry: &[&str]) -> (Option<i32>, String) {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(OWN)).client_auth(entry, &json!({}));
    doctor(setup.provider_at(&liar.base), &liar.base, "bff").await
}

const SECRET: &[&str] = &["client_secret: the-secret"];

#[tokio::test]
async fn a_secret_that_one_question_shows_to_be_wrong_is_never_well() {
    let doubt = ["client authentication as bff: invalid_client, says", "either the secret is wrong"];
    for (revoked, own, words) in [
        (401, "invalid_client", ["client authentication as bff: invalid_client →", "idps[main].client_secret"]),
        (404, "invalid_client", [doubt[0], "the token endpoint of client_credentials"]),
        (404, "invalid_client", doubt),
        (401, "unauthorized_client", [doubt[0], "the revocation endpoint"]),
        (401, "invalid_scope", doubt),
        (401, "", ["the revocation endpoint says invalid_client: a logout revokes nothing", "token_auth_method"]),
    ] {
        let liar = provider(&[]).await;
        let answer =
            if revoked == 401 { refusal(401, "invalid_client") } else { Canned::Whole(revoked, "", String::new()) };
        liar.answer("/revoke", answer);
        let own_token = json!({ "access_token": liar.sign(&json!({ "aud": OWN })), "token_type": "Bearer" });
        let own_answer = if own.is_empty() { Canned::json(&own_token) } else { refusal(400, own) };
        liar.answer("/token client_credentials", own_answer);
        let (code, page) = page_of(&liar, SECRET).await;
        assert_only(&page, code, &words);
        assert!(liar.asked("/revoke")[0].contains("token=") && !page.contains("the-secret"), "{page}");
    }
    let (code, page) = page_of(&provider(&[]).await, SECRET).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    assert!(lines(&page, "✓").iter().any(|line| line.contains("the provider believes it")), "{page}");
    // Who looks at credentials as RFC 7009 has it has believed them; but that is not proven.
    let liar = provider(&[]).await;
    liar.answer("/token client_credentials", refusal(401, "invalid_client"));
    let (code, page) = page_of(&liar, SECRET).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    let told = "client_credentials is answered with invalid_client: is the secret good, only a login can show";
    assert!(lines(&page, "-").iter().any(|line| line.contains(told)), "{page}");
    // A public client has nothing to be believed.
    let (code, page) = page_of(&liar, &["token_auth_method: none"]).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
}

#[tokio::test]
async fn a_refusal_that_speaks_no_oauth_tells_nothing_of_the_secret() {
    let liar = provider(&[]).await;
    liar.answer("/revoke", Canned::Whole(400, "text/html", String::new()));
    liar.answer("/token refresh_token", Canned::Whole(400, "text/html", String::new()));
    let (code, page) = page_of(&liar, SECRET).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    let told = "status 400, which does not tell whether the secret is good";
    assert!(lines(&page, "-").iter().any(|line| line.contains(told)), "{page}");
    // Nobody is there at all.
    liar.answer("/token refresh_token", Canned::Whole(404, "text/html", String::new()));
    let (code, page) = page_of(&liar, SECRET).await;
    assert_only(&page, code, &["status 404", "idps[main].token_url"]);
}

#[tokio::test]
async fn a_revocation_endpoint_is_asked_in_a_way_that_it_takes() {
    let listed = |method: &str| ("revocation_endpoint_auth_methods_supported", json!([method]));
    let liar = provider(&[listed("client_secret_post")]).await;
    let (code, page) = page_of(&liar, SECRET).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    assert!(liar.asked("/revoke")[0].contains("client_secret=the-secret"), "as listed, not as at the token endpoint");
    let liar = provider(&[listed("tls_client_auth")]).await;
    let (code, page) = page_of(&liar, SECRET).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    let told = "revocation at a logout: the provider takes tls_client_auth there";
    assert!(lines(&page, "-").iter().any(|line| line.contains(told)), "{page}");
    assert!(liar.asked("/revoke").is_empty(), "what it refuses would tell nothing");
}

/// Asked with `prompt=none`, one provider shows its form and another fails, and logins work all the same.
#[tokio::test]
async fn a_page_in_the_place_of_a_redirect_is_no_proof_against_the_way_back() {
    let liar = provider(&[]).await;
    let answer = |status| liar.answer("/auth", Canned::Whole(status, "text/html", "<form>".to_owned()));
    for (status, told) in [
        (200, "/auth/callback is not registered there, or logins begin with that page"),
        (500, "status 500: only a login shows it"),
    ] {
        answer(status);
        let (code, page) = page_of(&liar, SECRET).await;
        assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
        let untold = lines(&page, "-");
        assert!(untold.iter().any(|line| line.contains("way back from a login") && line.contains(told)), "{page}");
    }
    answer(400);
    let (code, page) = page_of(&liar, SECRET).await;
    assert_only(&page, code, &["it must be registered there", "server.public_url"]);
}

#[tokio::test]
async fn an_issuer_that_is_down_need_not_be_changed() {
    let liar = provider(&[]).await;
    let answer = |status| {
        liar.answer("/.well-known/openid-configuration", Canned::Whole(status, "text/html", String::new()));
    };
    answer(500);
    let (code, page) = page_of(&liar, SECRET).await;
    assert_only(
        &page,
        code,
        &["status 500 → is it running, and reachable from here? If it is, change", "idps[main].issuer"],
    );
    answer(404);
    let (code, page) = page_of(&liar, SECRET).await;
    assert_only(&page, code, &["status 404 → change conf/idps.yaml: idps[main].issuer"]);
}

/// canaille gives opaque tokens to clients and JWTs to their users.
#[tokio::test]
async fn an_opaque_token_of_our_own_says_nothing_of_those_for_users() {
    let liar = provider(&[]).await;
    let token = |access_token: &str| {
        let tokens = json!({ "access_token": access_token, "token_type": "Bearer" });
        liar.answer("/token client_credentials", Canned::json(&tokens));
    };
    let without = liar.sign(&json!({ "sub": "bff" }));
    for opaque in ["opaque", without.as_str()] {
        token(opaque);
        let (code, page) = page_of(&liar, SECRET).await;
        assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
        let told = "has no readable aud (it is opaque, or a JWT without one); only a login shows";
        assert!(lines(&page, "-").iter().any(|line| line.contains(OWN) && line.contains(told)), "{page}");
    }
    let upstream = Upstream::start().await;
    let policy = format!("token_policy: {{ mode: service_token, audience: \"{OWN}\" }}");
    let route = format!("{{ id: st, path: /st, target_service: own_service, auth: session, {policy} }}");
    let setup = Setup::new().service_alone("own", &upstream.url(), None, "timeout: 5").route(&route);
    let setup = setup.client_auth(SECRET, &json!({})).provider_at(&liar.base);
    let (code, page) = doctor(setup, &liar.base, "bff").await;
    assert_only(&page, code, &["has no readable aud", "must be a JWT with it", "routes[st].token_policy.audience"]);
    token(&liar.sign(&json!({ "aud": "another" })));
    let (code, page) = page_of(&liar, SECRET).await;
    assert_only(&page, code, &["has aud another", "service_audiences.own_service"]);
}

#[tokio::test]
async fn a_secret_that_goes_out_encoded_may_be_refused_for_that() {
    for (secret, method, code, told) in [
        ("a+b/c=", "client_secret_basic", "invalid_client", true),
        ("a+b/c=", "client_secret_basic", "unauthorized_client", true),
        ("a+b/c=", "client_secret_post", "invalid_client", false),
        ("6162-63_64.65", "client_secret_basic", "invalid_client", false),
    ] {
        let liar = provider(&[]).await;
        liar.answer("/token refresh_token", refusal(401, code));
        let (secret, method) = (format!("client_secret: \"{secret}\""), format!("token_auth_method: {method}"));
        let (status, page) = page_of(&liar, &[&secret, &method]).await;
        assert_only(&page, status, &[code, "idps[main].client_secret"]);
        assert_eq!(page.contains("form-encoded (RFC 6749 §2.3.1)"), told, "{page}");
    }
}
