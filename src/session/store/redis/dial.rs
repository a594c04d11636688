//! How a connection is made: address, credentials, TLS, and what a server must be like to keep sessions.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisConnectionInfo, TlsCertificates, Value, cmd, io::tcp::TcpSettings,
};
use tokio::time::Instant;

use super::super::StoreError;
use crate::config::{RedisAddress, RedisConfig, Secret};

/// How long a connection may take, and each answer on it.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Commands that wait to be written to one connection.
const QUEUE: usize = 1_024;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// It may come back by itself.
    Unreachable(String),
    /// Somebody has to change something: not worth starting.
    Misconfigured(String),
}

impl NoConnection {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason) | Self::Misconfigured(reason) => reason,
        }
    }

    /// With more to say of what somebody has to change.
    pub(super) fn explained(self, explain: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Misconfigured(reason) => Self::Misconfigured(explain(reason)),
            Self::Unreachable(_) => self,
        }
    }
}

impl From<redis::RedisError> for NoConnection {
    fn from(error: redis::RedisError) -> Self {
        let said = error.to_string();
        if let Some((_, change)) =
            REFUSALS.iter().find(|(words, _)| error.code() == Some(words) || said.contains(words))
        {
            return Self::Misconfigured(format!("{change} ({said})"));
        }
        let config = [ErrorKind::AuthenticationFailed, ErrorKind::InvalidClientConfig, ErrorKind::RESP3NotSupported];
        if config.contains(&error.kind()) { Self::Misconfigured(said) } else { Self::Unreachable(said) }
    }
}

/// What a server says for good, and what is to be changed then.
const REFUSALS: [(&str, &str); 7] = [
    // To the first command of all, which names no password because none is written.
    ("HELLO must be called with", "it wants a password: `session.redis.password`, or in `session.store`"),
    ("NOAUTH", "it wants a password: `session.redis.password`, or in `session.store`"),
    ("WRONGPASS", "`session.redis.username` and `password`, or those in `session.store`, are not its"),
    ("NOPERM", "its user lacks a right: conf/settings.yaml lists them at `session.redis`"),
    ("DB index is out of range", "it has no database of that number, the last part of `session.store`"),
    ("cluster support disabled", "it is no node of a cluster: `redis://` in `session.store`"),
    ("unknown command", "it is another server than `session.store` is for"),
];

/// A server that may keep sessions.
pub(super) struct Greeted {
    pub(super) connection: MultiplexedConnection,
    /// What time it said it is, since 1970, and when it was asked: twice, because one word is not enough for a
    /// replica whose own clock says something else.
    pub(super) times: [(Duration, Instant); 2],
}

/// Everything but the address.
#[derive(Clone)]
pub(super) struct Dial {
    login: RedisConnectionInfo,
    sentinel_login: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
    /// Where changes are told.
    pub(super) channel: String,
    /// How long a replica is waited for; zero: not at all.
    pub(super) replica_wait: Duration,
}

impl Dial {
    /// Reads the PEM files.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let login = login(config.username.as_deref(), config.password.as_ref()).set_db(config.database);
        let sentinel_login = login_of_sentinels(config);
        let read = |path: &std::path::PathBuf| {
            std::fs::read(path).map_err(|error| StoreError::new("redis", format!("{}: {error}", path.display())))
        };
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                // The client library takes the process' default. Another one installed it already: as well.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let client = tls.client.as_ref().map(|pair| {
                    Ok::<_, StoreError>(ClientTlsConfig {
                        client_cert: read(&pair.cert)?,
                        client_key: read(&pair.key)?,
                    })
                });
                Some(TlsCertificates {
                    client_tls: client.transpose()?,
                    root_cert: tls.ca.as_ref().map(read).transpose()?,
                })
            }
        };
        let channel = format!("{}changed:{}", config.key_prefix, config.database);
        Ok(Self { login, sentinel_login, tls, channel, replica_wait: config.replica_wait })
    }

    /// A connection that hears of changes, to a server that may keep sessions and tells the time.
    pub(super) async fn server(
        &self,
        address: &RedisAddress,
        must_be_master: bool,
        heard: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Greeted, NoConnection> {
        let heard = move |push| {
            heard(push);
            Ok::<(), redis::aio::SendError>(())
        };
        let config = timing().set_push_sender(heard).set_pipeline_buffer_size(QUEUE);
        let connection = self.connect(address, &self.login, config).await?;
        let mut asker = [(); 5].map(|()| connection.clone());
        let [first, second, third, fourth, fifth] = &mut asker;
        let role = cmd("ROLE");
        let (subscribed, policy, role, told, flushes) = tokio::join!(
            first.subscribe(&self.channel),
            eviction_policy(second),
            third.send_packed_command(&role),
            ask_time(fourth),
            hear_of_flushes(fifth),
        );
        subscribed?;
        judge_policy(policy?.as_deref(), address)?;
        if let Err(error) = flushes {
            tracing::warn!(%address, %error, "this Redis will not tell when somebody empties it (CLIENT TRACKING)");
        }
        if must_be_master && role.is_ok_and(|role| first_word(&role).is_some_and(|word| word != "master")) {
            return Err(NoConnection::Unreachable(format!("{address} is not the master")));
        }
        // All in one round trip: a server may be far away, and an attempt has a second.
        let greeting = cmd("PING");
        let (pong, scripts, told_again) =
            tokio::join!(first.send_packed_command(&greeting), runs_scripts(second), ask_time(third));
        // A server that is still reading its file says so here.
        let pong = pong?;
        if !is_there(&pong) {
            pong.extract_error()?;
            return Err(NoConnection::Unreachable("it answers PING with something else".to_owned()));
        }
        scripts?;
        Ok(Greeted { connection, times: [told?, told_again?] })
    }

    /// A connection to a sentinel.
    pub(super) async fn sentinel(&self, address: &RedisAddress) -> Result<MultiplexedConnection, NoConnection> {
        let explain = |reason| {
            format!(
                "the sentinel {address}: {reason}; sentinels have a `sentinel_username` and `sentinel_password` of \
                 their own in `session.redis`"
            )
        };
        self.connect(address, &self.sentinel_login, timing()).await.map_err(|why| why.explained(explain))
    }

    /// A connection that hears nothing, for one question.
    pub(super) async fn plain(&self, address: &RedisAddress) -> Result<MultiplexedConnection, NoConnection> {
        self.connect(address, &self.login, timing()).await
    }

    async fn connect(
        &self,
        address: &RedisAddress,
        login: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, NoConnection> {
        let (host, port) = (address.host.clone(), address.port);
        let client = match &self.tls {
            None => Client::open(info(ConnectionAddr::Tcp(host, port), login)?),
            Some(certificates) => {
                let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                Client::build_with_tls(info(address, login)?, certificates.clone())
            }
        }?;
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        // The library bounds each of its steps; this bounds them all.
        match tokio::time::timeout(PATIENCE, connected).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(NoConnection::Unreachable(format!("{address} does not answer"))),
        }
    }
}

/// Many questions share a connection: by Nagle's algorithm (RFC 1122 §4.2.3.4) those that come while one is on its way
/// would wait for its answer first, and take two round trips instead of one.
fn info(address: ConnectionAddr, login: &RedisConnectionInfo) -> redis::RedisResult<ConnectionInfo> {
    let info = address.into_connection_info()?.set_redis_settings(login.clone());
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn timing() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

fn login(username: Option<&str>, password: Option<&Secret>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password.expose());
    }
    login
}

fn login_of_sentinels(config: &RedisConfig) -> RedisConnectionInfo {
    login(config.sentinel_username.as_deref(), config.sentinel_password.as_ref())
}

/// FLUSHALL and FLUSHDB are told to whoever tracks keys, whatever keys those are; with OPTIN nobody tracks one
/// who does not ask for it (redis.io: client-side caching).
async fn hear_of_flushes(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    let ask = cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN").to_owned();
    connection.send_packed_command(&ask).await?.extract_error().map(drop)
}

/// Whether that is what a server says to PING that can be asked. One that cannot write its file refuses even that, as if
/// it were a write, and reads all the same.
pub(super) fn is_there(pong: &Value) -> bool {
    match pong {
        Value::SimpleString(word) => word == "PONG",
        Value::ServerError(error) => error.code() == "MISCONF",
        _ => false,
    }
}

/// Everything that is asked later is a script. A server that holds up writes (CLIENT PAUSE) greets as well as ever, and
/// answers none.
async fn runs_scripts(connection: &mut MultiplexedConnection) -> Result<(), NoConnection> {
    let nothing = cmd("EVAL").arg("return 1").arg(0).to_owned();
    match connection.send_packed_command(&nothing).await.and_then(Value::extract_error) {
        Ok(_) => Ok(()),
        Err(error) if error.is_timeout() => Err(NoConnection::Unreachable("it answers, and runs no script".to_owned())),
        Err(error) => Err(error.into()),
    }
}

async fn ask_time(connection: &mut MultiplexedConnection) -> Result<(Duration, Instant), NoConnection> {
    let asked = Instant::now();
    let told = connection.send_packed_command(&cmd("TIME")).await?.extract_error()?;
    let time = time_of(&told).ok_or_else(|| NoConnection::Unreachable("it does not tell the time".to_owned()))?;
    Ok((time, asked))
}

/// What TIME says: seconds and microseconds.
pub(super) fn time_of(value: &Value) -> Option<Duration> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(seconds), Value::BulkString(micros)] = parts.as_slice() else { return None };
    let number = |digits: &[u8]| str::from_utf8(digits).ok()?.parse::<u64>().ok();
    Some(Duration::from_secs(number(seconds)?).saturating_add(Duration::from_micros(number(micros)?)))
}

/// `None`: the server does not tell.
async fn eviction_policy(connection: &mut MultiplexedConnection) -> Result<Option<String>, NoConnection> {
    let asked = connection.send_packed_command(cmd("CONFIG").arg("GET").arg("maxmemory-policy")).await;
    match asked.and_then(Value::extract_error) {
        Ok(value) => Ok(pairs(&value).into_iter().find(|(key, _)| key == "maxmemory-policy").map(|(_, policy)| policy)),
        Err(error) if error.is_unrecoverable_error() => Err(error.into()),
        Err(_not_permitted) => {
            let told = connection.send_packed_command(cmd("INFO").arg("memory")).await.and_then(Value::extract_error);
            let told = told.ok().and_then(|value| text(&value));
            let line =
                told.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
            Ok(line.map(|policy| policy.trim().to_owned()))
        }
    }
}

fn judge_policy(policy: Option<&str>, address: &RedisAddress) -> Result<(), NoConnection> {
    match policy {
        Some("noeviction") => Ok(()),
        // `volatile-…` as well: whatever is kept there has an end.
        Some(policy) => Err(NoConnection::Misconfigured(format!(
            "{address} has maxmemory-policy {policy}: it would throw away sessions of logged-in users when its memory \
             is full; set `maxmemory-policy noeviction`"
        ))),
        None => {
            tracing::warn!(%address, "this Redis does not tell its maxmemory-policy; it must be noeviction");
            Ok(())
        }
    }
}

/// Why a server that was well may throw sessions away by now. One that does not tell was warned of when it was greeted.
pub(super) async fn forgets(connection: &mut MultiplexedConnection, address: &RedisAddress) -> Option<String> {
    let policy = eviction_policy(connection).await.ok().flatten()?;
    judge_policy(Some(&policy), address).err().map(|why| why.reason().to_owned())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn first_word(value: &Value) -> Option<String> {
    let Value::Array(items) = value else { return None };
    text(items.first()?)
}

pub(super) fn pairs(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(key, value)| text(key).zip(text(value))).collect(),
        Value::Array(items) => {
            items.chunks_exact(2).filter_map(|pair| text(pair.first()?).zip(text(pair.last()?))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_sent_at_once() {
        let address = ConnectionAddr::Tcp("redis".to_owned(), 6379);
        assert!(info(address, &RedisConnectionInfo::default()).unwrap().tcp_settings().nodelay());
    }
}
