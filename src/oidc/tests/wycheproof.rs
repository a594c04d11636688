//! The vectors of Project Wycheproof (C2SP) for the algorithms of RFC 7518 and RFC 8037, through a published key
//! set as a provider writes it: signatures that are nearly right, keys that are odd.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use wycheproof::ecdsa::TestName as Ecdsa;
use wycheproof::eddsa::TestName as Eddsa;
use wycheproof::rsa_pkcs1_verify::TestName as Pkcs1;
use wycheproof::rsa_pss_verify::TestName as Pss;

use crate::oidc::jwks::{VerifyingKey, read_keys};

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// The set's own JWK, or one made of the numbers where it has none.
fn published(group: &Value) -> Value {
    let written = [&group["publicKeyJwk"], &group["keyJwk"]].into_iter().find(|jwk| jwk.is_object());
    let mut jwk = written.cloned().unwrap_or_else(|| made(&group["publicKey"]));
    jwk.as_object_mut().unwrap().remove("alg");
    jwk
}

fn made(key: &Value) -> Value {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    if key["uncompressed"].is_string() {
        let curve = if key["curve"] == "secp256r1" { "P-256" } else { "P-384" };
        let point = bytes(&key["uncompressed"]);
        let (x, y) = point[1..].split_at(point.len() / 2);
        return json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) });
    }
    let number = |name: &str| {
        let number = bytes(&key[name]);
        let start = number.iter().position(|byte| *byte != 0).unwrap();
        text(&number[start..])
    };
    json!({ "kty": "RSA", "n": number("modulus"), "e": number("publicExponent") })
}

fn key(group: &Value) -> Option<VerifyingKey> {
    let set = json!({ "keys": [published(group)] }).to_string();
    read_keys(set.as_bytes()).ok()?.pop()
}

/// Runs one file; how many signatures of it were right and how many were not.
fn run(what: &str, algorithm: Algorithm, data: &str) -> (usize, usize) {
    let set: Value = serde_json::from_str(data).unwrap();
    let (mut right, mut wrong) = (0, 0);
    for group in set["testGroups"].as_array().unwrap() {
        let key = key(group);
        for test in group["tests"].as_array().unwrap() {
            let signature = URL_SAFE_NO_PAD.encode(bytes(&test["sig"]));
            let verified = key.as_ref().is_some_and(|key| key.verifies(&bytes(&test["msg"]), &signature, algorithm));
            let case = format!("{what} {}: {}, {}", test["tcId"], test["comment"], test["flags"]);
            match test["result"].as_str().unwrap() {
                "valid" => assert!(verified, "refused: {case}"),
                "invalid" => assert!(!verified, "accepted: {case}"),
                _ => continue,
            }
            if verified { right += 1 } else { wrong += 1 }
        }
    }
    (right, wrong)
}

#[test]
fn every_signature_gets_its_verdict() {
    let counts = [
        run("ES256", Algorithm::ES256, Ecdsa::EcdsaSecp256r1Sha256P1363.json_data()),
        run("ES384", Algorithm::ES384, Ecdsa::EcdsaSecp384r1Sha384P1363.json_data()),
        run("EdDSA", Algorithm::EdDSA, Eddsa::Ed25519.json_data()),
        run("RS256", Algorithm::RS256, Pkcs1::Rsa2048Sha256.json_data()),
        run("RS256", Algorithm::RS256, Pkcs1::Rsa4096Sha256.json_data()),
        run("RS384", Algorithm::RS384, Pkcs1::Rsa3072Sha384.json_data()),
        run("RS512", Algorithm::RS512, Pkcs1::Rsa4096Sha512.json_data()),
        run("PS256", Algorithm::PS256, Pss::RsaPss2048Sha256Mgf1SaltLen32.json_data()),
        run("PS384", Algorithm::PS384, Pss::RsaPss4096Sha384Mgf1SaltLen48.json_data()),
        run("PS512", Algorithm::PS512, Pss::RsaPss4096Sha512Mgf1SaltLen64.json_data()),
    ];
    let (right, wrong) = counts.iter().fold((0, 0), |(right, wrong), one| (right + one.0, wrong + one.1));
    println!("{right} right, {wrong} wrong");
    assert!(right > 600 && wrong > 800, "{counts:?}");
}

/// A key is for its own algorithm, whatever a token says: no signature of one set is good under another name.
#[test]
fn no_signature_is_good_under_another_name() {
    let algorithms = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
    ];
    for (own, data) in [
        (Algorithm::ES256, Ecdsa::EcdsaSecp256r1Sha256P1363.json_data()),
        (Algorithm::EdDSA, Eddsa::Ed25519.json_data()),
        (Algorithm::RS256, Pkcs1::Rsa2048Sha256.json_data()),
        (Algorithm::PS256, Pss::RsaPss2048Sha256Mgf1SaltLen32.json_data()),
    ] {
        let set: Value = serde_json::from_str(data).unwrap();
        for group in set["testGroups"].as_array().unwrap() {
            let Some(key) = key(group) else { continue };
            let good = group["tests"].as_array().unwrap().iter().filter(|test| test["result"] == "valid");
            for test in good.take(5) {
                let signature = URL_SAFE_NO_PAD.encode(bytes(&test["sig"]));
                for other in algorithms.iter().filter(|one| **one != own) {
                    assert!(!key.verifies(&bytes(&test["msg"]), &signature, *other), "{own:?} as {other:?}");
                }
            }
        }
    }
}
