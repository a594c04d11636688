//! The bounds of the client.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::provider::{Canned, World};
use crate::oidc::FetchError;
use crate::oidc::http::{Endpoint, HttpClient};
use crate::telemetry::Metrics;

fn client(total: Duration) -> (HttpClient, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (HttpClient::with_timeout(true, total, Arc::clone(&metrics)).unwrap(), metrics)
}

#[tokio::test]
async fn a_provider_that_hangs_resets_or_floods_is_told_apart() {
    let world = World::new().await;
    let (http, metrics) = client(Duration::from_millis(300));
    let url = Url::parse(&format!("{}/x", world.base)).unwrap();
    world.answer("/x", Canned::Hang);
    assert_eq!(http.get(Endpoint::Discovery, &url).await, Err(FetchError::TimedOut));
    let (http, _) = client(Duration::from_secs(20));
    world.answer("/x", Canned::Reset);
    assert!(matches!(http.get(Endpoint::Discovery, &url).await, Err(FetchError::Broken(_))));
    world.answer("/x", Canned::Huge(50 << 20));
    assert_eq!(http.get(Endpoint::Discovery, &url).await, Err(FetchError::TooLarge));
    world.answer("/x", Canned::Html(503, "down"));
    assert_eq!(http.get(Endpoint::Discovery, &url).await, Err(FetchError::Status(503)));
    let page = metrics.render();
    assert!(page.contains(r#"bff_idp_requests_total{endpoint="discovery",status="timeout"} 1"#), "{page}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_the_reason_has_no_url() {
    let (http, _) = client(Duration::from_secs(20));
    // Bound and dropped: nobody listens there any more.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/secret?code=1")).unwrap();
    let Err(FetchError::Unreachable(reason)) = http.get(Endpoint::Jwks, &url).await else { panic!("must not connect") };
    assert!(!reason.contains("secret") && !reason.contains("code"), "{reason}");
}

#[tokio::test]
async fn redirects_stay_within_the_origin_and_posts_follow_none() {
    let (here, elsewhere) = (World::new().await, World::new().await);
    let (http, _) = client(Duration::from_secs(20));
    let url = Url::parse(&format!("{}/old", here.base)).unwrap();
    here.answer("/new", Canned::Html(200, "moved"));
    elsewhere.answer("/new", Canned::Html(200, "stolen"));

    here.answer("/old", Canned::Redirect("/new".into()));
    assert_eq!(http.get(Endpoint::Jwks, &url).await.unwrap(), b"moved");
    let answer = http.post(Endpoint::Token, &url, "code=1".into(), None).await.unwrap();
    assert_eq!((answer.status, here.requests("/new").len()), (307, 1));

    here.answer("/old", Canned::Redirect(format!("{}/new", elsewhere.base)));
    assert_eq!(http.get(Endpoint::Jwks, &url).await, Err(FetchError::Status(307)));
    here.answer("/old", Canned::Redirect("/old".into()));
    assert_eq!(http.get(Endpoint::Jwks, &url).await, Err(FetchError::Status(307)));
    assert!(elsewhere.requests("/new").is_empty());
}
