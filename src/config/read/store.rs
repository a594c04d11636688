//! `session.store` and `session.redis` of `settings.yaml`.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::mask::holds_secret;
use crate::config::node::Node;
use crate::config::pem::{authority_file, client_pair};
use crate::config::reader::{MapReader, refuse};
use crate::config::scalar::{duration, quote, quote_text, secret, text};
use crate::config::source::Spot;
use crate::config::{CertifiedPair, RedisAddress, RedisConfig, RedisServers, RedisTlsConfig, Secret, StoreConfig};

const STORES: &str = "allowed: `sqlite:PATH` (one machine), `memory:` (lost at restart), `redis://HOST:PORT/DB`, \
                      `redis+sentinel://HOST:PORT,HOST:PORT/MASTER`, `redis+cluster://HOST:PORT,HOST:PORT`; \
                      `rediss…` is TLS";

/// A replica beside its master answers within a few; the bound is for one that does not.
const REPLICA_WAIT: Duration = Duration::from_millis(100);

/// `session.store`.
pub(super) fn store(node: &Node, found: &Collector) -> Option<StoreConfig> {
    let written = text(node, found)?;
    if written == "memory:" {
        return Some(StoreConfig::Memory);
    }
    if let Some(path) = written.strip_prefix("sqlite:") {
        if path.is_empty() {
            return refuse(node, found, "`sqlite:` needs the path of a file", "e.g. `sqlite:data/sessions.db`");
        }
        if let Some(instead) = misread(path) {
            let message = format!("{} is not the path of a file", quote(&node.spot, &written));
            let label = if holds_secret(path) { String::new() } else { format!("write `{instead}`") };
            return refuse(node, found, message, label);
        }
        return Some(StoreConfig::Sqlite(PathBuf::from(path)));
    }
    if !written.starts_with("redis") {
        let message = format!("{} is not a session store", quote(&node.spot, &written));
        found.push(Diagnostic::error(&node.spot, message).note(STORES));
        return None;
    }
    match redis(&written) {
        Ok(redis) => Some(StoreConfig::Redis(Box::new(redis))),
        Err(message) => {
            found.push(Diagnostic::error(&node.spot, message).note(STORES));
            None
        }
    }
}

/// What other programs mean by such a path. Taken as it stands, it would be a file of that name, or one at the root.
fn misread(path: &str) -> Option<String> {
    if path == ":memory:" {
        return Some("memory:".to_owned());
    }
    let relative = path.strip_prefix("//").filter(|rest| !rest.is_empty() && !rest.starts_with('/'))?;
    Some(format!("sqlite:{relative}` or `sqlite:/{relative}"))
}

/// What a URL says. Errors never repeat it: it may carry a password.
fn redis(url: &str) -> Result<RedisConfig, String> {
    let (scheme, rest) = url.split_once("://").ok_or("a Redis store is written `redis://HOST:PORT`")?;
    let (scheme, kind) = scheme.split_once('+').map_or((scheme, None), |(scheme, kind)| (scheme, Some(kind)));
    let tls = match scheme {
        "redis" => None,
        "rediss" => Some(RedisTlsConfig::default()),
        _ => return Err(format!("{} is not a session store", quote_text(&format!("{scheme}://")))),
    };
    if rest.split_once(['/', '?', '#']).is_some_and(|(_, behind)| behind.contains('@')) {
        return Err("before the `@` of a Redis URL, `/` is written `%2F`, `?` is `%3F` and `#` is `%23`".to_owned());
    }
    if rest.contains(['?', '#']) {
        return Err("a Redis URL takes no `?` or `#`: options are keys of `session.redis`".to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let (username, password) = credentials(user)?;
    let addresses = |port| hosts.split(',').map(|host| address(host, port)).collect::<Result<Vec<_>, _>>();
    let (servers, database) = match kind {
        None => match addresses(6379)?.as_slice() {
            [one] => (RedisServers::One(one.clone()), path),
            _ => {
                return Err("`redis://` names one server; several are `redis+cluster://` or `redis+sentinel://`".into());
            }
        },
        Some("sentinel") => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err("`redis+sentinel://` ends with the name of the master: `…/mymaster`".to_owned());
            }
            (RedisServers::Sentinel { sentinels: addresses(26379)?, master: decoded(master)? }, database)
        }
        Some("cluster") if matches!(path, "" | "0") => (RedisServers::Cluster(addresses(6379)?), ""),
        Some("cluster") => return Err("a Redis Cluster has no database but 0".to_owned()),
        Some(other) => return Err(format!("{} is not a session store", quote_text(&format!("{scheme}+{other}://")))),
    };
    let database = match database {
        "" => 0,
        digits => digits.parse::<u16>().map_err(|_| "the database of a Redis URL is a number".to_owned())?.into(),
    };
    let key_prefix = "bff:".to_owned();
    Ok(RedisConfig {
        servers,
        tls,
        username,
        password,
        database,
        key_prefix,
        replica_wait: REPLICA_WAIT,
        sentinel_username: None,
        sentinel_password: None,
    })
}

fn credentials(user: Option<&str>) -> Result<(Option<String>, Option<Secret>), String> {
    let Some(user) = user else { return Ok((None, None)) };
    let (name, password) =
        user.split_once(':').ok_or("credentials in a Redis URL are `USER:PASSWORD@` or `:PASSWORD@`")?;
    let name = decoded(name)?;
    Ok(((!name.is_empty()).then_some(name), Some(Secret::new(decoded(password)?))))
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "a Redis URL's %-escapes are not UTF-8".to_owned())
}

fn address(text: &str, default_port: u16) -> Result<RedisAddress, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':').or(Some(""))),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("a Redis URL names a host: `redis://HOST:PORT`".to_owned());
    }
    let port = match port {
        None => default_port,
        Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or("a port is a number up to 65535")?,
    };
    Ok(RedisAddress { host: host.to_owned(), port })
}

/// `session.redis`: what does not fit into the URL, put into `store`.
pub(super) fn read_redis(node: &Node, found: &Collector) -> Option<WrittenRedis> {
    let mut map = MapReader::new(node, found)?;
    let written = WrittenRedis {
        spot: node.spot.clone(),
        ca: map.field("ca", authority_file),
        client: client_pair(&mut map, found),
        key_prefix: map.field("key_prefix", key_prefix),
        replica_wait: map.field("replica_wait", replica_wait),
        username: map.field("username", text),
        password: map.field("password", secret),
        sentinel_username: map.field("sentinel_username", text),
        sentinel_password: map.field("sentinel_password", secret),
    };
    map.finish();
    Some(written)
}

/// `session.redis`.
pub(super) struct WrittenRedis {
    spot: Spot,
    ca: Option<PathBuf>,
    client: Option<CertifiedPair>,
    key_prefix: Option<String>,
    replica_wait: Option<Duration>,
    username: Option<String>,
    password: Option<Secret>,
    sentinel_username: Option<String>,
    sentinel_password: Option<Secret>,
}

impl WrittenRedis {
    /// Adds what is written here to what the URL says.
    pub(super) fn complete(self, store: &mut StoreConfig, found: &Collector) {
        let fail = |message: &str| found.push(Diagnostic::error(&self.spot, message));
        let StoreConfig::Redis(redis) = store else {
            let message = "`session.redis` is written although `session.store` is no Redis";
            found.push(Diagnostic::warning(&self.spot, message));
            return;
        };
        match &mut redis.tls {
            Some(tls) => *tls = RedisTlsConfig { ca: self.ca, client: self.client },
            None if self.ca.is_some() || self.client.is_some() => {
                fail("certificates are for TLS: write `rediss://…` in `session.store`");
            }
            None => {}
        }
        if redis.password.is_some() && self.password.is_some() {
            fail("the password is written twice: in `session.store` and in `session.redis`");
        }
        redis.key_prefix = self.key_prefix.unwrap_or_else(|| redis.key_prefix.clone());
        redis.replica_wait = self.replica_wait.unwrap_or(redis.replica_wait);
        redis.username = self.username.or_else(|| redis.username.clone());
        redis.password = self.password.or_else(|| redis.password.clone());
        redis.sentinel_username = self.sentinel_username;
        redis.sentinel_password = self.sentinel_password;
    }
}

/// A login and a refresh wait so long at the most when a replica hangs.
fn replica_wait(node: &Node, found: &Collector) -> Option<Duration> {
    let wait = duration(node, found)?;
    if wait <= Duration::from_secs(5) {
        return Some(wait);
    }
    refuse(node, found, "a login would wait too long for a replica that hangs", "at most `5s`; 0 does not wait")
}

/// Braces would move the hash tag that keeps the keys of one session on one node.
fn key_prefix(node: &Node, found: &Collector) -> Option<String> {
    let prefix = text(node, found)?;
    if prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}*?[]\\".contains(&byte)) {
        return Some(prefix);
    }
    refuse(
        node,
        found,
        format!("{} is not a key prefix", quote(&node.spot, &prefix)),
        "visible ASCII without {}, *, ?, [], \\",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> RedisAddress {
        RedisAddress { host: host.to_owned(), port }
    }

    #[test]
    fn urls_say_servers_credentials_and_database() {
        let one = redis("redis://ada:p%40ss@redis.example:7000/3").unwrap();
        assert_eq!(one.servers, RedisServers::One(at("redis.example", 7000)));
        assert_eq!((one.username.as_deref(), one.database), (Some("ada"), 3));
        assert_eq!(one.password, Some(Secret::new("p@ss")));
        assert!(one.tls.is_none());
        let tls = redis("rediss://:x@[::1]").unwrap();
        assert_eq!((tls.servers, tls.username, tls.tls.is_some()), (RedisServers::One(at("::1", 6379)), None, true));
        let sentinels = vec![at("a", 26379), at("b", 5)];
        let expected = RedisServers::Sentinel { sentinels, master: "main".to_owned() };
        let sentinel = redis("redis+sentinel://a,b:5/main/2").unwrap();
        assert_eq!((sentinel.servers, sentinel.database), (expected, 2));
        let cluster = redis("rediss+cluster://a:1,b:2").unwrap();
        assert_eq!(cluster.servers, RedisServers::Cluster(vec![at("a", 1), at("b", 2)]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "redis:x",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:99999",
            "redis://a/x",
            "redis://me@a",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis+x://a",
            "redisx://a",
            "redis://a?x=1",
            "redis://u:12/x@a",
            "redis+sentinel://u:12/x@a",
            "redis://[::1]x",
        ] {
            assert!(redis(wrong).is_err(), "{wrong}");
        }
    }
}
