//! Records and other values as Redis keeps them.

use redis::Value;

use super::super::{Record, StoreError};
use crate::resilience::UnixTime;

/// A text field that may be missing: `-`, or `=` and the text.
pub(super) fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| format!("={text}"))
}

/// What [`optional`] wrote.
fn read_optional(text: &str) -> Option<String> {
    text.strip_prefix('=').map(ToOwned::to_owned)
}

/// The fields that `LOAD` gives, with the record's place among others; `None`: nothing is there.
pub(super) fn record(answer: &[Value]) -> Result<Option<(Record, i64)>, StoreError> {
    let Some(Value::Array(fields)) = answer.first() else { return Err(unclear()) };
    let [version, issuer, subject, idp_session, created_at, expires_at, ends_at, Value::BulkString(sealed), place] =
        fields.as_slice()
    else {
        return if fields.iter().all(|field| *field == Value::Nil) { Ok(None) } else { Err(unclear()) };
    };
    let record = Record {
        version: number(version)?.try_into().map_err(|_| unclear())?,
        issuer: text(issuer)?,
        subject: text(subject)?,
        idp_session: read_optional(&text(idp_session)?),
        created_at: UnixTime(number(created_at)?),
        expires_at: UnixTime(number(expires_at)?),
        ends_at: UnixTime(number(ends_at)?),
        sealed: sealed.clone(),
    };
    let place = match place {
        // Of a version before that kept none: the second it began in.
        Value::Nil => record.created_at.0.saturating_mul(1_000_000),
        place => number(place)?,
    };
    Ok(Some((record, place)))
}

/// A number, however Redis gives it.
pub(super) fn number(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => text(value)?.parse().map_err(|_| unclear()),
    }
}

/// The first value as a number.
pub(super) fn first_number(answer: &[Value]) -> Result<i64, StoreError> {
    number(answer.first().unwrap_or(&Value::Nil))
}

/// A text.
fn text(value: &Value) -> Result<String, StoreError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map_err(|_| unclear()),
        Value::SimpleString(text) => Ok(text.clone()),
        _ => Err(unclear()),
    }
}

/// A foreign value under our key, or a fault of ours: never taken for "nothing there".
pub(super) fn unclear() -> StoreError {
    StoreError::new("redis", "a value is not what was written; is the key prefix used by something else?")
}
