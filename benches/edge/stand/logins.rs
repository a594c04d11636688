//! Logins without a login: sessions written through the program's own store, before it starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pingora_bff::Config;
use pingora_bff::config::Secret;
use pingora_bff::resilience::{Clock, SystemClock};
use pingora_bff::session::{AccessToken, Identity, NewSession, Ready, Sessions, Tokens};
use pingora_bff::telemetry::Metrics;

use super::provider::{AUDIENCE, Provider};

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
    let mut cookies = Vec::with_capacity(count);
    for batch in (0..count).collect::<Vec<_>>().chunks(256) {
        let made =
            batch.iter().map(|number| sessions.create(login(provider.issuer(), *number, &token, clock.as_ref())));
        for made in futures::future::join_all(made).await {
            cookies.push(format!("bff_session={}", made.unwrap().0.expose()));
        }
    }
    cookies
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
            services: BTreeMap::from([("api".to_owned(), access)]),
            granted_audiences: vec![AUDIENCE.to_owned()],
        },
    }
}
