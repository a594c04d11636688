//! Many requests of every kind, each with secrets of its own that all hold one mark: wherever the program writes,
//! the mark is not there. 100 000 with `SCALE=full`. (What a whole life of a session says at the most talkative
//! log level is in `secrets`.)

use std::sync::{Arc, Mutex};

use reqwest::{Client, Response};
use serde_json::json;

use crate::harness::liar::{Canned, Liar, begin, now, tokens};
use crate::harness::{Browser, Edge, SECRET, Upstream, builder, scale};
use crate::secrets::{contains, edge, everything_written, spellings};

const MARK: &str = "Zq7xV9mark2Lw";
const API: &str = "https://api.example.test";
const WORKERS: usize = 16;
const SESSIONS: usize = 8;

/// What one client has: a session, and where it goes.
struct Caller {
    client: Client,
    cookie: String,
    base: String,
    forged: String,
}

/// A login whose tokens hold the mark.
async fn log_in(edge: &Edge, liar: &Liar, number: usize) -> Browser {
    let begun = begin(edge, liar).await;
    let answer = tokens(&json!({
        "id_token": liar.sign(&begun.claims("note", json!(format!("{MARK}-id-{number}")))),
        "access_token": format!("{MARK}-access-{number}"),
        "refresh_token": format!("{MARK}-refresh-{number}"),
        "expires_in": 36_000,
    }));
    liar.answer("/token", Canned::json(&answer));
    let back = begun.back(edge, &liar.base, &format!("code={MARK}-code-{number}"));
    assert!(begun.browser.get(&back).await.status().is_redirection());
    begun.browser
}

impl Caller {
    /// The answer, and whether all of it is the program's own.
    async fn ask(&self, number: usize) -> (Response, bool) {
        let secret = format!("{MARK}-{number}");
        let at = |path: &str| format!("{}{path}?token={secret}&n={number}", self.base);
        let get = |path: &str| self.client.get(at(path));
        let own = |path: &str| get(path).header("cookie", format!("{}; other={secret}", self.cookie));
        let ours = !matches!(number % 12, 0..=2);
        let request = match number % 12 {
            0 => own("/pass/x").header("x-api-key", &secret).header("x-csrf-token", &secret),
            1 => self.client.post(at("/pass/x")).header("cookie", &self.cookie).body(secret.clone()),
            2 => own("/api/v1/proxy/svc/x").header("authorization", format!("Basic {secret}")),
            3 => get("/robots/x").bearer_auth(&secret),
            4 => get("/robots/x").bearer_auth(&self.forged),
            5 => get("/pass/x").header("cookie", format!("bff_session={secret}")),
            6 => own("/dead/x"),
            7 => own("/nowhere"),
            8 => get("/pass/x").header("cookie", format!("bff_session={secret}; bff_session={secret}")),
            9 => self.client.get(format!("{}/auth/callback?state={secret}&code={secret}&iss={secret}", self.base)),
            10 => self.client.post(at("/auth/backchannel-logout")).form(&[("logout_token", &secret)]),
            _ => get("/auth/session").header("cookie", format!("bff_session={secret}")).bearer_auth(&secret),
        };
        (request.send().await.unwrap(), ours)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mark_is_left_by_many_requests() {
    let (liar, upstream) = (Liar::start().await, Upstream::start().await);
    let mut edge = edge(&liar, &upstream, "pingora_bff=debug,info", 5).await;
    let forged = json!({ "iss": liar.base, "aud": API, "sub": MARK, "iat": now(), "exp": now() + 3_600 });
    let forged = liar.sign(&forged).rsplit_once('.').unwrap().0.to_owned() + "." + &"A".repeat(86);
    let mut cookies = Vec::new();
    for number in 0..SESSIONS {
        cookies.push(log_in(&edge, &liar, number).await.cookie_header(&edge.origin));
    }
    let (all, shown) = (scale(2_400, 100_000), Arc::new(Mutex::new(Vec::<u8>::new())));
    let statuses = Arc::new(Mutex::new(std::collections::BTreeMap::<u16, usize>::new()));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let client = Caller {
            client: builder().build().unwrap(),
            cookie: cookies[worker % SESSIONS].clone(),
            base: edge.origin.clone(),
            forged: forged.clone(),
        };
        let (shown, statuses, upstream) = (Arc::clone(&shown), Arc::clone(&statuses), upstream.clone());
        workers.spawn(async move {
            for number in (worker..all).step_by(WORKERS) {
                let (answer, ours) = client.ask(number).await;
                *statuses.lock().unwrap().entry(answer.status().as_u16()).or_default() += 1;
                let head = format!("{:?}", answer.headers());
                let body = answer.bytes().await.unwrap();
                if ours {
                    let mut shown = shown.lock().unwrap();
                    shown.extend_from_slice(head.as_bytes());
                    shown.extend_from_slice(&body);
                } else if number % 1_000 == 0 {
                    assert!(contains(&body, MARK.as_bytes()), "the service is sent what it is to be sent");
                    upstream.forget();
                }
            }
        });
    }
    workers.join_all().await;
    let mut written = everything_written(&mut edge).await;
    written.insert(0, ("answers".to_owned(), std::mem::take(&mut *shown.lock().unwrap())));
    let bytes: usize = written.iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{all} requests, {:?}: {bytes} bytes written in {} places", statuses.lock().unwrap(), written.len());
    let (_, log) = written.last().unwrap();
    assert!(log.split(|byte| *byte == b'\n').count() > all, "each request has its line");
    assert!(contains(log, b"\"code\":\"invalid_token\""), "and can be searched");
    for (place, bytes) in &written {
        for secret in [MARK, SECRET] {
            for spelling in spellings(secret) {
                assert!(!contains(bytes, &spelling), "{} in {place}", spelling.escape_ascii());
            }
        }
    }
}
