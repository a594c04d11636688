//! Machinery without a word of this domain: the clock, one flight at a time per
//! key, rates, and the circuit breaker.

mod breaker;
mod clock;
mod rate;
mod single_flight;

pub use breaker::{CircuitBreaker, Permit, Phase, Refused};
pub use clock::{Clock, FleetClock, ManualClock, SystemClock, UnixTime};
pub use rate::{PARTS, Rate, RateCounts, RateKey, Standing, network_of};
pub use single_flight::SingleFlight;
