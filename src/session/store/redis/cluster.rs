//! Keeps the map of a cluster: which master has which slots, asked again whenever it proves wrong.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::time::{sleep, timeout};

use super::dial::{NoConnection, PATIENCE};
use super::nodes::{Kept, Nodes};
use crate::config::{RedisAddress, RedisServers};

/// How often the map is looked at when nothing is wrong, and when something is.
const CALM: Duration = Duration::from_secs(2);
const TROUBLED: Duration = Duration::from_millis(150);
/// Not more often than this.
const GAP: Duration = Duration::from_millis(50);

/// One range of slots and its master.
type Range = (u16, u16, RedisAddress);

/// Runs as long as `nodes` are there.
pub(super) async fn survey(nodes: Weak<Nodes>) {
    loop {
        let Some(here) = nodes.upgrade() else { return };
        match ask_anybody(&here).await {
            Ok(ranges) => {
                *here.unmapped.lock() = None;
                adopt(&here, ranges);
            }
            Err(why) => {
                let told = here.unmapped.lock().replace(why.clone());
                if told.as_ref() != Some(&why) {
                    tracing::error!(reason = why.reason(), "no node of the Redis cluster tells who has what");
                }
            }
        }
        let span = if here.all_up() { CALM } else { TROUBLED };
        sleep(GAP).await;
        let _ = timeout(span, here.lost.notified()).await;
    }
}

async fn ask_anybody(nodes: &Nodes) -> Result<Vec<Range>, NoConnection> {
    let RedisServers::Cluster(seeds) = &nodes.servers else { return Ok(Vec::new()) };
    let map = nodes.map();
    let connected = map.kept.iter().filter_map(|kept| Some((kept.address.clone()?, kept.link.up()?)));
    let connected: Vec<_> = connected.collect();
    for (address, connection) in connected {
        if let Ok(ranges) = ask(connection.inner, &address).await {
            return Ok(ranges);
        }
    }
    let mut addresses = seeds.clone();
    addresses.extend(map.kept.iter().filter_map(|kept| kept.address.clone()));
    addresses.sort();
    addresses.dedup();
    let mut asked: FuturesUnordered<_> =
        addresses.iter().map(|address| async move { ask(nodes.dial.plain(address).await?, address).await }).collect();
    let mut down = NoConnection::Unreachable("no node of the cluster is configured".to_owned());
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(ranges) => return Ok(ranges),
            // Of several reasons the one that somebody can do something about.
            Err(why) if matches!(down, NoConnection::Unreachable(_)) => down = why,
            Err(_) => {}
        }
    }
    Err(down)
}

async fn ask(mut connection: MultiplexedConnection, asked: &RedisAddress) -> Result<Vec<Range>, NoConnection> {
    let question = cmd("CLUSTER").arg("SLOTS").to_owned();
    let answer = timeout(PATIENCE, connection.send_packed_command(&question)).await;
    let answer = answer.map_err(|_| NoConnection::Unreachable(format!("{asked} does not answer")))?;
    let Value::Array(rows) = answer.and_then(Value::extract_error)? else { return Err(unclear(asked)) };
    let ranges: Option<Vec<Range>> = rows.into_iter().map(|row| range(row, asked)).collect();
    ranges.filter(|ranges| !ranges.is_empty()).ok_or_else(|| unclear(asked))
}

fn unclear(asked: &RedisAddress) -> NoConnection {
    NoConnection::Unreachable(format!("{asked} knows no slots: is it a node of a cluster?"))
}

/// `[first, last, [host, port, …], …replicas]`; an empty host means the one that was asked.
fn range(row: Value, asked: &RedisAddress) -> Option<Range> {
    let Value::Array(cells) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = cells.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::SimpleString(host) => host.clone(),
        _ => String::new(),
    };
    let host = if host.is_empty() { asked.host.clone() } else { host };
    let address = RedisAddress { host, port: u16::try_from(*port).ok()? };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, address))
}

fn adopt(nodes: &Arc<Nodes>, mut ranges: Vec<Range>) {
    ranges.sort();
    let map = nodes.map();
    let mut known: Vec<Arc<Kept>> = map.kept.clone();
    let (mut next, mut whole) = (0_u32, true);
    let mut new = Vec::new();
    for (first, last, address) in ranges {
        whole &= u32::from(first) == next;
        next = u32::from(last) + 1;
        let there = known.iter().find(|kept| kept.address.as_ref() == Some(&address)).cloned();
        let kept = there.unwrap_or_else(|| {
            let kept = nodes.keep(address.to_string(), Some(address));
            known.push(Arc::clone(&kept));
            kept
        });
        new.push((last, kept));
    }
    nodes.adopt(new, whole && next == 16384);
}
