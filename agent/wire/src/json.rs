//! JSON objects, read strictly: no key twice, no key left over, no bytes behind.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The version of the protocol, in every request and answer.
pub const VERSION: u64 = 1;

/// Why a request or one of its arguments is not accepted, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// The members of an object that are still to be taken.
#[derive(Debug)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// An object with the version of the protocol, which is taken already.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Invalid> {
        let value = serde_json::from_slice::<Strict>(payload).map_err(|error| Invalid(format!("not JSON: {error}")))?.0;
        let mut members = Self::of(value, "the payload")?;
        match members.take("version")? {
            Value::Number(number) if number.as_u64() == Some(VERSION) => Ok(members),
            other => Err(Invalid(format!("version {} is not known, only {VERSION}", short(&other)))),
        }
    }

    pub(crate) fn of(value: Value, what: &str) -> Result<Self, Invalid> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(Invalid(format!("{what} must be an object"))),
        }
    }

    pub(crate) fn optional(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    pub(crate) fn take(&mut self, name: &str) -> Result<Value, Invalid> {
        self.optional(name).ok_or_else(|| Invalid(format!("\"{name}\" is missing")))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, Invalid> {
        text(self.take(name)?, name)
    }

    pub(crate) fn end(self) -> Result<(), Invalid> {
        match self.0.keys().next() {
            Some(name) => Err(Invalid(format!("\"{}\" is not a known key here", name.escape_default()))),
            None => Ok(()),
        }
    }
}

pub(crate) fn text(value: Value, name: &str) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Invalid(format!("\"{name}\" must be a string, not {}", short(&other)))),
    }
}

/// A value as it may stand in a message.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// A value in which no object has a key twice: two readers could take different ones.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}
