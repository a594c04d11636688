//! The embedded store and `kill -9`: whoever was told to be logged in is logged in afterwards, and the program is
//! back at once. A hundred times at a hundred thousand sessions with `SCALE=full`; `EDGE_BINARY` for another build.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use pingora_bff::config::StoreConfig;
use pingora_bff::resilience::{Clock, SystemClock};
use pingora_bff::session::Sessions;
use pingora_bff::telemetry::Metrics;

use crate::harness::fleet::{Member, enrol, session_config};
use crate::harness::mint::Mint;
use crate::harness::rush::{Question, Queue, Rush, Service, per_second};
use crate::harness::{Edge, Setup, scale, told};

const PASS: Question = Question { path: "/pass/x", echoed: true };

/// So many sessions in the file of an edge that does not run.
async fn fill(file: &Path, issuer: &str, count: usize) -> Vec<Member> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = session_config(StoreConfig::Sqlite(file.to_owned()));
    let registry = &Sessions::open(&config, clock, Arc::new(Metrics::new().unwrap())).unwrap();
    let one = |number| async move { enrol(registry, issuer, &format!("old{number}"), number).await.unwrap() };
    futures::stream::iter((0..count).map(one)).buffered(256).collect().await
}

/// Every one of them is served as itself. A busy machine may leave a request without an answer, which is no loss: all
/// are asked again then.
fn all_live(edge: &Edge, members: &[Member], what: &str) {
    let (edge_at, questions) = (edge.address(), [PASS]);
    let rush = Rush {
        edge: edge_at,
        members,
        questions: &questions,
        requests: members.len(),
        lines: 12,
        in_turn: true,
        leaving: 0,
    };
    let mut odd = Vec::new();
    while odd.len() < 3 {
        let score = rush.run();
        assert_eq!(score.wrong.0, 0, "{what}: {}", score.wrong.1);
        if score.answered == members.len() {
            return;
        }
        odd.push(score.odd);
    }
    panic!("{what}: acknowledged sessions are lost: {odd:?}");
}

/// The file is as SQLite writes it, to the last record.
fn whole(file: &Path) -> usize {
    let file = rusqlite::Connection::open(file).unwrap();
    let word: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(word, "ok");
    file.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

/// Starts it again; how long it took until somebody got an answer.
async fn back(edge: &mut Edge, asker: &Member) -> Duration {
    let begun = Instant::now();
    edge.start_again().await;
    let edge_at = edge.address();
    let one = std::slice::from_ref(asker);
    let rush =
        Rush { edge: edge_at, members: one, questions: &[PASS], requests: 1, lines: 1, in_turn: true, leaving: 0 };
    let score = tokio::task::block_in_place(|| rush.run());
    let took = begun.elapsed();
    assert_eq!(score.answered, 1, "{:?}", score.odd);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_a_rush_of_logins_loses_nobody_who_was_told_to_be_in() {
    let (mint, service, next) = (Mint::start(|_| 36_000), Service::start(), AtomicUsize::new(0));
    let pass = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
                token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service_alone("any", &service.url(), None, "timeout: 15").route(pass).silent();
    let mut edge = setup.provider_at(&mint.issuer).start().await;
    let (file, client_id) = (edge.folder().join("sessions.db"), edge.client_id.clone());
    edge.kill9();
    let old = fill(&file, &mint.issuer, scale(500, 100_000)).await;
    let mut restarts = vec![back(&mut edge, &old[0]).await];
    let rounds = told("ROUNDS").unwrap_or_else(|| scale(5, 100));
    let (mut all, mut rushing, mut failed, mut cpu) = (Vec::new(), Duration::ZERO, 0, 0.0);
    for round in 1..=rounds {
        let (over, span) = (AtomicBool::new(false), Duration::from_millis(fastrand::u64(200..1_200)));
        let name = |number| format!("new{number}");
        let queue = Queue { edge: edge.address(), client_id: &client_id, threads: 32, name, next: &next };
        let before = edge.processor_time().as_secs_f64();
        let (came, others) = std::thread::scope(|scope| {
            let rush = scope.spawn(|| queue.run(usize::MAX, &over));
            tokio::task::block_in_place(|| std::thread::sleep(span));
            cpu += edge.processor_time().as_secs_f64() - before;
            edge.kill9();
            over.store(true, Ordering::SeqCst);
            rush.join().unwrap()
        });
        rushing += span;
        failed += others.len();
        assert!(others.iter().all(|why| !why.contains("no login")), "{others:?}");
        let records = if round % 10 == 0 || round == rounds { whole(&file) } else { usize::MAX };
        assert!(records >= old.len() + all.len() + came.len(), "{records} records");
        restarts.push(back(&mut edge, came.first().unwrap_or(&old[round])).await);
        tokio::task::block_in_place(|| all_live(&edge, &came, &format!("round {round}")));
        all.extend(came);
    }
    tokio::task::block_in_place(|| all_live(&edge, &all, "at the end"));
    tokio::task::block_in_place(|| all_live(&edge, &old[..old.len().min(5_000)], "at the end, from before"));
    restarts.sort();
    println!(
        "{rounds} kills: {} logins acknowledged ({}/s, {:.1} ms of CPU each), {failed} cut, none lost; {} sessions; back after {:?} (median), \
         {:?} at the most",
        all.len(),
        per_second(all.len(), rushing),
        1_000.0 * cpu / f64::from(u32::try_from(all.len().max(1)).unwrap()),
        old.len() + all.len(),
        restarts[restarts.len() / 2],
        restarts[restarts.len() - 1]
    );
    assert!(all.len() >= rounds, "there was a rush: {}", all.len());
    assert!(restarts[restarts.len() / 2] < Duration::from_secs(5), "{restarts:?}");
}
