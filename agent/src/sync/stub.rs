//! Stand-ins for `aws::attribute`.
#![allow(missing_docs)]
use serde_json::{Map, Value, json};

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
