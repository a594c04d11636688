//! Logins without a login: sessions written through the program's own store, before it starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use pingora_bff::Config;
use pingora_bff::config::Secret;
use pingora_bff::resilience::{Clock, SystemClock};
use pingora_bff::session::{AccessToken, Identity, NewSession, Ready, Sessions, Tokens};
use pingora_bff::telemetry::Metrics;

use super::provider::{AUDIENCE, Provider};

/// Logins on their way; the store writes what waits in one transaction.
const AT_ONCE: usize = 512;

/// Makes `count` sessions in the store that the configuration in `dir` names; their `Cookie` headers.
pub async fn make(dir: &Path, provider: &Provider, count: usize) -> Vec<String> {
    let config = Config::load(&dir.join("conf"), &dir.join("routes"), &|_| None).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = config.settings.session.clone();
    let metrics = Arc::new(Metrics::new().unwrap());
    let open = {
        let clock = Arc::clone(&clock);
        move || Sessions::open(&settings, clock, metrics).unwrap()
    };
    let sessions = tokio::task::spawn_blocking(open).await.unwrap();
    // One signature for all: what is measured never reads it.
    let token = provider.access_token("somebody");
    let sessions = Arc::new(sessions);
    let issuer = provider.issuer();
    let making = futures::stream::iter(0..count).map(|number| {
        let (sessions, new) = (Arc::clone(&sessions), login(issuer, number, &token, clock.as_ref()));
        // Tasks of their own: sealing goes on while the store writes what came before.
        tokio::spawn(async move { format!("bff_session={}", sessions.create(new).await.unwrap().0.expose()) })
    });
    making.buffer_unordered(AT_ONCE).map(Result::unwrap).collect().await
}

/// The login of one invented person.
pub fn login(issuer: &str, number: usize, token: &str, clock: &dyn Clock) -> NewSession {
    let now = clock.now();
    let access = AccessToken {
        secret: Secret::new(token),
        audience: vec![AUDIENCE.to_owned()],
        scopes: ["openid", "orders.read", "orders.write"].map(str::to_owned).to_vec(),
        issued_at: now,
        expires_at: Some(now.plus(std::time::Duration::from_secs(86_400))),
        ready: Ready::default(),
    };
    let claims = [("name", format!("Somebody {number}")), ("email", format!("s{number}@bench.example"))];
    NewSession {
        identity: Identity {
            issuer: issuer.to_owned(),
            subject: format!("user-{number}"),
            provider: "bench".to_owned(),
            claims: claims.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
        },
        idp_session: Some(format!("sid-{number}")),
        authenticated_at: now,
        tokens: Tokens {
            id_token: Secret::new(token),
            refresh_token: Some(Secret::new("r".repeat(64))),
            login: access.clone(),
            services: BTreeMap::from([("api".to_owned(), Box::new(access))]),
            granted_audiences: vec![AUDIENCE.to_owned()],
        },
    }
}
