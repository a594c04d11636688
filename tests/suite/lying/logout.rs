//! Lies about a logout: whatever is wrong with the token, nobody is logged out by it.

use serde_json::{Value, json};

use super::edge_at;
use crate::harness::liar::{Canned, Liar, hmac, logged_in, now, part, sign};
use crate::harness::{Edge, Redis, SECRET, Setup, http_client, location};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn claims(liar: &Liar, edge: &Edge, name: &str, value: Value) -> Value {
    let mut claims = json!({
        "iss": liar.base, "aud": edge.client_id, "sub": "ada", "sid": "s1", "iat": now(), "exp": now() + 120,
        "jti": "j1", "events": { EVENT: {} },
    });
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

async fn post(edge: &Edge, token: &str) -> u16 {
    let request = http_client().post(edge.url("/auth/backchannel-logout")).form(&[("logout_token", token)]);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_logout_token_that_lies_logs_nobody_out() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let browser = logged_in(&edge, &liar, &json!({})).await;
    let good = claims(&liar, &edge, "none", Value::Null);
    let with = |name, value| liar.sign(&claims(&liar, &edge, name, value));
    let mut nobody = claims(&liar, &edge, "sid", Value::Null);
    nobody.as_object_mut().unwrap().remove("sub");
    let mut id_token = claims(&liar, &edge, "events", Value::Null);
    id_token["nonce"] = json!("n");
    let stranger = rcgen::KeyPair::generate().unwrap();
    let hs = json!({ "alg": "HS256", "kid": "k1" });
    let lies = [
        (format!("{}.{}.", part(&json!({ "alg": "none" })), part(&good)), "signed with none"),
        (hmac(SECRET.as_bytes(), &hs, &good), "signed with HS256"),
        (hmac(liar.jwk().to_string().as_bytes(), &hs, &good), "signed with HS256"),
        (sign(&stranger, &json!({ "alg": "ES256", "kid": "k1" }), &good), "signature of the logout token is wrong"),
        (sign(&stranger, &json!({ "alg": "ES256", "kid": "k9" }), &good), "does not publish"),
        (with("iss", json!("https://evil.example")), "of another issuer"),
        (with("aud", json!("somebody-else")), "for somebody else"),
        (with("events", Value::Null), "no usable claim events"),
        (with("events", json!({ "https://other.example": {} })), "no usable claim events"),
        (with("nonce", json!("n")), "has a nonce"),
        (with("exp", json!(1_700_000_000)), "has expired"),
        (with("iat", json!(4_000_000_000_u64)), "from the future"),
        (with("jti", Value::Null), "no usable claim jti"),
        (with("sid", json!(7)), "no usable claim sid"),
        (liar.sign(&nobody), "neither a session nor a person"),
        (liar.sign(&id_token), "no usable claim events"),
        (liar.sign_as(&json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }), &good), "another kind"),
        ("garbage".to_owned(), "cannot be read"),
    ];
    for (token, said) in &lies {
        assert_eq!(post(&edge, token).await, 400, "{said}");
        eventually!("the log says why", edge.log.has(&["a back-channel logout was refused", said]));
    }
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200, "none of those ended anything");

    let mut unknown = claims(&liar, &edge, "sid", json!("somebody's"));
    unknown["jti"] = json!("j0");
    assert_eq!(post(&edge, &liar.sign(&unknown)).await, 200, "a login that is not here is over");
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 200);
    let token = liar.sign(&good);
    assert_eq!(post(&edge, &token).await, 200);
    assert_eq!(browser.get(edge.url("/auth/session")).await.status(), 401);
    assert_eq!(post(&edge, &token).await, 400, "the same jti again");
    assert!(!edge.log.text().contains(&token));
}

/// A provider may call each login by the same name.
#[tokio::test]
async fn a_login_after_a_logout_of_the_same_sid_is_a_new_one() {
    let liar = Liar::start().await;
    let (edge, _upstream) = edge_at(&liar).await;
    let before = logged_in(&edge, &liar, &json!({})).await;
    assert_eq!(post(&edge, &liar.sign(&claims(&liar, &edge, "none", Value::Null))).await, 200);
    let after = logged_in(&edge, &liar, &json!({})).await;
    for (browser, status) in [(before, 401), (after, 200)] {
        assert_eq!(browser.get(edge.url("/auth/session")).await.status(), status);
    }
}

/// The provider was away when a replica began, and nobody has needed it there since it came back.
#[tokio::test]
async fn a_logout_goes_to_a_provider_that_its_replica_does_not_know_yet() {
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    let (redis, liar) = (Redis::start(""), Liar::start().await);
    let mut document = liar.document();
    document["end_session_endpoint"] = json!(format!("{}/end", liar.base));
    liar.answer(DISCOVERY, Canned::json(&document));
    let setup = Setup::new().store(&redis.url()).provider_at(&liar.base);
    let edge = setup.clone().start().await;
    let ada = logged_in(&edge, &liar, &json!({})).await;
    liar.answer(DISCOVERY, Canned::Whole(503, "text/html", String::new()));
    let other = setup.start_beside(&edge).await;
    eventually!("it has asked in vain", other.log.has(&["the identity provider does not answer"]));
    liar.answer(DISCOVERY, Canned::json(&document));
    // For two seconds nobody asks again.
    tokio::time::sleep(std::time::Duration::from_millis(3_100)).await;
    let answer = ada.post(other.url("/auth/logout")).await;
    let target = location(&answer).unwrap();
    assert!(target.starts_with(&format!("{}/end?id_token_hint=", liar.base)), "{target}");
}
