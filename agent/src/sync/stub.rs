//! Stand-ins for `db::changelog` and `aws::attribute`.
#![allow(missing_docs)]
use serde_json::{Map, Value, json};

pub type Item = Map<String, Value>;

#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    pub model: String,
    pub key: String,
    pub n: u64,
    pub op: [u8; 16],
    pub base: u64,
    pub item: Option<Item>,
    pub recorded: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub mine: Option<Item>,
    pub theirs: Option<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Applied,
    Rebase,
    Theirs(Option<Item>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    pub model: String,
    pub key: String,
    pub n: u64,
    pub base: u64,
    pub outcome: Outcome,
    pub conflict: Option<Conflict>,
}

pub fn encode(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(b) => json!({"BOOL": b}),
        Value::Number(n) => json!({"N": n.to_string()}),
        Value::String(s) => json!({"S": s}),
        Value::Array(a) => json!({"L": a.iter().map(encode).collect::<Vec<_>>()}),
        Value::Object(o) => json!({"M": o.iter().map(|(k, v)| (k.clone(), encode(v))).collect::<Map<_, _>>()}),
    }
}

pub fn decode(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|o| o.iter().next()) else { return Value::Null };
    match (kind.as_str(), inner) {
        ("S" | "BOOL" | "B", v) => v.clone(),
        ("N", Value::String(s)) => serde_json::from_str(s).unwrap_or(Value::Null),
        ("L", Value::Array(a)) => Value::Array(a.iter().map(decode).collect()),
        ("M", Value::Object(o)) => Value::Object(o.iter().map(|(k, v)| (k.clone(), decode(v))).collect()),
        _ => Value::Null,
    }
}
