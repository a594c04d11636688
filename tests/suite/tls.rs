//! TLS on both sides: HTTPS and HTTP/2 for the browser, a private CA and a client certificate for the
//! service.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{
    AUDIENCES, Behaviour, Browser, Edge, Setup, Upstream, builder, doctor, failing_run, free_port, problem,
};

/// A certificate authority and what it signed, as PEM files.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Certificate and key for this name, `{name}.pem` and `{name}.key`.
    pub(crate) fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |extension: &str| self.dir.path().join(format!("{name}.{extension}"));
        std::fs::write(file("pem"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }

    /// A service of this name that admits only clients with a certificate of this authority.
    async fn service(&self, name: &str) -> Upstream {
        let (cert, key) = self.sign(name, ExtendedKeyUsagePurpose::ServerAuth);
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto)).build().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(cert).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        Upstream::start_tls(config).await
    }
}

/// In front of a TLS service with these `tls:` keys.
async fn edge_with(upstream: &Upstream, tls: &str) -> Edge {
    let route = "{ id: own, path: \"/api/own/*\", target_service: own_service, preserve_path: true, auth: session }";
    let setup = Setup::new()
        .service_alone("own", &upstream.url(), Some(AUDIENCES[0]), &format!("tls: {{ {tls} }}"))
        .route(route);
    setup.start().await
}

/// A service of a private authority, and an edge that it admits.
async fn reached_over_tls() -> (Upstream, Edge) {
    let authority = Authority::new();
    let upstream = authority.service("inside.example.test").await;
    let (cert, key) = authority.sign("edge", ExtendedKeyUsagePurpose::ClientAuth);
    let (ca, cert, key) = (shown(&authority.ca()), shown(&cert), shown(&key));
    let name = "server_name: inside.example.test";
    let edge = edge_with(&upstream, &format!("ca: {ca}, client_cert: {cert}, client_key: {key}, {name}")).await;
    (upstream, edge)
}

fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

#[tokio::test]
async fn a_service_with_a_private_ca_and_a_client_certificate_is_reached() {
    let (upstream, edge) = reached_over_tls().await;
    let answer = Browser::logged_in(&edge, "ada").await.get(edge.url("/api/own/x")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(upstream.count(), 1);
}

/// TLS does without the roots that people add to their chains, and a root of version 1 is an authority like any other.
#[tokio::test]
async fn roots_of_version_1_stand_in_nobodys_way() {
    let root = include_str!("../fixtures/root_of_version_1.pem");
    let add = |to: &Path| std::fs::write(to, std::fs::read_to_string(to).unwrap() + root).unwrap();
    let authority = Authority::new();
    let upstream = authority.service("localhost").await;
    let (cert, key) = authority.sign("edge", ExtendedKeyUsagePurpose::ClientAuth);
    let (own_cert, own_key) = authority.sign("here", ExtendedKeyUsagePurpose::ServerAuth);
    let pem = std::fs::read_to_string(authority.ca()).unwrap();
    for file in [&authority.ca(), &cert, &own_cert] {
        add(file);
    }
    let (ca, cert, key) = (shown(&authority.ca()), shown(&cert), shown(&key));
    let tls =
        format!("timeout: 5, tls: {{ ca: {ca}, client_cert: {cert}, client_key: {key}, server_name: localhost }}");
    let route = "{ id: open, path: /open, target_service: own_service, preserve_path: true, auth: none }";
    let setup = Setup::new().service_alone("own", &upstream.url(), None, &tls).route(route);
    let edge = setup.https(&own_cert, &own_key).start().await;
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let client = builder().tls_certs_only([root]).resolve("here", edge.address()).build().unwrap();
    let answer = client.get(format!("https://here:{}/open", edge.port)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// What cuts a stream is below TLS.
#[tokio::test]
async fn a_stream_from_behind_tls_ends_with_its_session() {
    let (upstream, edge) = reached_over_tls().await;
    let browser = Browser::logged_in(&edge, "bob").await;
    upstream.behave(Behaviour::Events { count: 1, every: Duration::from_secs(60) });
    let asking = browser.client.get(edge.url("/api/own/x")).header("accept", "text/event-stream").send();
    let stream = asking.await.unwrap();
    assert_eq!(stream.status(), 200);
    browser.post(edge.url("/auth/logout")).await;
    let rest = tokio::time::timeout(Duration::from_secs(1), stream.bytes()).await.expect("within a second");
    assert_eq!(rest.expect("its regular end"), "");
}

#[tokio::test]
async fn a_service_that_cannot_be_verified_gets_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = authority.service("inside.example.test").await;
    let (cert, key) = authority.sign("edge", ExtendedKeyUsagePurpose::ClientAuth);
    let ours = format!("client_cert: {}, client_key: {}", shown(&cert), shown(&key));
    let name = "server_name: inside.example.test";
    let wrong = [
        ("invalid peer certificate: BadSignature", format!("ca: {}, {ours}, {name}", shown(&other.ca()))),
        ("invalid peer certificate: UnknownIssuer", format!("{ours}, {name}")),
        ("not valid for name", format!("ca: {}, {ours}, server_name: outside.example.test", shown(&authority.ca()))),
        ("CertificateRequired", format!("ca: {}, {name}", shown(&authority.ca()))),
    ];
    for (why, tls) in wrong {
        let edge = edge_with(&upstream, &tls).await;
        let answer = Browser::logged_in(&edge, "ada").await.get(edge.url("/api/own/x")).await;
        assert_eq!(answer.status(), 502, "{tls}");
        assert_eq!(problem(answer).await["code"], "upstream_error", "{tls}");
        eventually!("the access line is written", edge.log.has(&["upstream_error"]));
        assert!(edge.log.has(&["\"upstream_error\":\"127.0.0.1:", why]), "{:?}", edge.log.entries(&["upstream_error"]));
    }
    assert_eq!(upstream.heads(), 0);
}

#[tokio::test]
async fn the_doctor_shakes_hands_as_a_request_would() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = authority.service("inside.example.test").await;
    let (cert, key) = authority.sign("edge", ExtendedKeyUsagePurpose::ClientAuth);
    let ours = format!("client_cert: {}, client_key: {}", shown(&cert), shown(&key));
    let name = "server_name: inside.example.test";
    for (well, tls) in [
        (true, format!("ca: {}, {ours}, {name}", shown(&authority.ca()))),
        (false, format!("ca: {}, {ours}, {name}", shown(&other.ca()))),
        (false, format!("ca: {}, {ours}, server_name: outside.example.test", shown(&authority.ca()))),
        (false, format!("ca: {}, {name}", shown(&authority.ca()))),
    ] {
        let setup = Setup::new().service_alone("own", &upstream.url(), None, &format!("tls: {{ {tls} }}"));
        let route = "{ id: own, path: /x, target_service: own_service, auth: none }";
        let (_code, page) = doctor(setup.route(route), "http://127.0.0.1:1", "nobody").await;
        let line = page.lines().find(|line| line.contains("own_service at")).unwrap();
        assert_eq!(line.starts_with('✓'), well, "{tls}:\n{line}");
        assert!(well || line.contains("services.own_service.tls"), "{line}");
    }
    // What a request in plain HTTP would get there is no answer of the service.
    let (https, http) = (upstream.url(), upstream.url().replace("https://", "http://"));
    let plain = Upstream::start().await;
    for (url, words) in [(http, "✗"), (plain.url(), "✓"), (https, "✗")] {
        let setup = Setup::new().service_alone("own", &url, None, "timeout: 5");
        let route = "{ id: own, path: /x, target_service: own_service, auth: none }";
        let (_code, page) = doctor(setup.route(route), "http://127.0.0.1:1", "nobody").await;
        let line = page.lines().find(|line| line.contains("own_service at")).unwrap();
        assert!(line.starts_with(words), "{line}");
        let told = line.contains("it speaks TLS there: https instead of http?") && line.ends_with("base_url");
        assert_eq!(told, words == "✗" && url.starts_with("http://"), "{line}");
    }
    assert_eq!((upstream.heads(), plain.heads()), (0, 0), "no request was sent");
}

#[tokio::test]
async fn the_browser_gets_https_http2_and_a_host_bound_cookie() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let upstream = Upstream::start().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).https(&cert, &key);
    let edge = setup.start().await;
    let browser = Browser::trusting(&std::fs::read_to_string(authority.ca()).unwrap());
    let callback = browser.authorize(&edge, "ada", "/").await;
    let answer = browser.get(&callback).await;
    let cookies = answer.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned());
    let cookies: Vec<_> = cookies.collect();
    let session = cookies.iter().find(|line| line.starts_with("__Host-Http-bff_session=")).expect("the cookie");
    let mut parts: Vec<_> = session.split("; ").skip(1).collect();
    parts.sort_unstable();
    assert_eq!(parts, ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Lax", "Secure"]);

    let answer = browser.get(edge.url("/api/own/x")).await;
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    let received = upstream.last();
    received.bearer();
    assert_eq!(received.head.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(received.head.one("x-forwarded-host"), Some(format!("localhost:{}", edge.port)));
}

/// Clients that connect and never shake hands: a quarter of the places at the most, and not for long.
#[tokio::test]
async fn handshakes_that_never_come_are_few_and_end() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let setup = Setup::new().server("max_connections: 80").server("header_timeout: 6").https(&cert, &key);
    let edge = setup.start().await;
    let pem = std::fs::read_to_string(authority.ca()).unwrap();
    let alive = async || Browser::trusting(&pem).client.get(edge.url("/health/live")).send().await;
    let mut silent = Vec::new();
    for _ in 0..15 {
        silent.push(TcpStream::connect(edge.address()).await.unwrap());
    }
    assert_eq!(alive().await.unwrap().status(), 200, "while there is room");
    for _ in 0..25 {
        silent.push(TcpStream::connect(edge.address()).await.unwrap());
    }
    let closed = |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Ok(0));
    eventually!("too many are turned away", silent.iter().filter(|stream| !closed(stream)).count() <= 20);
    assert!(alive().await.is_err(), "so is everybody else, while the others have their time");
    eventually!("they have had it", silent.iter().all(closed));
    assert_eq!(alive().await.unwrap().status(), 200, "and their places are free");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_half_of_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let (cert, key) = old.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let (next_cert, next_key) = new.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let upstream = Upstream::start().await;
    let edge = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).https(&cert, &key).start().await;
    let believed = |authority: &Authority| {
        let pem = std::fs::read_to_string(authority.ca()).unwrap();
        let url = edge.url("/health/live");
        // A client of its own: a new connection.
        async move { Browser::trusting(&pem).client.get(url).send().await.is_ok() }
    };
    assert!(believed(&old).await && !believed(&new).await);
    std::fs::copy(&next_cert, &cert).unwrap();
    assert!(!edge.reload().await, "as with any error, the whole of it is refused");
    assert!(edge.log.text().contains("server.tls.key"), "the key is still the old one: {}", edge.log.text());
    assert!(believed(&old).await, "so the old certificate stays");
    std::fs::copy(&next_key, &key).unwrap();
    assert!(edge.reload().await);
    assert!(believed(&new).await && !believed(&old).await);
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_belong_together_stop_the_start() {
    let authority = Authority::new();
    let (cert, _) = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let (_, key) = authority.sign("elsewhere", ExtendedKeyUsagePurpose::ServerAuth);
    let setup = Setup::new().service("own", "http://127.0.0.1:9", Some(AUDIENCES[0])).https(&cert, &key);
    let (status, said) = failing_run(setup, free_port()).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.contains("settings.yaml:") && said.contains("is not the key of") && !said.contains("panicked"),
        "{said}"
    );
}
