//! `services:` of a route file.

use std::time::Duration;

use super::server::dns_name;
use crate::config::diagnostic::{Collector, Diagnostic};
use crate::config::node::{Node, Value};
use crate::config::pem::{authority_file, client_pair};
use crate::config::reader::{Located, MapReader, entries};
use crate::config::scalar::{positive_duration, url};
use crate::config::{Place, ServiceConfig, ServiceTlsConfig};

/// Nobody waits longer for an answer to begin.
const LONG: Duration = Duration::from_secs(3600);

/// A service and the place of its name; without `config` if that could not be read, so that the name is still known.
pub(in crate::config) struct WrittenService {
    pub(in crate::config) name: Located<String>,
    pub(in crate::config) config: Option<ServiceConfig>,
}

pub(super) fn read_services(node: &Node, found: &Collector) -> Option<Vec<WrittenService>> {
    let services = entries(node, found)?.iter().map(|entry| {
        let name = Located { value: entry.key.clone(), spot: entry.key_spot.clone() };
        WrittenService { name, config: read_service(&entry.node, entry.key_spot.place(), found) }
    });
    Some(services.collect())
}

fn read_service(node: &Node, written_at: Place, found: &Collector) -> Option<ServiceConfig> {
    let mut map = MapReader::new(node, found)?;
    let base_url = map.required("base_url", url);
    let without_unit = |node: &Node| matches!(&node.value, Value::Scalar(one) if one.text.parse::<f64>().is_ok());
    let bare = map.node("timeout").is_some_and(without_unit);
    let timeout = map.located("timeout", positive_duration);
    let connect_timeout = map.field("connect_timeout", positive_duration).unwrap_or(Duration::from_secs(5));
    let tls = map.located("tls", read_tls);
    map.finish();
    if let Some(long) = timeout.as_ref().filter(|timeout| bare && timeout.value > LONG) {
        let message = format!("this service may take {} hours to answer", long.value.as_secs() / 3600);
        let warning = Diagnostic::warning(&long.spot, message);
        found.push(warning.label("a number counts seconds; milliseconds are written `500ms`"));
    }
    let timeout = timeout.map_or(Duration::from_secs(30), |timeout| timeout.value);
    let base_url = base_url?.value;
    if let Some(tls) = tls.as_ref().filter(|_| base_url.scheme() == "http") {
        let warning = Diagnostic::warning(&tls.spot, "`tls` has no effect: `base_url` is plain http");
        found.push(warning.label("write `https://…` there, or remove this"));
    }
    let tls = tls.map(|tls| tls.value).unwrap_or_default();
    Some(ServiceConfig { base_url, timeout, connect_timeout, tls, written_at })
}

fn read_tls(node: &Node, found: &Collector) -> Option<ServiceTlsConfig> {
    let mut map = MapReader::new(node, found)?;
    let ca = map.field("ca", authority_file);
    let client = client_pair(&mut map, found);
    let server_name = map.field("server_name", dns_name);
    map.finish();
    Some(ServiceTlsConfig { ca, client, server_name })
}
