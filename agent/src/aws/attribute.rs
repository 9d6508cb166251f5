//! The attribute values of DynamoDB, each an object with its type as the only key (API reference, "AttributeValue").

use serde_json::{Map, Number, Value, json};

/// A JSON value as an attribute value: `{"S": "text"}`, `{"N": "1.5"}`, `{"BOOL": true}`, `{"NULL": true}`, `{"L": […]}`,
/// `{"M": {…}}`.
///
/// DynamoDB keeps 38 digits of numbers from 1E-130 to 9.9E+125, and nests to a depth of 32.
///
/// ```
/// use serde_json::json;
///
/// let value = json!({"name": "pump", "speeds": [1, 2.5], "gone": null});
/// let attribute = ioto::aws::attribute::encode(&value);
/// assert_eq!(attribute["M"]["speeds"], json!({"L": [{"N": "1"}, {"N": "2.5"}]}));
/// assert_eq!(ioto::aws::attribute::decode(&attribute), value);
/// ```
pub fn encode(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(value) => json!({"BOOL": value}),
        Value::Number(number) => json!({"N": number.to_string()}),
        Value::String(text) => json!({"S": text}),
        Value::Array(list) => json!({"L": list.iter().map(encode).collect::<Vec<_>>()}),
        Value::Object(map) => json!({"M": encode_fields(map)}),
    }
}

/// The same as text, behind what is there already: for many items, without a tree of each.
pub fn write(value: &Value, text: &mut Vec<u8>) {
    let tree = |text: &mut Vec<u8>, value: &Value| {
        serde_json::to_writer(text, value).expect("a JSON value can be written, and memory takes it")
    };
    let mut separator = b' ';
    match value {
        Value::Null => text.extend(b"{\"NULL\":true"),
        Value::Bool(value) => text.extend(if *value { &b"{\"BOOL\":true"[..] } else { b"{\"BOOL\":false" }),
        Value::Number(number) => text.extend(format!("{{\"N\":\"{number}\"").as_bytes()),
        Value::String(_) => {
            text.extend(b"{\"S\":");
            tree(text, value);
        }
        Value::Array(list) => {
            text.extend(b"{\"L\":[");
            for value in list {
                text.push(std::mem::replace(&mut separator, b','));
                write(value, text);
            }
            text.push(b']');
        }
        Value::Object(map) => {
            text.extend(b"{\"M\":{");
            for (name, value) in map {
                text.push(std::mem::replace(&mut separator, b','));
                write_name(name, text);
                write(value, text);
            }
            text.push(b'}');
        }
    }
    text.push(b'}');
}

/// The name of an attribute, as text before its value.
pub fn write_name(name: &str, text: &mut Vec<u8>) {
    serde_json::to_writer(&mut *text, name).expect("a text can be written, and memory takes it");
    text.push(b':');
}

/// The JSON value of an attribute value. Sets become arrays, binary stays base64; what is no attribute value becomes null.
///
/// Integers of 64 bits are exact, other numbers are the nearest `f64`. DynamoDB does not tell `1.0` from `1`.
pub fn decode(attribute: &Value) -> Value {
    let Some((kind, value)) = attribute.as_object().and_then(|object| object.iter().next()) else { return Value::Null };
    match (kind.as_str(), value) {
        ("S" | "B", Value::String(_)) | ("BOOL", Value::Bool(_)) => value.clone(),
        ("N", Value::String(text)) => number(text),
        ("L", Value::Array(list)) => list.iter().map(decode).collect(),
        ("M", Value::Object(map)) => Value::Object(decode_fields(map)),
        ("SS" | "BS", Value::Array(_)) => value.clone(),
        ("NS", Value::Array(list)) => list.iter().map(|n| n.as_str().map_or(Value::Null, number)).collect(),
        _ => Value::Null,
    }
}

/// The fields of an item as attribute values; anything but an object has none.
pub fn encode_item(item: &Value) -> Value {
    Value::Object(item.as_object().map(encode_fields).unwrap_or_default())
}

/// An item of attribute values as JSON; anything but an object becomes an empty one.
pub fn decode_item(item: &Value) -> Value {
    Value::Object(item.as_object().map(decode_fields).unwrap_or_default())
}

/// The fields of an item as attribute values.
pub fn encode_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().map(|(name, value)| (name.clone(), encode(value))).collect()
}

/// Attribute values as the fields of an item.
pub fn decode_fields(attributes: &Map<String, Value>) -> Map<String, Value> {
    attributes.iter().map(|(name, attribute)| (name.clone(), decode(attribute))).collect()
}

/// Not with the parser of serde_json, whose fractions may be off in the last digit.
fn number(text: &str) -> Value {
    let integer = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
    let number = integer.or_else(|| Number::from_f64(text.parse().ok()?));
    number.map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_json_survives_the_round_trip() {
        let value = json!({
            "text": "a\u{fc}\u{1f600}", "empty": "", "yes": true, "no": false, "none": null,
            "small": -9_223_372_036_854_775_808_i64, "large": 18_446_744_073_709_551_615_u64, "half": 0.5, "tiny": 1e-100,
            "list": [1, "two", [null, {}], []], "map": {"a": {"b": {"c": [true]}}},
        });
        assert_eq!(decode(&encode(&value)), value);
        assert_eq!(decode_item(&encode_item(&value)), value);
        let mut text = Vec::new();
        write(&value, &mut text);
        assert_eq!(serde_json::from_slice::<Value>(&text).expect("it is JSON"), encode(&value));
    }

    #[test]
    fn sets_and_binary_of_other_writers_are_read() {
        assert_eq!(decode(&json!({"SS": ["a", "b"]})), json!(["a", "b"]));
        assert_eq!(decode(&json!({"NS": ["1", "2.5"]})), json!([1, 2.5]));
        assert_eq!(decode(&json!({"B": "AAEC"})), json!("AAEC"));
        assert_eq!(decode(&json!({"N": "1E+3"})), json!(1000.0));
    }

    #[test]
    fn what_is_no_attribute_value_is_null() {
        for value in [
            json!(null),
            json!("S"),
            json!({}),
            json!({"X": "y"}),
            json!({"S": 7}),
            json!({"N": "one"}),
            json!({"NULL": true}),
        ] {
            assert_eq!(decode(&value), Value::Null, "{value}");
        }
        assert_eq!((encode_item(&json!([])), decode_item(&json!(null))), (json!({}), json!({})));
    }

    #[test]
    fn random_values_survive_the_round_trip() {
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let value = any_value(&mut random, 5);
            assert_eq!(decode(&encode(&value)), value);
        }
    }

    fn any_value(random: &mut fastrand::Rng, depth: u32) -> Value {
        match random.u8(..if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(random.bool()),
            2 => json!(random.i64(..)),
            3 => json!(random.f64() * 1e9),
            4 => json!((0..random.usize(..9)).map(|_| random.char(..)).collect::<String>()),
            5 => (0..random.usize(..4)).map(|_| any_value(random, depth - 1)).collect(),
            _ => {
                let field = |n: usize, random: &mut fastrand::Rng| (n.to_string(), any_value(random, depth - 1));
                Value::Object((0..random.usize(..4)).map(|n| field(n, random)).collect())
            }
        }
    }
}
