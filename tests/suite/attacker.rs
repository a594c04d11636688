//! A page of somebody else in a real browser, over real TLS (`tests/oidc/attacker.mjs`): whatever it tries, the
//! session that the browser holds does nothing for it.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PublicKeyData as _};

use crate::demo_page::chromium;
use crate::harness::{AUDIENCES, Setup, Upstream};
use crate::tls::Authority;

/// By what Chromium knows a key that it shall trust (`--ignore-certificate-errors-spki-list`).
fn fingerprint(key: &Path) -> String {
    let pair = KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
    STANDARD.encode(digest(&SHA256, &pair.subject_public_key_info()))
}

#[tokio::test]
async fn a_foreign_page_in_a_real_browser_gets_nothing_done() {
    let authority = Authority::new();
    let ours = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let evil = authority.sign("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).https(&ours.0, &ours.1);
    let edge = setup.start().await;
    let output = tokio::process::Command::new("node")
        .args(["attacker.mjs", &edge.origin])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc"))
        .env("CHROMIUM", chromium())
        .env("OURS", format!("{}:{}", ours.0.display(), ours.1.display()))
        .env("EVIL", format!("{}:{}", evil.0.display(), evil.1.display()))
        .env("TRUSTED", format!("{},{}", fingerprint(&ours.1), fingerprint(&evil.1)))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("within a minute").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");
    let arrived: Vec<String> = upstream.all().iter().map(crate::harness::Received::target).collect();
    assert!(arrived.iter().any(|target| target.contains("/mine")), "the user's own requests did: {arrived:?}");
    assert!(!arrived.iter().any(|target| target.contains("evil")), "{arrived:?}");
    assert_eq!(edge.grants("authorization_code").await, 1, "one login, the user's");
    assert_eq!(edge.metric("bff_sessions_created_total").await, 1);
    assert_eq!(edge.metric("bff_sessions_destroyed_total").await, 0);
    assert!(edge.metric("bff_csrf_violations_total").await >= 1, "some of it was seen and refused");
}
