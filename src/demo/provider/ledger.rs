//! What was granted to whom: codes and grants, in memory, bounded and expiring.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::refusal::Refusal;
use super::users::User;
use crate::crypto::draw_text;
use crate::resilience::UnixTime;

const CODE_LIFETIME: Duration = Duration::from_secs(60);
const GRANT_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Enough for any demo; the entry that would end first makes room.
const CAPACITY: usize = 1000;

/// What a login granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who logged in.
    pub user: &'static User,
    /// The login's `sid`.
    pub sid: String,
    /// Scopes of the authorization request.
    pub scopes: Vec<String>,
    /// Its `resource` parameters: the audiences that may be asked for later.
    pub resources: Vec<String>,
    /// `auth_time`.
    pub authenticated_at: UnixTime,
}

/// A grant on its way through the browser.
#[derive(Debug, Clone)]
pub struct Code {
    /// What it stands for.
    pub grant: Grant,
    /// `code_challenge`, S256.
    pub challenge: String,
    /// `nonce`, returned in the `id_token`.
    pub nonce: Option<String>,
}

#[derive(Debug)]
enum CodeState {
    Fresh(Code),
    /// Used; under this id the grant it became.
    Spent(String),
}

#[derive(Debug)]
struct Held {
    grant: Grant,
    /// The only refresh token that is good now.
    refresh: Option<String>,
}

#[derive(Debug)]
struct Shelf<T>(HashMap<String, (UnixTime, T)>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Shelf<T> {
    fn put(&mut self, now: UnixTime, id: String, ends: UnixTime, item: T) {
        self.0.retain(|_, (ends, _)| *ends > now);
        if self.0.len() >= CAPACITY
            && let Some(first) = self.0.iter().min_by_key(|(_, (ends, _))| *ends).map(|(id, _)| id.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(id, (ends, item));
    }

    fn get(&mut self, now: UnixTime, id: &str) -> Option<&mut T> {
        self.0.get_mut(id).filter(|(ends, _)| *ends > now).map(|(_, item)| item)
    }
}

#[derive(Debug, Default)]
struct Books {
    codes: Shelf<CodeState>,
    grants: Shelf<Held>,
}

/// Shared by all requests.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock()
    }

    /// Writes a code down; returns it.
    pub fn issue_code(&self, now: UnixTime, code: Code) -> Result<String, Refusal> {
        let id = draw_text().map_err(|_| Refusal::broken())?;
        self.books().codes.put(now, id.clone(), now.plus(CODE_LIFETIME), CodeState::Fresh(code));
        Ok(id)
    }

    /// Takes a code, once. A second time ends what the first one started (RFC 6749 §4.1.2).
    /// Returns the code and the id under which its grant may be opened.
    pub fn redeem(&self, now: UnixTime, id: &str) -> Result<(String, Code), Refusal> {
        let grant_id = draw_text().map_err(|_| Refusal::broken())?;
        let mut books = self.books();
        let Some(state) = books.codes.get(now, id) else {
            return Err(Refusal::bad("invalid_grant", "the code is unknown or too old"));
        };
        match std::mem::replace(state, CodeState::Spent(grant_id.clone())) {
            CodeState::Fresh(code) => Ok((grant_id, code)),
            CodeState::Spent(grant) => {
                books.grants.0.remove(&grant);
                Err(Refusal::bad("invalid_grant", "the code was used before; its tokens are revoked"))
            }
        }
    }

    /// Keeps `grant` under `id`; returns its first refresh token where one was asked for.
    pub fn open(&self, now: UnixTime, id: String, grant: Grant) -> Result<Option<String>, Refusal> {
        let wants_refresh = grant.scopes.iter().any(|scope| scope == "offline_access");
        let refresh = if wants_refresh { Some(refresh_token(&id)?) } else { None };
        let held = Held { grant, refresh: refresh.clone() };
        self.books().grants.put(now, id, now.plus(GRANT_LIFETIME), held);
        Ok(refresh)
    }

    /// Swaps a refresh token for its successor, if `agree` takes the request. One that was swapped
    /// before ends the whole grant: either it or its successor was stolen (RFC 9700 §4.14.2).
    pub fn rotate<T>(
        &self,
        now: UnixTime,
        presented: &str,
        agree: impl FnOnce(&Grant) -> Result<T, Refusal>,
    ) -> Result<(String, T), Refusal> {
        let unknown = || Refusal::bad("invalid_grant", "the refresh token is unknown, revoked or too old");
        let (id, _) = presented.split_once('.').ok_or_else(unknown)?;
        let mut books = self.books();
        let held = books.grants.get(now, id).ok_or_else(unknown)?;
        if held.refresh.as_deref() != Some(presented) {
            books.grants.0.remove(id);
            return Err(Refusal::bad("invalid_grant", "the refresh token was used before; the grant is revoked"));
        }
        // A refused audience costs nothing here. Not every provider is so kind: some spend the token first.
        let agreed = agree(&held.grant)?;
        let successor = refresh_token(id)?;
        held.refresh = Some(successor.clone());
        Ok((successor, agreed))
    }

    /// Ends the grant of a refresh token; whatever else comes is nothing we gave out (RFC 7009 §2.2).
    pub fn revoke(&self, presented: &str) {
        if let Some((id, _)) = presented.split_once('.') {
            self.books().grants.0.remove(id);
        }
    }

    /// Ends every grant of one login.
    pub fn end_login(&self, sid: &str) {
        self.books().grants.0.retain(|_, (_, held)| held.grant.sid != sid);
    }
}

/// Names its grant, so that a spent one can be told from an invented one.
fn refresh_token(grant_id: &str) -> Result<String, Refusal> {
    let secret = draw_text().map_err(|_| Refusal::broken())?;
    Ok(format!("{grant_id}.{secret}"))
}
