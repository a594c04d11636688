//! The deployment kit in `conf/examples/`: its configurations are clean, its manifests say what the
//! program does, and three replicas behind haproxy work as shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pingora_bff::cli::check::check;
use pingora_bff::config::Config;
use rcgen::generate_simple_self_signed;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{AUDIENCES, Browser, Log, Provider, Redis, SECRET, Upstream, free_port, http_client};

/// 32 bytes.
const SESSION_SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// `server.drain_delay`, where nothing else is written.
const DRAIN_DELAY: u64 = 5;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(example(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "BFF_PUBLIC_URL" => "https://app.example.com",
        "BFF_SESSION_SECRET" => SESSION_SECRET,
        "BFF_ISSUER" => "https://idp.example.com",
        "BFF_CLIENT_ID" => "bff",
        "BFF_CLIENT_SECRET" => "secret",
        "BFF_REDIS" => "redis://redis:6379",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn the_examples_are_clean() {
    for name in ["haproxy", "kubernetes"] {
        let (code, said) = check(&example(&format!("{name}/conf")), &example(&format!("{name}/routes")), &environment);
        assert_eq!(code, 0, "{name}: {said}");
        assert!(said.starts_with("configuration is clean"), "{name}: {said}");
    }
}

fn manifest(name: &str) -> Value {
    serde_yaml::from_str(&read(&format!("kubernetes/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_manifests_say_what_the_program_does() {
    let (conf, routes) = (example("kubernetes/conf"), example("kubernetes/routes"));
    let settings = Config::load(&conf, &routes, &environment).unwrap().settings;
    let kinds = [
        ("deployment.yaml", "Deployment"),
        ("service.yaml", "Service"),
        ("disruption-budget.yaml", "PodDisruptionBudget"),
        ("network-policy.yaml", "NetworkPolicy"),
        ("kustomization.yaml", "Kustomization"),
    ];
    for (name, kind) in kinds {
        assert_eq!(manifest(name)["kind"], kind);
    }
    let kustomization = manifest("kustomization.yaml");
    for resource in kustomization["resources"].as_array().unwrap() {
        assert!(kinds.iter().any(|(name, _)| resource == name), "{resource}");
    }
    for generated in kustomization["configMapGenerator"].as_array().unwrap() {
        for file in generated["files"].as_array().unwrap() {
            assert!(example("kubernetes").join(file.as_str().unwrap()).exists(), "{file}");
        }
    }
    let deployment = manifest("deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > DRAIN_DELAY + settings.server.shutdown_grace.as_secs(), "a pod is killed while it drains");
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
    };
    assert_eq!(port("public"), Some(u64::from(settings.server.listen[0].port())));
    assert_eq!(port("admin"), Some(u64::from(settings.server.admin_listen.port())));
    for (probe, path) in [("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")] {
        let probe = &container[probe]["httpGet"];
        assert_eq!((&probe["path"], &probe["port"]), (&json!(path), &json!("admin")));
    }
    let ready = &container["readinessProbe"];
    let borne = ready["periodSeconds"].as_u64().unwrap() * ready["failureThreshold"].as_u64().unwrap();
    assert_eq!(borne, settings.session.grace.as_secs(), "Redis away: no pod is left, or one that refuses everybody");
    let service = manifest("service.yaml");
    let targets: Vec<&Value> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["targetPort"]).collect();
    assert_eq!(targets, [&json!("public")], "the admin port is nobody's");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (name, selector) in
        [("service.yaml", "/spec/selector"), ("network-policy.yaml", "/spec/podSelector/matchLabels")]
    {
        assert_eq!(manifest(name).pointer(selector), Some(labels), "{name}");
    }
}

#[test]
fn unit_and_container_start_the_program_as_it_wants() {
    let (unit, container) = (read("systemd/pingora-bff.service"), read("container/Containerfile"));
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
    };
    let stop: u64 = value("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    assert!(stop > DRAIN_DELAY + 30, "it is killed while it drains");
    assert_eq!(value("KillSignal"), "SIGTERM");
    for key in ["ExecStart", "ExecStartPre"] {
        let line = value(key);
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        // `--help` after them: the arguments are known, and nothing is started.
        let help = Command::new(env!("CARGO_BIN_EXE_pingora-bff")).args(&arguments).arg("--help").output().unwrap();
        assert!(help.status.success(), "{line}: {}", String::from_utf8_lossy(&help.stderr));
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(container.contains("--profile dist") && manifest.contains("[profile.dist]"));
    assert!(container.contains("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"));
}

#[test]
fn the_unit_lets_through_what_the_program_calls() {
    let unit = read("systemd/pingora-bff.service");
    assert!(unit.lines().any(|line| line == "SystemCallErrorNumber=EPERM"), "killed by SIGSYS for a call too many");
    // `nice` of a reload is `setpriority`, one of @resources; of two lines about one call the later counts.
    let mut filters = unit.lines().rev().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let allowed = filters.find_map(|calls| match calls.strip_prefix('~') {
        Some(refused) => refused.split(' ').any(|call| call == "@resources").then_some(false),
        None => calls.split(' ').any(|call| call == "setpriority").then_some(true),
    });
    assert_eq!(allowed, Some(true));
}

/// A program of the example; killed by its id when dropped.
struct Part {
    child: Child,
    log: Log,
}

impl Part {
    fn start(program: &str, arguments: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap() + ":/usr/sbin");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{program} is needed, tests/run installs it: {error}"));
        let log = Log::default();
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        Self { child, log }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- one part said:\n{}", self.log.text());
        }
    }
}

/// Three replicas of the example and its haproxy, all on this machine.
struct House {
    redis: Redis,
    upstream: Upstream,
    provider: &'static Provider,
    ports: [u16; 3],
    edge: u16,
    /// Certificate and key of the edge.
    folder: TempDir,
    certificate: String,
}

impl House {
    async fn build() -> Self {
        let signed = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = signed.cert.pem();
        let both = format!("{certificate}{}", signed.signing_key.serialize_pem());
        fs::write(folder.path().join("edge.pem"), both).unwrap();
        let (redis, upstream, provider) = (Redis::start(""), Upstream::start().await, Provider::shared());
        let house = Self {
            redis,
            upstream,
            provider,
            ports: [(); 3].map(|()| free_port()),
            edge: free_port(),
            folder,
            certificate,
        };
        provider.register("kit", &house.origin(), &json!({})).await;
        house
    }

    fn origin(&self) -> String {
        format!("https://localhost:{}", self.edge)
    }

    fn replica(&self, number: usize) -> Part {
        let variables = [
            ("BFF_LISTEN", format!("127.0.0.1:{}", self.ports[number])),
            ("BFF_ADMIN_LISTEN", format!("127.0.0.1:{}", free_port())),
            ("BFF_PUBLIC_URL", self.origin()),
            ("BFF_PROXY", "127.0.0.1".to_owned()),
            ("BFF_REDIS", self.redis.url()),
            ("BFF_SESSION_SECRET", SESSION_SECRET.to_owned()),
            ("BFF_ISSUER", self.provider.issuer.clone()),
            ("BFF_CLIENT_ID", "kit".to_owned()),
            ("BFF_CLIENT_SECRET", SECRET.to_owned()),
            ("BFF_ORDERS_URL", self.upstream.url()),
            ("BFF_ORDERS_AUDIENCE", AUDIENCES[1].to_owned()),
        ];
        let (conf, routes) = (example("haproxy/conf"), example("haproxy/routes"));
        let arguments = ["run", "--conf", conf.to_str().unwrap(), "--routes", routes.to_str().unwrap()];
        Part::start(env!("CARGO_BIN_EXE_pingora-bff"), &arguments, &variables)
    }

    fn balancer(&self) -> Part {
        let address = |number: usize| format!("127.0.0.1:{}", self.ports[number]);
        let variables = [
            ("EDGE_BIND", format!("127.0.0.1:{}", self.edge)),
            ("EDGE_CERT", self.folder.path().join("edge.pem").display().to_string()),
            ("EDGE_A", address(0)),
            ("EDGE_B", address(1)),
            ("EDGE_C", address(2)),
        ];
        Part::start("haproxy", &["-db", "-f", example("haproxy/haproxy.cfg").to_str().unwrap()], &variables)
    }

    async fn is_ready(&self, number: usize) -> bool {
        let asked = http_client().get(format!("http://127.0.0.1:{}/health/ready", self.ports[number])).send().await;
        asked.is_ok_and(|answer| answer.status() == 200)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_behind_haproxy_lose_nobody_when_one_is_killed() {
    let house = House::build().await;
    let mut replicas = [0, 1, 2].map(|number| house.replica(number));
    for number in 0..3 {
        eventually!("a replica is ready", house.is_ready(number).await);
    }
    let _balancer = house.balancer();
    let (browser, orders) = (Browser::trusting(&house.certificate), format!("{}/api/orders/1", house.origin()));
    let through = async || browser.client.get(&orders).send().await.is_ok_and(|answer| answer.status() == 401);
    eventually!("haproxy answers", through().await);
    let start = format!("{}/auth/login?return_to=/", house.origin()).parse().unwrap();
    let callback = browser.walk(start, "ada", &format!("{}/auth/callback", house.origin())).await;
    assert_eq!(browser.get(&callback).await.status(), 302);
    let first = browser.get(&orders).await;
    assert_eq!((first.status().as_u16(), first.headers().contains_key("ratelimit")), (200, true));
    let told = house.upstream.last();
    assert_eq!(told.head.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(told.head.one("x-forwarded-host"), Some(format!("localhost:{}", house.edge)));

    // A user who goes on and on, while a replica is killed and comes back.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (browser, orders, stop, asked) = (browser.clone(), orders.clone(), Arc::clone(&stop), Arc::clone(&asked));
        load.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(browser.get(&orders).await.status(), 200, "nobody notices");
                asked.fetch_add(1, Ordering::SeqCst);
                // The example lets a person ask ten times a second.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    let more = async |what: &'static str| {
        let before = asked.load(Ordering::SeqCst);
        eventually!("requests go on", asked.load(Ordering::SeqCst) >= before + 12);
        println!("{what}: {} requests", asked.load(Ordering::SeqCst));
    };
    more("all up").await;
    replicas[0].signal("KILL");
    more("one killed").await;
    replicas[0] = house.replica(0);
    eventually!("the killed one is back", house.is_ready(0).await);
    more("it is back").await;
    stop.store(true, Ordering::SeqCst);
    load.join_all().await;
    assert_eq!(browser.get(format!("{}/auth/session", house.origin())).await.status(), 200);
}
