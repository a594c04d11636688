//! Who the sentinels say is the master (redis.io: guidelines for Sentinel clients).

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::{Value, cmd, from_redis_value};

use super::dial::{Dial, NoConnection};
use crate::config::RedisAddress;

/// The address of the master called `name`, from the first sentinel that knows one.
pub(super) async fn master(dial: &Dial, sentinels: &[RedisAddress], name: &str) -> Result<RedisAddress, NoConnection> {
    let mut asked: FuturesUnordered<_> = sentinels.iter().map(|sentinel| ask(dial, sentinel, name)).collect();
    let mut last = NoConnection::Unreachable("no sentinel is configured".to_owned());
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(address) => return Ok(address),
            Err(why) => last = why,
        }
    }
    Err(last)
}

async fn ask(dial: &Dial, sentinel: &RedisAddress, name: &str) -> Result<RedisAddress, NoConnection> {
    let mut connection = dial.sentinel(sentinel).await?;
    let question = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).to_owned();
    let answer = connection.send_packed_command(&question).await.and_then(Value::extract_error);
    let answer = answer.map_err(|error| match NoConnection::from(error) {
        NoConnection::Misconfigured(reason) => {
            NoConnection::Misconfigured(format!("{sentinel} is no sentinel that may be asked: {reason}"))
        }
        other @ NoConnection::Unreachable(_) => other,
    })?;
    let address: Option<(String, u16)> =
        from_redis_value(answer).map_err(|error| NoConnection::Unreachable(error.to_string()))?;
    let (host, port) = address
        .ok_or_else(|| NoConnection::Misconfigured(format!("the sentinel {sentinel} knows no master `{name}`")))?;
    Ok(RedisAddress { host, port })
}
