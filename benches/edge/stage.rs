//! Everything that runs during a measurement: upstream and provider here, the programs as children.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::apache::{self, Cache};
use crate::envoy;
use crate::peer::Peer;
use crate::scenario::Target;
use crate::stand::conf::{self, Ports};
use crate::stand::process::Process;
use crate::stand::provider::Provider;
use crate::stand::{behind, free_port, installed, logins};

/// Sessions in each store.
const SESSIONS: usize = 10_000;

/// How one program is started.
pub struct Start {
    pub target: Target,
    pub command: Vec<String>,
    pub port: u16,
}

/// Where everything is.
pub struct Stage {
    pub dir: TempDir,
    pub provider: Arc<Provider>,
    /// Where the upstream listens.
    pub service: SocketAddr,
    pub starts: Vec<Start>,
    pub redis: Option<Process>,
    /// They run from here on: the sessions of one are in its memory.
    pub peers: Vec<Peer>,
    pub cookies: Vec<String>,
    pub redis_cookies: Vec<String>,
}

impl Stage {
    /// Writes configurations and sessions; starts the upstream and, `with_peers`, Redis, Apache and Envoy, no other proxy yet.
    pub async fn set(edge: &Path, bare: &Path, with_peers: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (provider, service) = behind();
        let provider = Arc::new(provider);
        let (cookies, redis_cookies) = (Vec::new(), Vec::new());
        let mut stage =
            Self { dir, provider, service, starts: Vec::new(), redis: None, peers: Vec::new(), cookies, redis_cookies };

        let port = free_port();
        let words = [bare.display().to_string(), "bare".into(), format!("127.0.0.1:{port}"), service.to_string()];
        stage.starts.push(Start { target: Target::Bare, command: words.to_vec(), port });
        if installed("nginx") {
            stage.add_nginx(service);
        }
        let file = stage.dir.path().join("sessions.db");
        stage.cookies = stage.add_ours(edge, Target::Ours, &format!("sqlite:{}", file.display())).await;
        if !with_peers {
            return stage;
        }
        let in_memory = apache::start(&stage.folder("apache"), &stage.provider, service, Cache::Memory);
        stage.peers.extend(in_memory);
        let envoys = envoy::start(&stage.folder("envoy"), &stage.provider, service);
        stage.peers.extend(envoys);
        if installed("redis-server") {
            let port = free_port();
            let port_word = port.to_string();
            let words = ["redis-server", "--port", &port_word, "--save", "", "--maxmemory-policy", "noeviction"];
            let mut redis = Process::start(&words, 1);
            redis.wait_for(port);
            stage.redis = Some(redis);
            let store = format!("redis://127.0.0.1:{port}");
            stage.redis_cookies = stage.add_ours(edge, Target::OursRedis, &store).await;
            let in_redis = apache::start(&stage.folder("apache-redis"), &stage.provider, service, Cache::Redis(port));
            stage.peers.extend(in_redis);
        }
        stage
    }

    fn add_nginx(&mut self, service: SocketAddr) {
        let (folder, port) = (self.folder("nginx"), free_port());
        let file = folder.join("nginx.conf");
        std::fs::write(&file, conf::nginx(&folder, port, service)).unwrap();
        let command =
            ["nginx".to_owned(), "-p".into(), folder.display().to_string(), "-c".into(), file.display().to_string()];
        self.starts.push(Start { target: Target::Nginx, command: command.to_vec(), port });
    }

    async fn add_ours(&mut self, edge: &Path, target: Target, store: &str) -> Vec<String> {
        let folder = self.folder(&format!("{target:?}"));
        let ports = self.configure(&folder, store);
        self.starts.push(Start { target, command: command(edge, &folder), port: ports.public });
        logins::make(&folder, &self.provider, SESSIONS).await
    }

    /// Writes the usual configuration into a folder.
    pub fn configure(&self, folder: &Path, store: &str) -> Ports {
        let ports = Ports { public: free_port(), admin: free_port() };
        conf::write(folder, ports, store, self.provider.issuer(), self.service);
        ports
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// Our program on the configuration of a folder.
pub fn run(edge: &Path, folder: &Path) -> Process {
    let words = command(edge, folder);
    Process::start(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0)
}

fn command(edge: &Path, folder: &Path) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    vec![edge.display().to_string(), "run".into(), "--conf".into(), at("conf"), "--routes".into(), at("routes")]
}
