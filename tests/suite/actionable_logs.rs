//! What is logged where somebody must change something: the file and the key.

use serde_json::json;

use crate::harness::liar::{Canned, Liar, begin};
use crate::harness::{Edge, Setup, failing_run, free_port};

#[tokio::test]
async fn a_store_that_does_not_open_keeps_the_program_from_starting() {
    let (status, said) = failing_run(Setup::new().store("sqlite:/proc/nowhere/sessions.db"), free_port()).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("error: session: session store sqlite: "), "{said}");
    assert!(said.contains("(settings.yaml, session.store)"), "{said}");
}

#[tokio::test]
async fn a_wrong_client_secret_shows_at_the_first_login() {
    let liar = Liar::start().await;
    let edge = Setup::new().provider_at(&liar.base).start().await;
    let refusal = json!({ "error": "invalid_client" }).to_string();
    liar.answer("/token", Canned::Whole(401, "application/json", refusal));
    let begun = begin(&edge, &liar).await;
    let answer = begun.browser.get(begun.back(&edge, &liar.base, "code=a-code-that-is-good")).await;
    assert_eq!(answer.status(), 400);
    let words = ["a login was rejected", "invalid_client", "check `client_id`, `client_secret`", "idps.yaml"];
    eventually!("the log names the key", edge.log.has(&words));
}

/// It answers: time mends nothing.
#[tokio::test]
async fn an_issuer_that_is_none_shows_at_the_start() {
    let liar = Liar::start().await;
    let told = |edge: &Edge| edge.log.has(&["cannot be used: change idps[main].issuer in idps.yaml"]);
    let edge = Setup::new().provider_at(&format!("{}/elsewhere", liar.base)).start().await;
    eventually!("nothing is found there", told(&edge));
    let edge = Setup::new().provider_at(&format!("{}/", liar.base)).start().await;
    eventually!("it has another name", told(&edge));
}

#[tokio::test]
async fn an_audience_that_the_provider_refuses_names_the_file_it_is_in() {
    let liar = Liar::start().await;
    let edge = Setup::new().provider_at(&liar.base).own_audience("https://own.example").start().await;
    let begun = begin(&edge, &liar).await;
    liar.answer("/auth", Canned::Redirect(edge.url("/auth/callback?error=invalid_target")));
    let _again = begun.browser.get(begun.back(&edge, &liar.base, "error=invalid_target")).await;
    let words = ["https://own.example", "invalid_target", "correct idps[main].audience in idps.yaml"];
    eventually!("the log names the key", edge.log.has(&words));
}
