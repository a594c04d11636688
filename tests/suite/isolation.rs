//! Whose answer each answer is, in great numbers: many users at once on kept connections and HTTP/2, of whom some
//! hang up. A million requests with `SCALE=full`, or as many as `REQUESTS` says; `EDGE_BINARY` for another build.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora_bff::session::CookieToken;

use crate::harness::fleet::{Member, enrol_many};
use crate::harness::rush::{Question, Rush, Score, Service};
use crate::harness::{AUDIENCES, Edge, Redis, Setup, scale, told};

const OWN: Question = Question { path: "/api/own/x", echoed: true };
/// May be stored, for each user apart.
const STORED: Question = Question { path: "/api/v1/proxy/svc/same", echoed: true };
const NOT_STORED: Question = Question { path: "/api/v1/proxy/svc/other", echoed: true };
const STATUS: Question = Question { path: "/auth/session", echoed: false };

fn requests() -> usize {
    told("REQUESTS").unwrap_or_else(|| scale(10_000, 1_000_000))
}

async fn house(redis: &Redis, users: usize) -> (Edge, Service, Vec<Member>) {
    let service = Service::start();
    let facade = format!(
        "legacy_services: {{ svc: \"{}\" }}\n\
         response_cache: {{ enabled: true, default_ttl: 0, max_size: 100000 }}\n",
        service.url()
    );
    let setup = Setup::new().service("own", &service.url(), Some(AUDIENCES[0])).store(&redis.url()).legacy(&facade);
    let edge = setup.silent().start().await;
    let members = enrol_many(&redis.url(), &edge.provider.issuer, users).await;
    (edge, service, members)
}

/// `leaving` of a hundred clients hang up.
fn rush<'a>(edge: &Edge, members: &'a [Member], questions: &'a [Question], leaving: usize) -> Rush<'a> {
    Rush { edge: edge.address(), members, questions, requests: requests(), lines: 48, in_turn: false, leaving }
}

fn run(rush: &Rush<'_>) -> Score {
    tokio::task::block_in_place(|| rush.run())
}

/// One of twenty hangs up; the façade's cache answers many.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_answer_of_somebody_else_however_many_there_are() {
    let redis = Redis::start("");
    let (edge, _service, members) = house(&redis, scale(300, 10_000)).await;
    let questions = [OWN, STORED, NOT_STORED, STATUS];
    let rush = rush(&edge, &members, &questions, 5);
    let score = run(&rush);
    score
        .nobody_elses(&rush, &format!("of all kinds, {:.1} s of CPU of the edge", edge.processor_time().as_secs_f64()));
    assert!(score.hits > 0, "the cache took part");
    assert!(score.left * 100 / rush.requests >= 3, "{} hung up", score.left);
}

/// As news of another replica, all the time and about everybody: so nobody stays close at hand, and most requests
/// are a question to Redis.
fn unsettle(redis: &Redis, members: &[Member], over: &AtomicBool) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let news = |member: &Member| {
        let token = CookieToken::parse(member.cookie.trim_start_matches("bff_session=").as_bytes()).unwrap();
        format!("somebody {}", token.session_key().hex())
    };
    let news: Vec<String> = members.iter().map(news).collect();
    while !over.load(Ordering::SeqCst) {
        let mut pipe = redis::pipe();
        for _ in 0..100 {
            pipe.publish("bff:changed:0", &news[fastrand::usize(0..news.len())]).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A client that hangs up leaves a question to Redis behind; nobody may be given its answer.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_leaves_no_answer_for_somebody_else() {
    let redis = Redis::start("");
    let (edge, _service, members) = house(&redis, scale(300, 10_000)).await;
    let over = AtomicBool::new(false);
    let questions = [OWN, STATUS];
    let rush = rush(&edge, &members, &questions, 10);
    let score = std::thread::scope(|scope| {
        scope.spawn(|| unsettle(&redis, &members, &over));
        let score = run(&rush);
        over.store(true, Ordering::SeqCst);
        score
    });
    let asked = edge.metric("bff_session_lookups_total{result=\"hit\",tier=\"store\"}").await;
    score.nobody_elses(
        &rush,
        &format!("{asked} questions to Redis, {:.1} s of CPU of the edge", edge.processor_time().as_secs_f64()),
    );
    assert!(score.left >= rush.requests / 100, "{} hung up", score.left);
    assert!(usize::try_from(asked).unwrap() > rush.requests / 10, "{asked} questions");
}
