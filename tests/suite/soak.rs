//! The same load for a while, with a fault between the edges and their Redis in every part of it: nobody gets
//! anybody else's answer, nobody is lost, nothing panics, and neither memory nor files grow. Ten minutes with
//! `SCALE=full`.

use std::time::{Duration, Instant};

use crate::harness::faults::{Fault, Way};
use crate::harness::fleet::{Fleet, Watch, enrol_many, lost, replicas};
use crate::harness::{AUDIENCES, Edge, Redis, Setup, Upstream, http_client, scale};

/// Requests a second of all clients together.
const RATE: usize = 500;
const WORKERS: usize = 25;

/// What each part of the soak has to bear.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Is(Fault),
    /// Every connection, each 200 ms.
    Resets,
}

const TROUBLES: [Trouble; 4] = [
    Trouble::Is(Fault::BlackHole),
    Trouble::Is(Fault::Late(Duration::from_millis(50))),
    Trouble::Is(Fault::Late(Duration::from_millis(500))),
    Trouble::Resets,
];

impl Trouble {
    async fn last(self, way: &Way, span: Duration) {
        match self {
            Self::Is(fault) => {
                way.set(fault);
                tokio::time::sleep(span).await;
                way.set(Fault::None);
            }
            Self::Resets => {
                let until = Instant::now() + span;
                while Instant::now() < until {
                    way.cut();
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Kibibytes and files of each edge.
type Sample = Vec<(u64, usize)>;

fn sample(edges: &[Edge]) -> Sample {
    edges.iter().map(|edge| (edge.resident_kib(), edge.open_files())).collect()
}

/// Whether some requests go by of which none is refused. While Redis is in trouble, those whose session is not close
/// at hand are told 503.
async fn all_served(watch: &Watch) -> bool {
    let (served, refused) = (watch.served(), watch.unavailable());
    while watch.served() < served + 25 && watch.unavailable() == refused {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watch.unavailable() == refused
}

/// How long the program takes at most to say that it is alive.
async fn slowest_sign_of_life(url: String, span: Duration) -> Duration {
    let (client, begun, mut slowest) = (http_client(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < span {
        let asked = Instant::now();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    slowest
}

/// By the method of least squares.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn kib_an_hour(samples: &[Sample], edge: usize, apart: Duration) -> f64 {
    let points = samples.iter().enumerate().map(|(at, sample)| (at as f64, sample[edge].0 as f64));
    let points: Vec<(f64, f64)> = points.collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    above / below * 3_600.0 / apart.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_with_faults_leaves_nothing_behind() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let way = Way::to(redis.port).await;
    let legacy = format!("legacy_services: {{ svc: \"{}\" }}\n", upstream.url());
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).legacy(&legacy);
    let setup = setup.store(&format!("redis://127.0.0.1:{}", way.port)).session("grace_seconds: 30");
    let edges = replicas(&setup).await;
    let members = enrol_many(&redis.url(), &edges[0].provider.issuer, scale(60, 1_000)).await;
    assert_eq!(lost(&members, &edges.each_ref()).await, 0);

    let (parts, span) = (scale(4, 10), Duration::from_millis(scale(1_500, 60_000) as u64));
    let urls: Vec<String> =
        edges.iter().flat_map(|edge| [edge.url("/api/own/x"), edge.url("/api/v1/proxy/svc/x")]).collect();
    let pause = Duration::from_secs(1) * u32::try_from(WORKERS).unwrap() / u32::try_from(RATE).unwrap();
    let fleet = Fleet::start(&members, &urls, WORKERS, pause * 9 / 10, true);
    let (begun, mut samples) = (Instant::now(), Vec::new());
    let tidy = upstream.clone();
    let tidying = tokio::spawn(async move {
        loop {
            tidy.forget();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let live = tokio::spawn(slowest_sign_of_life(edges[0].url("/health/live"), span * u32::try_from(parts).unwrap()));
    for part in 0..parts {
        let until = Instant::now() + span;
        TROUBLES[part % TROUBLES.len()].last(&way, span / 2).await;
        eventually!("all are served again", all_served(&fleet.watch).await);
        tokio::time::sleep_until(until.into()).await;
        samples.push(sample(&edges));
        fleet.watch.times();
    }
    let took = begun.elapsed();
    tidying.abort();
    let watch = fleet.stop().await;
    let served = watch.served();
    watch.nobody_elses(&format!("{} a second for {took:?}", served / usize::try_from(took.as_secs()).unwrap().max(1)));
    let slowest = live.await.unwrap();
    println!("alive within {slowest:?}; KiB and files of each edge after each part: {samples:?}");
    let warm = &samples[parts / 3..];
    for (number, edge) in edges.iter().enumerate() {
        println!("edge {number}: {:.0} KiB an hour after warm-up", kib_an_hour(warm, number, span));
        let (first, last) = (warm[0][number], warm[warm.len() - 1][number]);
        assert!(last.0 < first.0 + 8 * 1024, "memory grows: {samples:?}");
        assert!(last.1 <= first.1 + 40, "files grow: {samples:?}");
        assert!(!edge.log.text().contains("panicked"));
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(watch.odd().is_empty(), "{:?}", watch.odd());
    assert_eq!(lost(&members, &edges.each_ref()).await, 0, "no session is lost");
}
