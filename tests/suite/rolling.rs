//! Three replicas behind a balancer that looks at `/health/ready`, restarted one after the other under
//! load: no request fails, no login is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::harness::{AUDIENCES, Browser, Load, Redis, Setup, Upstream, http_client, scale};

/// Passes connections to whoever is ready.
struct Balancer {
    port: u16,
    /// Bits of those that are ready.
    ready: Arc<AtomicUsize>,
}

impl Balancer {
    async fn bind() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Self { port: listener.local_addr().unwrap().port(), ready: Arc::default() }, listener)
    }

    fn serve(&self, listener: TcpListener, behind: [SocketAddr; 3]) {
        for (number, address) in behind.into_iter().enumerate() {
            let ready = Arc::clone(&self.ready);
            tokio::spawn(async move {
                let client = http_client();
                loop {
                    let answer = client.get(format!("http://{address}/health/ready")).send().await;
                    if answer.is_ok_and(|answer| answer.status() == 200) {
                        ready.fetch_or(1 << number, Ordering::SeqCst);
                    } else {
                        ready.fetch_and(!(1 << number), Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        let ready = Arc::clone(&self.ready);
        tokio::spawn(async move {
            let mut next = 0;
            while let Ok((mut client, _)) = listener.accept().await {
                next += 1;
                let bits = ready.load(Ordering::SeqCst);
                let chosen = (next..next + 3).map(|number| number % 3).find(|number| bits & (1 << number) != 0);
                let Some(address) = chosen.map(|number| behind[number]) else { continue };
                tokio::spawn(async move {
                    client.set_nodelay(true).unwrap();
                    let Ok(mut replica) = TcpStream::connect(address).await else { return };
                    replica.set_nodelay(true).unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
                });
            }
        });
    }

    fn ready(&self) -> u32 {
        self.ready.load(Ordering::SeqCst).count_ones()
    }
}

/// Twenty rounds with `SCALE=full`.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_not_noticed() {
    let (redis, upstream) = (Redis::start(""), Upstream::start().await);
    let (balancer, listener) = Balancer::bind().await;
    let setup = Setup::new().service("own", &upstream.url(), Some(AUDIENCES[0])).store(&redis.url());
    let setup = setup.public_port(balancer.port).grace(10).drain_delay("600ms");
    let first = setup.clone().start().await;
    let second = setup.clone().start_beside(&first).await;
    let third = setup.start_beside(&first).await;
    let mut edges = [first, second, third];
    balancer.serve(listener, [edges[0].address(), edges[1].address(), edges[2].address()]);
    eventually!("all are ready", balancer.ready() == 3);
    let browser = Browser::logged_in(&edges[0], "ada").await;
    let load = Load::start(&edges[0].url("/api/own/x"), &browser.cookie_header(&edges[0].origin), 6, 3);
    let mut logins = 0;
    for _ in 0..scale(3, 20) {
        for number in 0..edges.len() {
            let login = Browser::keeping_nothing();
            let callback = login.authorize(&edges[0], "bob", "/").await;
            edges[number].sigterm();
            let status = edges[number].exit_status(Duration::from_secs(10)).await.expect("it ends within its grace");
            assert_eq!(status.code(), Some(0), "{status}");
            assert_eq!(login.get(&callback).await.status(), 302, "a login goes on with another replica");
            assert_eq!(login.get(edges[0].url("/api/own/x")).await.status(), 200);
            logins += 1;
            edges[number].start_again().await;
            eventually!("it is back", balancer.ready() == 3);
        }
    }
    let (answered, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:#?}", failed.len());
    assert!(answered > 500, "{answered}");
    assert_eq!(logins, 3 * scale(3, 20));
    assert_eq!(browser.get(edges[0].url("/auth/session")).await.status(), 200);
}
