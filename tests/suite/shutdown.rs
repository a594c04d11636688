//! The end and the refusal to begin.

use std::time::Duration;

use crate::harness::{AUDIENCES, Behaviour, Browser, Setup, Upstream, failing_run};

#[tokio::test]
async fn sigterm_lets_a_request_in_flight_finish() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).grace(8).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    upstream.behave(Behaviour::Delay(Duration::from_millis(1500)));
    let url = edge.url("/api/own/x");
    let in_flight = tokio::spawn({
        let browser = browser.clone();
        async move { browser.get(url).await.status().as_u16() }
    });
    eventually!("the service has the request", upstream.heads() == 1);
    edge.sigterm();
    assert_eq!(in_flight.await.unwrap(), 200);
    let status = edge.exit_status(Duration::from_secs(10)).await.expect("it ends within its grace");
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(tokio::net::TcpStream::connect(edge.address()).await.is_err(), "the port is free");
}

#[tokio::test]
async fn sigterm_lets_a_renewal_finish_for_which_nobody_waits() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[1])).grace(8);
    let mut edge = setup.start().await;
    let browser = Browser::new();
    let callback = browser.authorize(&edge, "ada", "/").await;
    edge.provider.set_mode(&edge.client_id, "late:2500").await;
    assert_eq!(browser.get(&callback).await.status(), 302);
    // The token of the service is being fetched in the background, and the refresh token rotates.
    edge.sigterm();
    let status = edge.exit_status(Duration::from_secs(10)).await.expect("it ends within its grace");
    assert_eq!(status.code(), Some(0), "{status}");
    edge.provider.set_mode(&edge.client_id, "ok").await;
    edge.start_again().await;
    assert_eq!(browser.get(edge.url("/api/own/x")).await.status(), 200, "the login is still good");
    assert_eq!(edge.grants("refresh_token").await, 1, "and its token was kept");
}

#[tokio::test]
async fn draining_is_told_to_the_load_balancer() {
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).grace(8).start().await;
    let browser = Browser::logged_in(&edge, "ada").await;
    assert_eq!(browser.get(edge.url("/health/ready")).await.status(), 200);
    upstream.behave(Behaviour::Delay(Duration::from_secs(3)));
    let url = edge.url("/api/own/x");
    tokio::spawn(async move { browser.get(url).await });
    eventually!("the service has the request", upstream.heads() == 1);
    edge.sigterm();
    let ready = || async {
        let answer = crate::harness::http_client().get(edge.url("/health/ready")).send().await;
        answer.map_or(503, |answer| answer.status().as_u16())
    };
    eventually!("not ready, or no longer listening", ready().await == 503);
}

fn plain() -> Setup {
    Setup::new().service("own", "http://127.0.0.1:9", Some(AUDIENCES[0]))
}

#[tokio::test]
async fn a_taken_port_ends_the_process_with_a_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (status, said) = failing_run(plain(), port).await;
    assert!(!status.success(), "{said}");
    assert!(said.contains(&port.to_string()), "the line names the address: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_the_process_before_it_listens() {
    let port = crate::harness::free_port();
    let (status, said) = failing_run(plain().top("servce_audiences: {}"), port).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("settings.yaml:") && said.contains("service_audiences"), "place and nearest word: {said}");
}
