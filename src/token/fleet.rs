//! A token that is one for the whole fleet: looked for in the store, then fetched by whoever has the
//! store's lease. It is no session: where the store cannot be asked, each replica fetches its own.

use std::sync::Arc;
use std::time::Duration;

use super::bearer::NoBearer;
use super::freshness::{Freshness, freshness};
use super::minted::bounded;
use crate::resilience::Clock;
use crate::session::{AccessToken, Lease, Sessions, StoreError};

/// How often a held lease is asked for again.
const POLL: Duration = Duration::from_millis(50);
/// The others wait for the one who asks as long as they would wait for the provider themselves.
const POLLS: usize = 200;

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Somebody of the fleet fetched it.
    Store,
    /// We did.
    Provider,
}

/// Which token.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What every replica calls it.
    pub(super) id: String,
    pub(super) audience: Option<String>,
    /// It is used no longer than this.
    pub(super) cache_ttl: Option<Duration>,
}

impl Wanted {
    fn bound(&self, token: AccessToken) -> AccessToken {
        bounded(token, self.cache_ttl)
    }
}

/// This replica among the others.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) threshold: Duration,
}

impl Fleet {
    /// The shared token if it is fresh, else what `mint` brings, for everybody.
    pub(super) async fn fetch(
        &self,
        wanted: &Wanted,
        mint: impl Future<Output = Result<AccessToken, NoBearer>>,
    ) -> Result<(AccessToken, Source), NoBearer> {
        match self.wait_for_turn(wanted).await {
            Ok(Turn::Found(token)) => Ok((token, Source::Store)),
            Ok(Turn::Ours(lease)) => {
                let minted = lease.hold(self.mint_for_all(wanted, mint)).await;
                lease.give_back().await;
                minted
            }
            Ok(Turn::Never) => {
                let reason = "another replica has been asking the provider for this token for too long";
                Err(NoBearer::ProviderDown(reason.to_owned()))
            }
            Err(error) => {
                tracing::warn!(%error, "a service token cannot be shared with other replicas");
                mint.await.map(|token| (wanted.bound(token), Source::Provider))
            }
        }
    }

    async fn wait_for_turn(&self, wanted: &Wanted) -> Result<Turn, StoreError> {
        for _poll in 0..POLLS {
            if let Some(token) = self.fresh(wanted).await? {
                return Ok(Turn::Found(token));
            }
            if let Some(lease) = self.sessions.shared_lease(&wanted.id, Lease::SPAN).await? {
                // Whoever had it before us may have brought it since we looked.
                return match self.fresh(wanted).await {
                    Ok(Some(token)) => {
                        lease.give_back().await;
                        Ok(Turn::Found(token))
                    }
                    _ => Ok(Turn::Ours(lease)),
                };
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Turn::Never)
    }

    async fn fresh(&self, wanted: &Wanted) -> Result<Option<AccessToken>, StoreError> {
        let shared = self.sessions.shared_token(&wanted.id).await?.map(|token| wanted.bound(token));
        Ok(shared.filter(|token| {
            wanted.audience.as_ref().is_none_or(|audience| token.audience.contains(audience))
                && freshness(token, self.clock.now(), self.threshold) == Freshness::Fresh
        }))
    }

    async fn mint_for_all(
        &self,
        wanted: &Wanted,
        mint: impl Future<Output = Result<AccessToken, NoBearer>>,
    ) -> Result<(AccessToken, Source), NoBearer> {
        let token = mint.await?;
        if let Err(error) = self.sessions.share_token(&wanted.id, &token).await {
            tracing::warn!(%error, "a service token was fetched and cannot be shared with other replicas");
        }
        // As it is for the others: their routes may keep it for longer.
        Ok((wanted.bound(token), Source::Provider))
    }
}

/// What became of waiting.
enum Turn {
    Found(AccessToken),
    Ours(Lease),
    /// The one who asks takes too long.
    Never,
}
