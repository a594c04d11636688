//! How many sessions one person may have, and how many logins may be under way.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

use super::flow::FLOW_LIFETIME;
use super::model::Session;
use super::sessions::Sessions;
use super::store::{Selector, StoreError};
use crate::resilience::{UnixTime, network_of};

/// The part of all places that one address may take.
const SHARE: usize = 10;

/// Why no login may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// Too many of this address have been begun and not finished.
    #[error("too many unfinished logins of one address")]
    Address,
    /// Too many of everybody.
    #[error("too many unfinished logins")]
    All,
}

/// Logins begun here and not finished: each is a note in the store, and anybody can begin one.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    rounds: Mutex<Rounds>,
}

/// Who began lately, and who before that; what is older has expired.
#[derive(Debug, Default)]
struct Rounds {
    begun: UnixTime,
    young: Round,
    old: Round,
}

#[derive(Debug, Default)]
struct Round {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Round {
    fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    fn take_out(&mut self, address: IpAddr) -> bool {
        let Some(count) = self.by_address.get_mut(&address) else { return false };
        *count -= 1;
        if *count == 0 {
            self.by_address.remove(&address);
        }
        self.all -= 1;
        true
    }
}

impl Waiting {
    /// 0: everybody may wait.
    pub(super) fn new(most: usize) -> Self {
        Self { most, rounds: Mutex::default() }
    }

    fn enter(&self, address: IpAddr, now: UnixTime) -> Result<(), Crowded> {
        if self.most == 0 {
            return Ok(());
        }
        let mut rounds = self.rounds.lock();
        // The store may have told since that it is earlier.
        rounds.begun = rounds.begun.min(now);
        if rounds.begun.until(now) >= FLOW_LIFETIME {
            let stale = rounds.begun.until(now) >= FLOW_LIFETIME * 2;
            let young = std::mem::take(&mut rounds.young);
            rounds.old = if stale { Round::default() } else { young };
            rounds.begun = now;
        }
        if rounds.young.all + rounds.old.all >= self.most {
            return Err(Crowded::All);
        }
        if rounds.young.of(address) + rounds.old.of(address) >= (self.most / SHARE).max(1) {
            return Err(Crowded::Address);
        }
        rounds.young.all += 1;
        *rounds.young.by_address.entry(address).or_default() += 1;
        Ok(())
    }

    fn leave(&self, address: IpAddr) {
        let mut rounds = self.rounds.lock();
        if !rounds.young.take_out(address) {
            rounds.old.take_out(address);
        }
    }
}

impl Sessions {
    /// A place for one more login, to be left with [`Self::leave_login`]; else it is free again when
    /// the login has expired. Counted in this process: replicas do not ask each other.
    pub fn enter_login(&self, client: IpAddr) -> Result<(), Crowded> {
        self.waiting.enter(network_of(client), self.clock.now())
    }

    /// The login of this client goes on, well or not. It may have begun at another replica, as others
    /// of that address may have begun here.
    pub fn leave_login(&self, client: IpAddr) {
        self.waiting.leave(network_of(client));
    }

    /// Ends the oldest sessions of this person where there are more than allowed; how many. All replicas
    /// agree on which those are: of logins that come at once each counts them, and the same stay. The
    /// newest itself is among them only where as many as are allowed have come after it. Who is over as far as the store
    /// knows takes no place: one that nobody can use any more would push out one that is used.
    pub async fn end_oldest(&self, newest: &Session) -> Result<usize, StoreError> {
        if self.max_per_user == 0 {
            return Ok(0);
        }
        let keys = self.store.find(&person(newest), self.now()?).await?;
        let mut ended = 0;
        for key in keys.iter().take(keys.len().saturating_sub(self.max_per_user)) {
            ended += usize::from(self.end_key(key, "superseded").await?);
        }
        Ok(ended)
    }

    /// Ends the other sessions of this one's person; how many that were.
    pub async fn end_others(&self, session: &Session, reason: &'static str) -> Result<usize, StoreError> {
        let mut keys = self.keys_of(&person(session)).await?;
        keys.retain(|key| *key != session.key);
        self.end_keys(keys, reason).await
    }
}

fn person(session: &Session) -> Selector {
    Selector::Subject { issuer: session.identity.issuer.clone(), subject: session.identity.subject.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn one_address_takes_a_tenth_and_all_together_take_all() {
        let waiting = Waiting::new(20);
        let enter = |number| waiting.enter(address(number), UnixTime(1_000));
        assert_eq!([enter(0), enter(0), enter(0)], [Ok(()), Ok(()), Err(Crowded::Address)]);
        for number in 1..10 {
            assert_eq!([enter(number), enter(number)], [Ok(()), Ok(())]);
        }
        assert_eq!(enter(11), Err(Crowded::All));
        waiting.leave(address(0));
        waiting.leave(address(99));
        assert_eq!([enter(11), enter(12)], [Ok(()), Err(Crowded::All)]);
    }

    #[test]
    fn what_was_never_finished_is_forgotten_in_time() {
        let waiting = Waiting::new(10);
        let enter = |at| waiting.enter(address(0), UnixTime(at));
        assert_eq!([enter(1_000), enter(1_001), enter(1_600)], [Ok(()), Err(Crowded::Address), Err(Crowded::Address)]);
        assert_eq!([enter(2_200), enter(2_300)], [Ok(()), Err(Crowded::Address)]);
        waiting.leave(address(0));
        assert_eq!([enter(2_300), enter(9_000)], [Ok(()), Ok(())]);
        assert_eq!(waiting.rounds.lock().old.by_address.len(), 0);
    }

    #[test]
    fn nobody_is_turned_away_where_there_is_no_bound() {
        let waiting = Waiting::new(0);
        assert!((0..1_000).all(|_| waiting.enter(address(0), UnixTime(1)).is_ok()));
        waiting.leave(address(0));
    }
}
