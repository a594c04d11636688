//! What the services say about a request is what was in it.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::*;

fn service() -> Arc<Service> {
    Service::new("crud", "https://crud.example.com", Arc::new(Keys::generate().unwrap()))
}

fn request(token: &str) -> Request<Body> {
    Request::post("/records/1?a=b%20c&a=d")
        .header("X-Twice", "one")
        .header("X-Twice", "two")
        .header("Authorization", format!("Bearer {token}"))
        .body(Body::from(vec![b'x'; 300]))
        .unwrap()
}

#[tokio::test]
async fn an_echo_tells_the_request_apart() {
    let service = service();
    let token = service.keys.sign("at+jwt", &json!({ "aud": ["https://crud.example.com"], "sub": "ada" })).unwrap();
    let echo = echo::describe(&service, request(&token)).await;
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["path"], "/records/1");
    assert_eq!(echo["query"], "a=b%20c&a=d");
    assert_eq!(echo["headers"][0], json!(["x-twice", "one"]));
    assert_eq!(echo["headers"][1], json!(["x-twice", "two"]));
    assert_eq!(echo["body"]["bytes"], 300);
    assert_eq!(echo["body"]["preview"].as_str().unwrap().len(), 256);
    assert_eq!(echo["token"]["claims"]["sub"], "ada");
    assert_eq!(echo["token"]["header"]["typ"], "at+jwt");
    assert_eq!(echo["token"]["signature_is_good"], true);
    assert_eq!(echo["token"]["audience_fits"], true);
    assert!(!echo.to_string().contains(&token), "no token may reach the page");
    assert_eq!(echo["answer"], 1);
}

#[tokio::test]
async fn a_token_of_somebody_else_is_told() {
    let service = service();
    let stranger = Keys::generate().unwrap();
    let token = stranger.sign("at+jwt", &json!({ "aud": "https://other.example.com" })).unwrap();
    let echo = echo::describe(&service, request(&token)).await;
    assert_eq!(echo["token"]["signature_is_good"], false);
    assert_eq!(echo["token"]["audience_fits"], false);
    let echo = echo::describe(&service, request("not-a-jwt")).await;
    assert_eq!(echo["token"]["claims"], Value::Null);
    assert_eq!(echo["answer"], 2);
}
