//! Machinery without a word of this domain: the clock, and one flight at a time per key.

mod clock;
mod single_flight;

pub use clock::{Clock, ManualClock, SystemClock, UnixTime};
pub use single_flight::SingleFlight;
