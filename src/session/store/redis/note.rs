//! Notes as Redis keeps them: `END:value`, so that a note is over by the clock of whoever reads it, too.

use redis::Value;

use super::super::StoreError;
use super::record::{number, unclear};
use crate::resilience::UnixTime;

/// What is stored of a note.
pub(super) fn write(value: &[u8], expires_at: UnixTime) -> Vec<u8> {
    let mut stored = format!("{}:", expires_at.0).into_bytes();
    stored.extend_from_slice(value);
    stored
}

/// The note of an answer, unless it is over.
pub(super) fn read(answer: Vec<Value>, now: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
    let stored = match answer.into_iter().next() {
        Some(Value::BulkString(stored)) => stored,
        Some(Value::Nil) => return Ok(None),
        _ => return Err(unclear()),
    };
    let colon = stored.iter().position(|byte| *byte == b':').ok_or_else(unclear)?;
    let (end, value) = stored.split_at_checked(colon).ok_or_else(unclear)?;
    let end = number(&Value::BulkString(end.to_vec()))?;
    Ok((now.0 < end).then(|| value.iter().skip(1).copied().collect()))
}
