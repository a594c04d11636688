//! Rates counted for all replicas: one short script on one key that lives no longer than the window.

use std::time::Duration;

use super::super::StoreError;
use super::ask::Question;
use super::record::{number, unclear};
use super::{RedisStore, millis, script};
use crate::resilience::{Rate, Standing, micros};

impl RedisStore {
    pub(super) async fn count_for_all(&self, name: &str, rate: &Rate) -> Result<Standing, StoreError> {
        let key = self.names.rate(name, rate.burst.is_some());
        let question = match rate.burst {
            None => Question::new("rate", script::WINDOW, key)
                .arg(rate.requests)
                .arg(rate.part())
                .arg(micros(rate.period))
                .arg(millis(rate.period).saturating_add(1)),
            Some(burst) => Question::new("rate", script::BUCKET, key).arg(burst.max(1)).arg(rate.interval()),
        };
        let answer = self.asker.ask(question).await?;
        let [welcome, remaining, wait] = answer.as_slice() else { return Err(unclear()) };
        let wait = Duration::from_micros(u64::try_from(number(wait)?).map_err(|_| unclear())?);
        let remaining = u32::try_from(number(remaining)?).map_err(|_| unclear())?;
        Ok(Standing { refused: (number(welcome)? == 0).then_some(wait), remaining, reset: wait })
    }
}
