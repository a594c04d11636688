//! Every service of `routes/` and of `legacy_services.yaml`: can it be reached from here.

use std::net::SocketAddr;

use futures::future::join_all;
use url::Url;

use super::report::Report;
use crate::config::Config;
use crate::legacy::as_service;
use crate::upstream::{Unreachable, Upstream, UpstreamError};

/// A service and where its keys are.
struct Patient {
    name: String,
    url: Url,
    place: String,
    /// Whether `place` is a mapping with keys of its own; a legacy service is its address.
    keyed: bool,
    built: Result<Upstream, UpstreamError>,
}

pub(super) async fn examine(config: &Config, report: &mut Report<'_>) {
    let services = config.services.iter().map(|(name, service)| Patient {
        name: name.clone(),
        url: service.base_url.clone(),
        place: format!("{}: services.{name}", service.written_at),
        keyed: true,
        built: Upstream::build(name, service),
    });
    visit("Services", services.collect(), report).await;
    let file = config.conf_dir.join("legacy_services.yaml");
    let legacy = config.legacy.services.iter().map(|(name, service)| Patient {
        name: name.clone(),
        url: service.base_url.clone(),
        place: format!("{}: legacy_services.{name} (or its LEGACY_SERVICE_*_URL)", file.display()),
        keyed: false,
        built: Upstream::build(name, &as_service(service, &config.conf_dir)),
    });
    visit("Legacy services", legacy.collect(), report).await;
}

/// All at once: a dead one takes its whole connect timeout.
async fn visit(title: &str, patients: Vec<Patient>, report: &mut Report<'_>) {
    if patients.is_empty() {
        return;
    }
    report.section(title);
    let answers = join_all(patients.iter().map(|patient| async move {
        match &patient.built {
            Ok(upstream) => upstream.reach().await.map_err(|error| key_and_words(&error)),
            Err(error) => Err(("tls", error.to_string())),
        }
    }));
    for (patient, answer) in patients.iter().zip(answers.await) {
        tell(patient, answer, report);
    }
}

fn key_and_words(error: &Unreachable) -> (&'static str, String) {
    let key = match error {
        Unreachable::Name(_) | Unreachable::Connection(_) | Unreachable::OnlyTls | Unreachable::NoTls => "base_url",
        Unreachable::Tls(_) => "tls",
    };
    (key, error.to_string())
}

fn tell(patient: &Patient, answer: Result<SocketAddr, (&str, String)>, report: &mut Report<'_>) {
    let what = format!("{} at {}", patient.name, shown(&patient.url));
    match answer {
        Ok(address) if patient.url.scheme() == "https" => {
            report.good(what, format_args!("{address} answers, its certificate is believed"));
        }
        Ok(address) => report.good(what, format_args!("{address} answers")),
        Err((key, words)) if patient.keyed => report.bad(what, words, format_args!("{}.{key}", patient.place)),
        Err((_, words)) => report.bad(what, words, &patient.place),
    }
}

/// Without a password somebody may have written into it.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}
