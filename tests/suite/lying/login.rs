//! Lies during a login.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::edge_at;
use crate::harness::liar::{Begun, Canned, Liar, begin, hmac, jwk, part, sign, tokens};
use crate::harness::{SECRET, Setup, http_client, location};

/// What it is, what the log says, and the ID token that is handed out.
type Lie<'a> = (&'a str, &'a str, Box<dyn Fn(&Begun) -> Value + 'a>);

/// An ID token of which one claim is another.
fn claim<'a>(liar: &'a Liar, name: &'a str, value: Value, said: &'a str) -> Lie<'a> {
    (name, said, Box::new(move |begun| json!(liar.sign(&begun.claims(name, value.clone())))))
}

/// An ID token in good order under another header.
fn header<'a>(liar: &'a Liar, what: &'a str, header: Value, said: &'a str) -> Lie<'a> {
    (what, said, Box::new(move |begun| json!(liar.sign_as(&header, &begun.claims))))
}

fn wrong_claims(liar: &Liar) -> Vec<Lie<'_>> {
    let (foreign, nobodys) = ("of another issuer", "for somebody else");
    vec![
        claim(liar, "iss", json!("https://evil.example"), foreign),
        claim(liar, "iss", json!(format!("{}/", liar.base)), foreign),
        claim(liar, "iss", Value::Null, "no usable claim iss"),
        claim(liar, "iss", json!([liar.base]), "no usable claim iss"),
        claim(liar, "aud", json!("somebody-else"), nobodys),
        claim(liar, "aud", json!([]), nobodys),
        claim(liar, "aud", Value::Null, "no usable claim aud"),
        claim(liar, "aud", json!({ "edge": true }), "no usable claim aud"),
        claim(liar, "azp", json!("somebody-else"), "(azp)"),
        claim(liar, "sub", Value::Null, "no usable claim sub"),
        claim(liar, "sub", json!(""), "no usable claim sub"),
        claim(liar, "sub", json!("ada\r\nX-Original-User: root"), "no usable claim sub"),
        claim(liar, "iat", Value::Null, "no usable claim iat"),
        claim(liar, "iat", json!(4_000_000_000_u64), "from the future"),
        claim(liar, "nbf", json!(4_000_000_000_u64), "from the future"),
        claim(liar, "nbf", json!("4000000000"), "no usable claim nbf"),
        claim(liar, "nbf", json!(true), "no usable claim nbf"),
        claim(liar, "exp", Value::Null, "no usable claim exp"),
        claim(liar, "exp", json!("4000000000"), "no usable claim exp"),
        claim(liar, "exp", json!(1_700_000_000), "has expired"),
        claim(liar, "nonce", json!("other"), "the nonce"),
        claim(liar, "nonce", Value::Null, "no usable claim nonce"),
        claim(liar, "at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), "at_hash does not fit"),
        (
            "an unknown audience beside ours",
            "is for somebody-else, too, which nobody here trusts",
            Box::new(|begun| {
                let both = json!([begun.claims["aud"], "somebody-else"]);
                json!(liar.sign(&begun.claims("aud", both)))
            }),
        ),
    ]
}

fn wrong_signatures<'a>(liar: &'a Liar, stranger: &'a rcgen::KeyPair) -> Vec<Lie<'a>> {
    let hs = json!({ "alg": "HS256", "kid": "k1" });
    let public = liar.jwk().to_string();
    let secret_hs = hs.clone();
    let unsigned =
        |alg: &str, begun: &Begun| json!(format!("{}.{}.", part(&json!({ "alg": alg })), part(&begun.claims)));
    let swap = |begun: &Begun| {
        let (real, other) = (liar.sign(&begun.claims), liar.sign(&begun.claims("sub", json!("eve"))));
        let (message, signature) = (other.rsplit_once('.').unwrap().0, real.rsplit_once('.').unwrap().1);
        json!(format!("{message}.{signature}"))
    };
    let twice = |begun: &Begun| {
        let claims = begun.claims.to_string().replacen('{', r#"{"sub":"eve","#, 1);
        json!(format!("{}.{}.AAAA", part(&json!({ "alg": "ES256" })), URL_SAFE_NO_PAD.encode(claims)))
    };
    let by = |kid: Value, begun: &Begun| json!(sign(stranger, &json!({ "alg": "ES256", "kid": kid }), &begun.claims));
    let embedded = json!({ "alg": "ES256", "jwk": jwk(stranger, "k1"), "jku": format!("{}/jku", liar.base) });
    let unreadable = "cannot be read";
    vec![
        ("no id_token", "there is no id_token", Box::new(|_begun| Value::Null)),
        ("an empty id_token", "there is no id_token", Box::new(|_begun| json!(""))),
        ("no JWT", unreadable, Box::new(|_begun| json!("not-a-token"))),
        ("a name twice", unreadable, Box::new(twice)),
        ("encrypted", unreadable, Box::new(|_begun| json!("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AA.AA.AA"))),
        ("alg none", "signed with none", Box::new(move |begun| unsigned("none", begun))),
        ("alg nOnE", "signed with nOnE", Box::new(move |begun| unsigned("nOnE", begun))),
        (
            "client secret",
            "signed with HS256",
            Box::new(move |begun| json!(hmac(SECRET.as_bytes(), &secret_hs, &begun.claims))),
        ),
        ("public key", "signed with HS256", Box::new(move |begun| json!(hmac(public.as_bytes(), &hs, &begun.claims)))),
        ("another signature", "the signature of the id_token is wrong", Box::new(swap)),
        (
            "another key of that name",
            "signature of the id_token is wrong",
            Box::new(move |begun| by(json!("k1"), begun)),
        ),
        ("an unknown key", "does not publish", Box::new(move |begun| by(json!("k9"), begun))),
        (
            "a key that came along",
            "does not publish",
            Box::new(move |begun| json!(sign(stranger, &embedded, &begun.claims))),
        ),
        header(liar, "ES512", json!({ "alg": "ES512", "kid": "k1" }), "signed with ES512"),
        header(liar, "RS256", json!({ "alg": "RS256", "kid": "k1" }), "does not publish"),
        header(liar, "crit", json!({ "alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false }), "(crit)"),
        header(liar, "logout token", json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" }), "another kind"),
        header(liar, "access token", json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }), "another kind"),
    ]
}

#[tokio::test]
async fn an_id_token_that_lies_ends_in_a_page_and_no_session() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let stranger = rcgen::KeyPair::generate().unwrap();
    let lies = wrong_claims(&liar).into_iter().chain(wrong_signatures(&liar, &stranger));
    let mut told = 0;
    for (what, said, lie) in lies {
        let begun = begin(&edge, &liar).await;
        let id_token = lie(&begun);
        liar.hand_out(&id_token);
        let before = edge.log.entries(&["a login was rejected", said]).len();
        begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 400, what).await;
        eventually!("the log says why", edge.log.entries(&["a login was rejected", said]).len() > before);
        let token = id_token.as_str().filter(|token| token.len() > 20);
        assert!(token.is_none_or(|token| !edge.log.text().contains(token)), "{what}: no token in the log");
        told += 1;
    }
    assert_eq!((told, liar.asked("/token").len()), (42, 42), "each code was sent once");
    assert_eq!(edge.metric("bff_sessions_created_total").await, 0);
    for never in ["/jku", "/userinfo"] {
        assert!(liar.asked(never).is_empty(), "{never}");
    }
}

/// Some providers write one list of audiences into access tokens and ID tokens, others every client of a project.
#[tokio::test]
async fn audiences_that_the_configuration_knows_may_stand_beside_ours() {
    let liar = Liar::start().await;
    let [own, service, route] = ["own", "service", "route"].map(|name| format!("https://{name}.example.test"));
    let more = format!(
        "{{ id: more, path: /more, target_service: api_service, auth: session, token_policy: {{ audience: \"{route}\" }} }}"
    );
    let setup = Setup::new()
        .service("api", "http://127.0.0.1:9", Some(&service))
        .route(&more)
        .client_auth(&["client_secret: x", "trusted_audiences: [project-7]"], &json!({}));
    let edge = setup.provider_at(&liar.base).own_audience(&own).start().await;
    let begun = begin(&edge, &liar).await;
    let all = json!([begun.claims["aud"], own, service, route, "project-7"]);
    liar.hand_out(&json!(liar.sign(&begun.claims("aud", all))));
    let answer = begun.browser.get(begun.back(&edge, &liar.base, "code=c")).await;
    assert_eq!(location(&answer).as_deref(), Some("/here"), "{}", edge.log.text());
    let begun = begin(&edge, &liar).await;
    let stranger = json!([begun.claims["aud"], service, "project-8"]);
    liar.hand_out(&json!(liar.sign(&begun.claims("aud", stranger))));
    begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 400, "project-8").await;
    eventually!("the log names whom and the key", edge.log.has(&["is for project-8, too", "`trusted_audiences`"]));
}

/// What it is, and what is laid over the token response.
type Oddity = (&'static str, fn(&Liar, &Begun) -> Value);

#[tokio::test]
async fn what_is_odd_but_allowed_is_a_login() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let odd: [Oddity; 6] = [
        (
            "a list of one audience",
            |liar, begun| json!({ "id_token": liar.sign(&begun.claims("aud", json!([begun.claims["aud"]]))) }),
        ),
        ("no kid", |liar, begun| json!({ "id_token": liar.sign_as(&json!({ "alg": "ES256" }), &begun.claims) })),
        (
            "a fraction of a second",
            |liar, begun| json!({ "id_token": liar.sign(&begun.claims("exp", json!(4_000_000_000.5))) }),
        ),
        ("bEARER", |liar, begun| json!({ "id_token": liar.sign(&begun.claims), "token_type": "bEARER" })),
        ("no expires_in", |liar, begun| json!({ "id_token": liar.sign(&begun.claims), "expires_in": null })),
        ("expires_in as a text", |liar, begun| json!({ "id_token": liar.sign(&begun.claims), "expires_in": "300" })),
    ];
    // Keys that nobody can use, among them the good one.
    let broken = [
        json!(7),
        json!({ "kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "half", "x": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-521", "kid": "other-curve", "x": "AA", "y": "AA" }),
        json!({ "kty": "oct", "kid": "k1", "k": "c2VjcmV0" }),
    ];
    liar.publish(&broken);
    for (what, answer) in odd {
        let begun = begin(&edge, &liar).await;
        liar.answer("/token", Canned::json(&tokens(&answer(&liar, &begun))));
        let answer = begun.browser.get(begun.back(&edge, &liar.base, "code=c")).await;
        assert_eq!(location(&answer).as_deref(), Some("/here"), "{what}");
        assert_eq!(begun.browser.get(edge.url("/auth/session")).await.status(), 200, "{what}");
    }
    assert_eq!(liar.asked("/jwks").len(), 1);
}

#[tokio::test]
async fn a_token_endpoint_out_of_order_ends_in_a_page_and_no_session() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let json = |status, body: &str| Canned::Whole(status, "application/json", body.to_owned());
    for (what, canned) in [
        ("500", json(500, r#"{"error":"invalid_grant"}"#)),
        ("503", Canned::Whole(503, "text/html", "down".to_owned())),
        ("429", json(429, r#"{"error":"slow_down"}"#)),
        ("HTML", Canned::Whole(200, "text/html", "<h1>Maintenance</h1>".to_owned())),
        ("nothing", json(200, "")),
        ("no access_token", json(200, r#"{"token_type":"Bearer","id_token":"x"}"#)),
        ("a number for an access_token", json(200, r#"{"access_token":7,"token_type":"Bearer"}"#)),
        ("token_type mac", json(200, r#"{"access_token":"at","token_type":"mac","id_token":"x"}"#)),
        ("a header in the token", json(200, r#"{"access_token":"a\r\nX-Evil: 1","token_type":"Bearer"}"#)),
        ("50 MB", Canned::Huge(50 << 20)),
        ("elsewhere", Canned::Redirect(format!("{}/elsewhere", liar.base))),
        ("reset", Canned::Reset),
    ] {
        let begun = begin(&edge, &liar).await;
        liar.answer("/token", canned);
        let page = begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 502, what).await;
        assert!(!page.contains("Maintenance"), "{page}");
    }
    assert!(liar.asked("/elsewhere").is_empty(), "a code is sent to one place only");
    assert_eq!(liar.asked("/token").len(), 12, "and once");
    eventually!("the log says why", edge.log.has(&["the identity provider cannot be used", "token endpoint"]));
    assert_eq!(edge.metric("bff_sessions_created_total").await, 0);
}

#[tokio::test]
async fn a_token_endpoint_that_never_answers_is_given_up() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let begun = begin(&edge, &liar).await;
    liar.answer("/token", Canned::Hang);
    let callback = begun.back(&edge, &liar.base, "code=c");
    let answer = tokio::time::timeout(Duration::from_secs(15), begun.browser.get(callback)).await;
    assert_eq!(answer.expect("ten seconds and a little").status(), 502);
}

#[tokio::test]
async fn a_spent_code_is_refused_once() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let begun = begin(&edge, &liar).await;
    let spent = r#"{"error":"invalid_grant","error_description":"<b>spent</b>\r\nlevel=INFO"}"#;
    liar.answer("/token", Canned::Whole(400, "application/json", spent.to_owned()));
    let page = begun.assert_page(&edge, &begun.back(&edge, &liar.base, "code=c"), 400, "a spent code").await;
    assert!(!page.contains("<b>"), "{page}");
    eventually!("the log says why", edge.log.has(&["a login was rejected", "invalid_grant"]));
}

#[tokio::test]
async fn a_refusal_that_repeats_our_secret_is_told_without_it() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let begun = begin(&edge, &liar).await;
    // The code, too, is part of these words, and of the secret.
    let words = format!("client_secret '{SECRET}' does not match");
    let told = json!({ "error": "invalid_client", "error_description": words });
    liar.answer("/token", Canned::Whole(401, "application/json", told.to_string()));
    let page = begun.browser.get(begun.back(&edge, &liar.base, "code=c")).await.text().await.unwrap();
    eventually!("the log says why", edge.log.has(&["a login was rejected", "invalid_client"]));
    for part in [SECRET, &SECRET[SECRET.len() / 2..]] {
        assert!(!page.contains(part) && !edge.log.has(&[part]), "{page}\n{}", edge.log.text());
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_providers_sends_no_code_anywhere() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let ours = liar.base.as_str();
    let script = "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E";
    for (what, iss, more, status, said) in [
        ("another iss", "https://evil.example", "code=c", 400, "of another issuer"),
        ("an empty iss", "", "code=c", 400, "does not name its issuer"),
        ("no code", ours, "", 400, "carries no code"),
        ("an empty code", ours, "code=", 400, "carries no code"),
        ("an error", ours, script, 403, "the provider refused a login"),
        ("an error beside a code", ours, "error=server_error&code=c", 502, "the identity provider is in trouble"),
    ] {
        let begun = begin(&edge, &liar).await;
        let page = begun.assert_page(&edge, &begun.back(&edge, iss, more), status, what).await;
        assert!(!page.contains("<script>"), "{what}: escaped\n{page}");
        eventually!("the log says why", edge.log.has(&[said]));
    }
    let begun = begin(&edge, &liar).await;
    let good = begun.back(&edge, ours, "code=c");
    let twice = |name: &str| begun.back(&edge, ours, &format!("code=c&{name}=d"));
    let no_iss = good.replace(&format!("&iss={ours}"), "");
    let no_state = good.replacen("state=", "stale=", 1);
    let mut bad = vec![no_state, twice("code"), twice("state"), twice("iss"), no_iss];
    bad.push(format!("{good}&{}", "x".repeat(20_000)));
    for callback in bad {
        let answer = begun.browser.get(&callback).await;
        assert!(answer.status().is_client_error(), "{callback:.200}: {}", answer.status());
    }
    assert_eq!(http_client().get(edge.url("/auth/callback")).send().await.unwrap().status(), 400);
    assert!(liar.asked("/token").is_empty());
    assert_eq!(edge.metric("bff_sessions_created_total").await, 0);
}

/// Anybody can send us the error that makes us ask; but who cannot log in does not wait long for the next question.
#[tokio::test]
async fn which_audiences_are_refused_is_asked_again_after_a_moment() {
    let liar = Liar::start().await;
    let audience = |name: &str| format!("https://{name}.example");
    let setup = ["a", "b"]
        .into_iter()
        .fold(Setup::new(), |setup, name| setup.service(name, "http://127.0.0.1:9", Some(&audience(name))));
    let edge = setup.provider_at(&liar.base).start().await;
    let refused = async || {
        let begun = begin(&edge, &liar).await;
        let answer = begun.browser.get(begun.back(&edge, &liar.base, "error=invalid_target")).await;
        answer.status().as_u16()
    };
    assert_eq!(refused().await, 403, "it refuses none by itself");
    assert_eq!(liar.asked("/auth").len(), 2, "each was asked about");
    liar.answer("/auth", Canned::Redirect(edge.url("/auth/callback?error=invalid_target")));
    eventually!("the login is begun again without them", refused().await == 302, within 8);
    assert_eq!(liar.asked("/auth").len(), 4, "and not for each login");
}

/// One that hangs would keep whoever logs in waiting for as many times its patience, and all others behind them.
#[tokio::test]
async fn which_audiences_are_refused_is_asked_of_all_at_once() {
    let liar = Liar::start().await;
    let setup = ["a", "b"].into_iter().fold(Setup::new(), |setup, name| {
        setup.service(name, "http://127.0.0.1:9", Some(&format!("https://{name}.example")))
    });
    let edge = setup.provider_at(&liar.base).start().await;
    liar.answer("/auth", Canned::RedirectTogether(2, edge.url("/auth/callback?error=invalid_target")));
    let begun = begin(&edge, &liar).await;
    let answer = begun.browser.get(begun.back(&edge, &liar.base, "error=invalid_target")).await;
    assert_eq!(answer.status(), 302, "the login is begun again without them");
}

#[tokio::test]
async fn a_provider_that_describes_somebody_else_gets_no_login() {
    for break_it in [
        (|liar, document| document["issuer"] = json!(format!("{}/", liar.base))) as fn(&Liar, &mut Value),
        |_liar, document| document["authorization_endpoint"] = json!("http://evil.example/auth"),
        |_liar, document| document["token_endpoint"] = json!("http://evil.example/token"),
        |_liar, document| document["jwks_uri"] = json!("file:///etc/passwd"),
    ] {
        let liar = Liar::start().await;
        let mut document = liar.document();
        break_it(&liar, &mut document);
        liar.answer("/.well-known/openid-configuration", Canned::json(&document));
        let (edge, _upstream) = edge_at(&liar).await;
        let answer = http_client().get(edge.url("/auth/login")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), location(&answer)), (502, None));
        assert!(answer.headers().contains_key("retry-after"));
    }
}
