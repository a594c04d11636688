//! Tokens that callers bring, and whose token goes to whom.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};

use super::{API, ask, status, world};
use crate::harness::http_client;
use crate::harness::liar::{hmac, jwk, now, part, sign};

/// A caller's access token in good order.
fn claims() -> Value {
    json!({ "iss": world().liar.base, "aud": API, "sub": "robot", "iat": now(), "exp": now() + 300 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// The answer to a call with this token, if it can be written into a header at all.
async fn call(token: &str) -> (u16, String) {
    let answer = ask("GET /robots/x", &format!("Authorization: Bearer {token}\r\n")).await;
    (answer.status, answer.text)
}

async fn assert_refused(what: &str, token: &str) {
    let (status, text) = call(token).await;
    assert_eq!(status, 401, "{what}: {text}");
    assert!(text.contains("invalid_token") && !text.contains("robot\""), "{what}: {text}");
}

#[tokio::test]
async fn a_good_token_is_taken() {
    // Without this the refusals below would prove nothing.
    assert_eq!(call(&world().liar.sign(&claims())).await.0, 200);
}

#[tokio::test]
async fn cve_2022_29226_any_access_token_will_do() {
    for lines in ["Authorization: Bearer x\r\n", "Authorization: Bearer a.b.c\r\n", "X-Access-Token: x\r\n"] {
        assert_eq!(status("GET /pass/q29226", lines).await, 401, "{lines}");
    }
    let good = world().liar.sign(&claims());
    assert_eq!(status("GET /pass/q29226", &format!("Authorization: Bearer {good}\r\n")).await, 401, "no session");
    for query in ["token", "access_token", "id_token"] {
        assert_eq!(status(&format!("GET /pass/q29226?{query}={good}"), "").await, 401, "{query}");
        assert_eq!(status(&format!("GET /robots/q29226?{query}={good}"), "").await, 401, "{query}");
    }
    assert!(!world().arrived("q29226"));
}

#[tokio::test]
async fn cve_2024_47077_a_token_for_another_service() {
    for audience in [json!("https://other.example"), json!([]), json!(format!("{API}/")), json!(world().edge.client_id)]
    {
        assert_refused("another audience", &world().liar.sign(&with("aud", audience))).await;
    }
}

#[tokio::test]
async fn cve_2025_46647_the_issuer_is_not_compared() {
    for issuer in [json!("https://evil.example"), json!(format!("{}/", world().liar.base)), json!(""), Value::Null] {
        assert_refused("another issuer", &world().liar.sign(&with("iss", issuer))).await;
    }
}

#[tokio::test]
async fn cve_2025_30144_an_issuer_among_others() {
    let both = json!(["https://evil.example", world().liar.base]);
    assert_refused("a list of issuers", &world().liar.sign(&with("iss", both))).await;
}

#[tokio::test]
async fn cve_2026_39999_algorithm_confusion() {
    let header = json!({ "alg": "HS256", "kid": "k1" });
    let public = world().liar.jwk();
    let x = public["x"].as_str().unwrap().to_owned();
    for key in
        [public.to_string(), x.clone(), format!("{x}{}", public["y"].as_str().unwrap()), String::new(), "k1".into()]
    {
        assert_refused("HS256 of what everybody knows", &hmac(key.as_bytes(), &header, &claims())).await;
    }
}

#[tokio::test]
async fn cve_2016_10555_a_public_key_in_pem_as_a_secret() {
    let jwk = world().liar.jwk();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    // SubjectPublicKeyInfo of P-256: a fixed beginning, then the point.
    let start = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
    let der = [start, coordinate("x"), coordinate("y")].concat();
    let text = STANDARD.encode(&der);
    let (first, second) = text.split_at(64);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), text.as_bytes(), &der] {
        for kid in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "k1" })] {
            assert_refused("HS256 of the PEM", &hmac(secret, &kid, &claims())).await;
        }
    }
}

#[tokio::test]
async fn cve_2022_23540_alg_none() {
    let signature = world().liar.sign(&claims()).rsplit_once('.').unwrap().1.to_owned();
    for alg in
        [json!("none"), json!("None"), json!("NONE"), json!("nOnE"), json!(""), Value::Null, json!(["none"]), json!(0)]
    {
        let message = format!("{}.{}", part(&json!({ "alg": alg, "kid": "k1" })), part(&claims()));
        for end in ["", "none", &signature] {
            assert_refused(&alg.to_string(), &format!("{message}.{end}")).await;
        }
    }
    assert_refused("no header", &format!("{}.{}.", part(&json!({})), part(&claims()))).await;
}

#[tokio::test]
async fn cve_2018_0114_a_key_embedded_in_the_token() {
    let mallory = rcgen::KeyPair::generate().unwrap();
    for header in [
        json!({ "alg": "ES256", "jwk": jwk(&mallory, "m1") }),
        json!({ "alg": "ES256", "kid": "k1", "jwk": jwk(&mallory, "k1") }),
        json!({ "alg": "ES256", "kid": "m1", "x5c": [STANDARD.encode(mallory.subject_public_key_info())] }),
    ] {
        assert_refused("an embedded key", &sign(&mallory, &header, &claims())).await;
    }
}

#[tokio::test]
async fn nothing_that_a_token_names_is_fetched() {
    let mallory = rcgen::KeyPair::generate().unwrap();
    let url = format!("{}/named-by-a-token", world().liar.base);
    for name in ["jku", "x5u"] {
        let header = json!({ "alg": "ES256", "kid": "elsewhere", name: url });
        assert_refused(name, &sign(&mallory, &header, &claims())).await;
    }
    assert_refused("iss", &sign(&mallory, &json!({ "alg": "ES256" }), &with("iss", json!(url)))).await;
    assert!(world().liar.asked("/named-by-a-token").is_empty());
}

#[tokio::test]
async fn a_kid_is_a_name_and_no_path() {
    let mallory = rcgen::KeyPair::generate().unwrap();
    for kid in
        ["../../../../dev/null", "/dev/null", "k1'--", "k1\u{0}", "http://127.0.0.1/k", "${K}", "|cat /etc/passwd"]
    {
        assert_refused(kid, &sign(&mallory, &json!({ "alg": "ES256", "kid": kid }), &claims())).await;
        assert_refused(kid, &hmac(b"", &json!({ "alg": "HS256", "kid": kid }), &claims())).await;
    }
}

#[tokio::test]
async fn cve_2022_21449_psychic_signatures() {
    let token = world().liar.sign(&claims());
    let (message, real) = token.rsplit_once('.').unwrap();
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let real = URL_SAFE_NO_PAD.decode(real).unwrap();
    let signatures = [
        vec![0; 64],
        vec![0; 63],
        vec![0; 65],
        vec![0; 132],
        vec![0xff; 64],
        [&order[..], &order].concat(),
        [&real[..32], &[0; 32]].concat(),
        [&[0; 32], &real[32..]].concat(),
        [&real[..], &[0]].concat(),
        real[..63].to_vec(),
        // Zero and zero as ASN.1.
        vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00],
    ];
    for signature in signatures {
        assert_refused("psychic", &format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))).await;
    }
}

#[tokio::test]
async fn cve_2025_59420_extensions_that_nobody_understands() {
    for more in
        [json!({ "crit": ["bork"], "bork": 1 }), json!({ "crit": [] }), json!({ "crit": ["b64"], "b64": false })]
    {
        let mut header = json!({ "alg": "ES256", "kid": "k1" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_refused(&more.to_string(), &world().liar.sign_as(&header, &claims())).await;
    }
}

#[tokio::test]
async fn cve_2026_25537_times_of_another_type() {
    for name in ["exp", "nbf", "iat"] {
        for value in
            [json!("4000000000"), json!([1]), json!({ "a": 1 }), json!(true), json!(1e300), json!(-1), Value::Null]
        {
            assert_refused(&format!("{name}: {value}"), &world().liar.sign(&with(name, value.clone()))).await;
        }
    }
}

#[tokio::test]
async fn cve_2022_39227_one_text_read_as_two_tokens() {
    let good = world().liar.sign(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let forged = part(&with("sub", json!("root")));
    let flattened = json!({ "protected": header, "payload": payload, "signature": signature }).to_string();
    for token in [
        flattened.clone(),
        format!(
            "{{\"{header}.{forged}.\":\"\",\"protected\":\"{header}\",\"payload\":\"{payload}\",\"signature\":\"{signature}\"}}"
        ),
        URL_SAFE_NO_PAD.encode(&flattened),
        format!("{header}.{forged}.{payload}.{signature}"),
        format!("{good}.{good}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}=.{signature}"),
        format!(".{payload}.{signature}"),
    ] {
        assert_refused("two readings", &token).await;
    }
    let twice = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    let twice = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(twice));
    assert_refused("a claim twice", &twice).await;
}

#[tokio::test]
async fn cve_2026_49230_an_encrypted_token_of_anybody() {
    let header = part(&json!({ "alg": "dir", "enc": "A256GCM", "kid": "k1" }));
    for token in [format!("{header}..AAAA.AAAA.AAAA"), format!("{header}.AAAA.AAAA.AAAA.AAAA"), format!("{header}....")]
    {
        assert_refused("JWE", &token).await;
    }
    let nested = world()
        .liar
        .sign_as(&json!({ "alg": "ES256", "kid": "k1", "cty": "JWT" }), &json!(world().liar.sign(&claims())));
    assert_refused("nested", &nested).await;
}

#[tokio::test]
async fn a_token_of_another_kind() {
    let kinds = ["logout+jwt", "dpop+jwt", "client-authentication+jwt", "secevent+jwt", "entity-statement+jwt"];
    for typ in kinds {
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": typ });
        assert_refused(typ, &world().liar.sign_as(&header, &claims())).await;
    }
    for (name, value) in [("at_hash", "x"), ("s_hash", "x"), ("nonce", "n")] {
        assert_refused("an ID token", &world().liar.sign(&with(name, json!(value)))).await;
    }
    assert_refused("a request for a login", &world().liar.sign(&with("response_type", json!("code")))).await;
    assert_refused("bound to a key", &world().liar.sign(&with("cnf", json!({ "jkt": "x" })))).await;
}

#[tokio::test]
async fn cve_2022_29266_a_refusal_repeats_the_secret() {
    let forged = sign(&rcgen::KeyPair::generate().unwrap(), &json!({ "alg": "ES256", "kid": "k1" }), &claims());
    let (_, text) = call(&forged).await;
    let jwk = world().liar.jwk();
    for part in forged.split('.').chain([jwk["x"].as_str().unwrap()]) {
        assert!(!text.contains(part) && !world().edge.log.text().contains(part), "{text}");
    }
}

#[tokio::test]
async fn tokens_of_any_size_cost_little() {
    let long = "x".repeat(60 << 10);
    let answer = http_client().get(world().edge.url("/robots/x")).bearer_auth(&long).send().await;
    assert!(answer.is_err() || answer.unwrap().status().is_client_error());
    let padded = world().liar.sign(&with("pad", json!("x".repeat(12 << 10))));
    assert_refused("longer than 16 KiB", &padded).await;
}

#[tokio::test]
async fn cve_2024_51987_another_users_token_after_a_change() {
    let eve = world().login("at-eve").await;
    let calls = (0..40).map(|number| {
        let (browser, wanted) = if number % 2 == 0 { (&world().ada, "Bearer at-ada") } else { (&eve, "Bearer at-eve") };
        async move {
            let echo: Value = browser.get(world().edge.url("/pass/mine")).await.json().await.unwrap();
            let fields = echo["headers"].as_array().unwrap();
            let found = fields.iter().find(|field| field[0].as_str().unwrap().eq_ignore_ascii_case("authorization"));
            assert_eq!(found.unwrap()[1], wanted);
        }
    });
    futures::future::join_all(calls).await;
}
