//! Real Redis servers as child processes: alone, behind sentinels, as a cluster. Each listens on a
//! port of its own, appends to a file in a folder of its own, and ends with the test: a shell waits
//! at our end of a pipe and kills its one child when we close it, however we ended.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pingora_bff::config::{RedisAddress, RedisConfig, RedisServers};
use pingora_bff::session::store::RedisStore;
use pingora_bff::telemetry::Metrics;
use redis::{Cmd, FromRedisValue};
use tempfile::TempDir;

use super::free_port;

/// One `redis-server`, ended when dropped.
pub(crate) struct Redis {
    shell: Child,
    dir: TempDir,
    /// On 127.0.0.1.
    pub(crate) port: u16,
    sentinel: bool,
}

impl Redis {
    /// With its own defaults and these lines of configuration.
    pub(crate) fn start(lines: &str) -> Self {
        Self::start_as(lines, false)
    }

    fn start_as(lines: &str, sentinel: bool) -> Self {
        // Somebody else may take the port between the look and the start.
        for _ in 0..5 {
            let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
            let mut text = format!("port {port}\nbind 127.0.0.1\ndir {}\nlogfile redis.log\n", dir.path().display());
            if !sentinel {
                text.push_str("save \"\"\nappendonly yes\nappendfsync everysec\nrepl-diskless-sync-delay 0\n");
            }
            writeln!(text, "{lines}").unwrap();
            std::fs::write(dir.path().join("redis.conf"), text).unwrap();
            assert!(installed(), "redis-server is needed; tests/run installs it");
            let shell = spawn(&dir, sentinel);
            let redis = Self { shell, dir, port, sentinel };
            if redis.answers_within(Duration::from_secs(10)) {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    fn answers_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until && !self.log().contains("Failed listening on port") {
            if self.try_ask::<String>(&redis::cmd("PING")).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn kill9(&self) {
        self.signal("KILL");
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it again with the same files, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        self.end();
        self.shell = spawn(&self.dir, self.sentinel);
        assert!(self.answers_within(Duration::from_secs(10)), "it does not start again:\n{}", self.log());
    }

    /// Stops it without ending it: it accepts connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Goes on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// It cannot write its file any more (or can again), and refuses every write therefore, and PING.
    pub(crate) fn cannot_save(&self, broken: bool) {
        // In the place of the file.
        let folder = self.dir.path().join("dump.rdb");
        let save = if broken { "3600 1000000" } else { "" };
        if broken {
            std::fs::create_dir_all(folder.join("x")).unwrap();
        }
        self.ask::<()>(redis::cmd("CONFIG").arg("SET").arg("save").arg(save));
        if broken {
            self.ask::<String>(&redis::cmd("BGSAVE"));
        }
        wait("it refuses, or does no more", || self.try_ask::<String>(&redis::cmd("PING")).is_err() == broken);
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).unwrap();
        let kill = format!("kill -{name} {pid}");
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Closes the pipe: the shell kills the server and ends.
    fn end(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"end\n");
        }
        let _ = self.shell.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `session.store` of this server.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// One command and its answer.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_ask(command).unwrap()
    }

    fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection_with_timeout(Duration::from_millis(500))?;
        connection.set_read_timeout(Some(Duration::from_millis(500)))?;
        command.query(&mut connection)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            println!("--- what redis {} said:\n{}", self.port, self.log());
        }
    }
}

fn installed() -> bool {
    Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn spawn(dir: &TempDir, sentinel: bool) -> Child {
    let run = format!("redis-server redis.conf {}", if sentinel { "--sentinel" } else { "" });
    // Whoever ends in order says so first and removes the folder; else the shell does.
    let last = "read -r _ || gone=1; kill -KILL $!; wait $!; [ -z \"$gone\" ] || rm -rf \"$PWD\"";
    let script = format!("{run} & echo $! > pid; {last}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(dir.path());
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A master with one replica, and three sentinels that agree on who is which.
pub(crate) struct Sentinels {
    /// The master at the start, and its replica.
    pub(crate) servers: [Redis; 2],
    pub(crate) sentinels: Vec<Redis>,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let master = Redis::start("");
        let replica = Redis::start(&format!("replicaof 127.0.0.1 {}", master.port));
        let lines = format!(
            "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n",
            master.port
        );
        let sentinels: Vec<Redis> = (0..3).map(|_| Redis::start_as(&lines, true)).collect();
        let all = Self { servers: [master, replica], sentinels };
        all.wait("the sentinels know each other and the replica", |sentinel| {
            let rows = |what: &str| sentinel.ask::<Vec<redis::Value>>(redis::cmd("SENTINEL").arg(what).arg("main"));
            rows("SENTINELS").len() == 2 && rows("REPLICAS").len() == 1
        });
        all
    }

    fn wait(&self, what: &str, condition: impl Fn(&Redis) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.sentinels.iter().all(&condition) {
            assert!(Instant::now() < until, "did not happen: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What somebody asks for who wants to restart the master in peace.
    pub(crate) fn fail_over(&self) {
        self.sentinels[0].ask::<()>(redis::cmd("SENTINEL").arg("FAILOVER").arg("main"));
    }

    pub(crate) fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(Redis::address).collect();
        format!("redis+sentinel://{}/main", addresses.join(","))
    }
}

/// Three masters with a third of the slots each, and a replica of each where asked for.
pub(crate) struct Cluster {
    /// The masters at the start.
    pub(crate) masters: Vec<Redis>,
    replicas: Vec<Redis>,
}

impl Cluster {
    pub(crate) fn start(with_replicas: bool) -> Self {
        let node = || {
            let lines = "cluster-enabled yes\ncluster-node-timeout 1000\ncluster-require-full-coverage no\n";
            Redis::start(&format!("{lines}cluster-port {}", free_port()))
        };
        let masters: Vec<Redis> = (0..3).map(|_| node()).collect();
        let replicas: Vec<Redis> = (0..if with_replicas { 3 } else { 0 }).map(|_| node()).collect();
        for (master, (first, last)) in masters.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            master.ask::<()>(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last));
        }
        let cluster = Self { masters, replicas };
        let nodes = cluster.nodes();
        for node in nodes.iter().skip(1) {
            let bus: Vec<String> = node.ask(redis::cmd("CONFIG").arg("GET").arg("cluster-port"));
            let meet = redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port).arg(&bus[1]).to_owned();
            nodes[0].ask::<()>(&meet);
        }
        let known = |node: &&Redis, count: usize| {
            node.ask::<String>(redis::cmd("CLUSTER").arg("NODES")).matches(" connected").count() == count
        };
        wait("the nodes know each other", || nodes.iter().all(|node| known(node, nodes.len())));
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id: String = master.ask(redis::cmd("CLUSTER").arg("MYID"));
            replica.ask::<()>(redis::cmd("CLUSTER").arg("REPLICATE").arg(id));
        }
        let healthy = |node: &&Redis| {
            let info: String = node.ask(redis::cmd("CLUSTER").arg("INFO"));
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        };
        wait("the cluster is whole", || nodes.iter().all(healthy));
        let synced =
            |node: &Redis| node.ask::<String>(redis::cmd("INFO").arg("replication")).contains("link_status:up");
        wait("the replicas follow", || cluster.replicas.iter().all(synced));
        cluster
    }

    fn nodes(&self) -> Vec<&Redis> {
        self.masters.iter().chain(&self.replicas).collect()
    }

    pub(crate) fn url(&self) -> String {
        let addresses: Vec<String> = self.masters.iter().map(Redis::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `session.store: URL` says of one of ours, with a key prefix nobody else has.
pub(crate) fn redis_config(url: &str) -> RedisConfig {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (kind, rest) = url.split_once("://").unwrap();
    let (hosts, master) = rest.split_once('/').unwrap_or((rest, ""));
    let address = |text: &str| {
        let (host, port) = text.split_once(':').unwrap();
        RedisAddress { host: host.to_owned(), port: port.parse().unwrap() }
    };
    let mut addresses: Vec<RedisAddress> = hosts.split(',').map(address).collect();
    let servers = match kind {
        "redis" => RedisServers::One(addresses.remove(0)),
        "redis+sentinel" => RedisServers::Sentinel { sentinels: addresses, master: master.to_owned() },
        "redis+cluster" => RedisServers::Cluster(addresses),
        _ => panic!("{url}"),
    };
    RedisConfig {
        servers,
        tls: None,
        username: None,
        password: None,
        database: 0,
        key_prefix: format!("t{}:", NEXT.fetch_add(1, Ordering::Relaxed)),
        replica_wait: Duration::from_millis(100),
        sentinel_username: None,
        sentinel_password: None,
    }
}

/// A store at `url` that shares nothing with other tests.
pub(crate) fn redis_store(url: &str) -> RedisStore {
    RedisStore::open(&redis_config(url), &Metrics::new().unwrap()).unwrap()
}
