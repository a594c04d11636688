//! `pingora-bff doctor` against the real provider: everything well, and each thing that can be wrong
//! with the file and the key to change.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::liar::{Canned, Liar};
use crate::harness::{AUDIENCES, DOCTORED, Provider, Redis, SECRET, Setup, Upstream, doctor, failing_run, free_port};

const UNKNOWN: &str = "https://unknown.example.test";

/// A client that the shared provider knows.
async fn client(name: &'static str, metadata: &serde_json::Value) -> (&'static Provider, &'static str) {
    let provider = Provider::shared();
    provider.register(name, &format!("http://localhost:{DOCTORED}"), metadata).await;
    (provider, name)
}

/// The lines that begin with this sign.
pub(crate) fn lines<'a>(page: &'a str, sign: &str) -> Vec<&'a str> {
    page.lines().filter(|line| line.starts_with(sign)).collect()
}

/// The only line with a ✗; it must hold each of these words.
pub(crate) fn assert_only(page: &str, code: Option<i32>, words: &[&str]) {
    let bad = lines(page, "✗");
    assert_eq!((bad.len(), code), (1, Some(1)), "{page}");
    for word in words {
        assert!(bad[0].contains(word), "{word} is missing:\n{page}");
    }
}

#[tokio::test]
async fn a_configuration_that_works_is_green_throughout() {
    let (provider, client) = client("doctor-well", &json!({})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(AUDIENCES[1]))
        .service("crud", &upstream.url(), Some(AUDIENCES[2]))
        .service_scope("crud", "application.all")
        .legacy(&format!("legacy_services: {{ old: \"{}/base\" }}\n", upstream.url()));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    assert_eq!(lines(&page, "-"), Vec::<&str>::new(), "{page}");
    for found in ["discovery", "signing keys", "client authentication", "way back", AUDIENCES[1], AUDIENCES[2]] {
        assert!(lines(&page, "✓").iter().any(|line| line.contains(found)), "{found}:\n{page}");
    }
    for found in ["analytics_service at", "crud_service at", "old at", "answers", "keeps"] {
        assert!(lines(&page, "✓").iter().any(|line| line.contains(found)), "{found}:\n{page}");
    }
    assert!(page.trim_end().ends_with("12 ✓, 0 ✗, 0 not tested: all is well"), "{page}");
}

#[tokio::test]
async fn a_wrong_secret_names_its_key() {
    let (provider, client) = client("doctor-secret", &json!({})).await;
    let upstream = Upstream::start().await;
    let secret = "client_secret: \"not-the-one-that-is-registered\"";
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(AUDIENCES[1]))
        .client_auth(&[secret, "token_auth_method: client_secret_basic"], &json!({}));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["invalid_client", "conf/idps.yaml", "idps[main].client_secret"]);
    assert!(!page.contains("not-the-one"), "a secret is never shown:\n{page}");
    let skipped = lines(&page, "-");
    assert!(skipped.len() == 2 && skipped[1].contains(AUDIENCES[1]), "{page}");
}

#[tokio::test]
async fn a_client_that_nobody_knows_is_one_fault() {
    let provider = Provider::shared();
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, "doctor-nobody-knows").await;
    assert_only(&page, code, &["invalid_client", "conf/idps.yaml", "client_id"]);
}

#[tokio::test]
async fn algorithms_that_no_key_is_for_name_their_key() {
    let (provider, client) = client("doctor-algorithms", &json!({})).await;
    let upstream = Upstream::start().await;
    let secret = format!("client_secret: \"{SECRET}\"");
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(AUDIENCES[1]))
        .client_auth(&[&secret, "algorithms: [ES384]"], &json!({}));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["signing keys", "none of them for ES384", "conf/idps.yaml", "idps[main].algorithms"]);
}

#[tokio::test]
async fn what_the_provider_signs_with_is_compared_too() {
    let liar = Liar::start().await;
    let mut document = liar.document();
    document["id_token_signing_alg_values_supported"] = json!(["PS512"]);
    liar.answer("/.well-known/openid-configuration", Canned::json(&document));
    let upstream = Upstream::start().await;
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(AUDIENCES[1]))
        .client_auth(&["client_secret: x", "algorithms: [ES256]"], &json!({}));
    let (_, page) = doctor(setup, &liar.base, "bff").await;
    let bad = lines(&page, "✗");
    assert!(
        bad.iter().any(|line| line.contains("signs with PS512") && line.contains("idps[main].algorithms")),
        "{page}"
    );
}

#[tokio::test]
async fn an_https_issuer_at_a_port_of_plain_http_says_so() {
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &answers_anything_with_http().await, "nobody").await;
    assert_only(&page, code, &["it speaks no TLS there: http instead of https?", "idps[main].issuer"]);
}

#[tokio::test]
async fn a_provider_that_is_down_names_its_issuer() {
    let provider = Provider::start();
    let issuer = provider.issuer.clone();
    drop(provider);
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &issuer, "nobody").await;
    assert_only(&page, code, &["discovery", "cannot be reached", "conf/idps.yaml", "idps[main].issuer"]);
    assert_eq!(lines(&page, "-").len(), 3, "{page}");
}

#[tokio::test]
async fn a_service_that_is_dead_names_its_base_url() {
    let (provider, client) = client("doctor-dead", &json!({})).await;
    let gone = format!("http://127.0.0.1:{}", free_port());
    let setup = Setup::new().service("analytics", &gone, Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["refused", "routes/all.yaml:2:", "services.analytics_service.base_url"]);

    let setup = Setup::new().service("analytics", "http://does-not-exist.invalid", Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["does not resolve", "routes/all.yaml:2:", "services.analytics_service.base_url"]);

    // Somebody answers, but not with TLS.
    let upstream = Upstream::start().await;
    let plain = upstream.url().replace("http://", "https://");
    let setup = Setup::new().service("analytics", &plain, Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["TLS", "routes/all.yaml:2:", "services.analytics_service.tls"]);

    let setup = Setup::new().service("analytics", &answers_anything_with_http().await, Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(
        &page,
        code,
        &["it speaks no TLS there: http instead of https?", "services.analytics_service.base_url"],
    );

    let legacy = format!("legacy_services: {{ old: \"{gone}\" }}\n");
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).legacy(&legacy);
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["old at", "refused", "conf/legacy_services.yaml", "legacy_services.old"]);
}

#[tokio::test]
async fn a_wrong_audience_names_its_service() {
    let (provider, client) = client("doctor-audience", &json!({})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).service(
        "crud",
        &upstream.url(),
        Some(UNKNOWN),
    );
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    let words = [UNKNOWN, "invalid_target", "conf/settings.yaml", "service_audiences.crud_service", client];
    assert_only(&page, code, &words);
    assert!(lines(&page, "✓").iter().any(|line| line.contains(AUDIENCES[1])), "{page}");
}

#[tokio::test]
async fn an_audience_of_our_own_that_is_wrong_names_the_entry() {
    let (provider, client) = client("doctor-own-audience", &json!({})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).own_audience(UNKNOWN);
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &[UNKNOWN, "at a login", "conf/idps.yaml: idps[main].audience", client]);
}

#[tokio::test]
async fn a_scope_that_is_not_granted_is_named() {
    let (provider, client) = client("doctor-scope", &json!({})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let both = setup.clone().scope_of_service("analytics", "application.all nobody.grants");
    let (_, page) = doctor(both, &provider.issuer, client).await;
    let told = lines(&page, "-");
    assert!(told.len() == 1 && told[0].contains("came without scope nobody.grants;"), "{page}");
    assert!(told[0].contains("conf/settings.yaml: service_scopes.analytics_service"), "{page}");
    // This answer says nothing of scopes at all.
    let (_, page) = doctor(setup.scope_of_service("analytics", "nobody.grants"), &provider.issuer, client).await;
    let note = "(it names no scope; nobody.grants was asked for)";
    assert!(lines(&page, "✓").iter().any(|line| line.contains(note)), "{page}");
}

/// `check` warns of it; the doctor says what comes of it, once a service.
#[tokio::test]
async fn a_service_that_no_audience_is_mapped_for_names_its_key() {
    let (provider, client) = client("doctor-unmapped", &json!({})).await;
    let upstream = Upstream::start().await;
    let more = |id: &str, policy: &str| {
        format!("{{ id: {id}, path: \"/{id}/*\", target_service: analytics_service, auth: session{policy} }}")
    };
    let setup = Setup::new()
        .service("analytics", &upstream.url(), None)
        .route(&more("again", ""))
        .route(&more("without", ", token_policy: { mode: none }"));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    let words =
        ["analytics_service", "401 no_token_available", "conf/settings.yaml: service_audiences.analytics_service"];
    assert_only(&page, code, &words);
    let none = "token_policy: { mode: none }";
    let setup = Setup::new()
        .service_alone("analytics", &upstream.url(), None, "timeout: 10")
        .route(&more("without", &format!(", {none}")))
        .route("{ id: open, path: /open, target_service: analytics_service, auth: none }");
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
}

#[tokio::test]
async fn a_client_without_tokens_of_its_own_is_said_to_be_untested() {
    let metadata = json!({ "grant_types": ["authorization_code", "refresh_token"] });
    let (provider, client) = client("doctor-users-only", &metadata).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_eq!((code, lines(&page, "✗")), (Some(0), Vec::new()), "{page}");
    let skipped = lines(&page, "-");
    assert!(skipped.len() == 1 && skipped[0].contains(AUDIENCES[1]) && skipped[0].contains(client), "{page}");

    // What a login would be refused for shows all the same.
    let setup = Setup::new().service("analytics", &upstream.url(), Some(UNKNOWN));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &[UNKNOWN, "at a login", "service_audiences.analytics_service"]);
}

/// A server of plain HTTP that takes a TLS handshake for a bad request, under an `https` URL.
async fn answers_anything_with_http() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.read(&mut [0; 1024]).await;
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    url
}

fn service_token(more: &str) -> String {
    format!(
        "{{ id: st, path: \"/st/*\", target_service: analytics_service, auth: session, \
         token_policy: {{ mode: service_token, {more} }} }}"
    )
}

/// A route with `service_token` gets what `client_credentials` gives, or nothing.
#[tokio::test]
async fn a_token_of_our_own_that_is_refused_names_the_policy() {
    let metadata = json!({ "grant_types": ["authorization_code", "refresh_token"] });
    let (provider, client) = client("doctor-own-refused", &metadata).await;
    let upstream = Upstream::start().await;
    let route = service_token(&format!("audience: \"{}\"", AUDIENCES[1]));
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).route(&route);
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &[AUDIENCES[1], "grant type is not allowed", "routes[st].token_policy.mode", client]);
}

/// No login asks for the audience of a policy, so that one which only `client_credentials` gets is well.
#[tokio::test]
async fn the_audience_of_a_policy_is_not_asked_for_at_a_login() {
    let (provider, client) = client("doctor-own-unknown", &json!({})).await;
    let upstream = Upstream::start().await;
    let route = service_token(&format!("audience: \"{UNKNOWN}\""));
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).route(&route);
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &[UNKNOWN, "invalid_target", "routes[st].token_policy.audience"]);
    assert!(!page.contains("at a login"), "{page}");
}

#[tokio::test]
async fn a_way_back_that_is_not_registered_names_the_public_url() {
    let (provider, client) = client("doctor-way-back", &json!({"redirect_uris": ["http://localhost:1/x"]})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1]));
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["http://localhost:8080/auth/callback", "conf/settings.yaml", "server.public_url"]);
}

#[tokio::test]
async fn a_store_that_does_not_open_names_its_key() {
    let (provider, client) = client("doctor-store", &json!({})).await;
    let upstream = Upstream::start().await;
    let setup = Setup::new()
        .service("analytics", &upstream.url(), Some(AUDIENCES[1]))
        .store("sqlite:/proc/nowhere/sessions.db");
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["session store sqlite", "conf/settings.yaml", "session.store"]);
}

#[tokio::test]
async fn a_redis_that_wants_a_password_says_so() {
    let (provider, client) = client("doctor-redis", &json!({})).await;
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    redis.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("do-not-tell"));
    let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).store(&redis.url());
    let (code, page) = doctor(setup, &provider.issuer, client).await;
    assert_only(&page, code, &["it wants a password: `session.redis.password`", "conf/settings.yaml", "session.store"]);
}

/// It says no, and time mends nothing: neither `run` nor the doctor waits for it to come back.
#[tokio::test]
async fn a_redis_that_says_no_for_good_says_so() {
    let (provider, client) = client("doctor-redis-no", &json!({})).await;
    let (redis, upstream) = (Redis::start("maxmemory-policy noeviction"), Upstream::start().await);
    let at = redis.address();
    let cases = [
        (format!("redis://{at}/99"), "it has no database of that number, the last part of `session.store`"),
        (format!("redis+sentinel://{at}/main"), "is no sentinel that may be asked"),
        (format!("redis://nobody:wrong@{at}"), "`session.redis.username` and `password`"),
    ];
    for (url, words) in cases {
        let setup = Setup::new().service("analytics", &upstream.url(), Some(AUDIENCES[1])).store(&url);
        let (code, page) = doctor(setup.clone(), &provider.issuer, client).await;
        assert_only(&page, code, &[words, "conf/settings.yaml", "session.store"]);
        let (status, said) = failing_run(setup, free_port()).await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains("(settings.yaml, session.store)"), "{said}");
        assert!(!said.contains("wrong@"), "{said}");
    }
}

#[tokio::test]
async fn a_configuration_with_errors_is_not_examined() {
    let setup = Setup::new().top("no_such_key: 1");
    let (code, page) = doctor(setup, "http://127.0.0.1:1", "nobody").await;
    assert_eq!(code, Some(2), "{page}");
    assert!(page.contains("no_such_key") && lines(&page, "✓").is_empty(), "{page}");
}
