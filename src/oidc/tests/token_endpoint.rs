//! The token endpoint during a login: no session comes of any of these, and nothing is tried twice.

use serde_json::json;

use super::provider::{Canned, World, tokens};
use crate::oidc::{CallbackParams, LoginError};

#[tokio::test]
async fn a_token_endpoint_out_of_order_is_a_provider_that_is_down() {
    let world = World::new().await;
    for canned in [
        Canned::Json(500, json!({ "error": "invalid_grant" })),
        Canned::Html(503, "down"),
        Canned::Html(200, "<html></html>"),
        Canned::Html(200, ""),
        Canned::Huge(50 << 20),
        Canned::Json(200, tokens(json!({ "access_token": null }))),
        Canned::Json(200, tokens(json!({ "token_type": "mac" }))),
        Canned::Reset,
    ] {
        world.answer("/token", canned.clone());
        let flow = world.begin().await;
        let params = CallbackParams::parse(&format!("code=c&state={}", flow.state.expose())).unwrap();
        let before = world.requests("/token").len();
        let error = world.rp.finish_login(flow, &params).await.unwrap_err();
        assert!(error.is_provider_down(), "{canned:?}: {error:?}");
        assert_eq!(world.requests("/token").len(), before + 1, "a code is sent once");
    }
}

#[tokio::test]
async fn a_spent_code_is_no_outage_and_its_words_are_safe_to_log() {
    let world = World::new().await;
    let words = format!("spent\r\nlevel=ERROR {}", "x".repeat(1000));
    world.answer("/token", Canned::Json(400, json!({ "error": "invalid_grant", "error_description": words })));
    let flow = world.begin().await;
    let params = CallbackParams::parse(&format!("code=c&state={}", flow.state.expose())).unwrap();
    let error = world.rp.finish_login(flow, &params).await.unwrap_err();
    assert!(matches!(&error, LoginError::Token(token) if token.label() == "invalid_grant"));
    assert!(!error.is_provider_down());
    let line = error.to_string();
    assert!(line.len() < 300 && !line.contains(['\r', '\n']), "{line}");
}
