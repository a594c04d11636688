//! Machinery without a word of this domain: the clock, one flight at a time per
//! key, rates, retries, and the circuit breaker.

mod breaker;
mod budget;
mod clock;
mod rate;
mod single_flight;
mod timestamp;
mod unfinished;

pub use breaker::{CircuitBreaker, Permit, Phase, Refused, Stage};
pub use budget::RetryBudget;
pub use clock::{Clock, FleetClock, ManualClock, SystemClock, UnixTime, whole_seconds};
pub use rate::{Rate, RateCounts, RateKey, Standing, micros, network_of};
pub use single_flight::SingleFlight;
pub use timestamp::Timestamp;
pub use unfinished::Unfinished;
