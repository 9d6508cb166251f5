//! Texts of forms and query strings as the values that a block wants of them.

use serde_json::{Map, Value};

use super::model::{Block, Kind, Others};

/// The value that `text` means where `block` says what it must be. What it cannot mean stays a text, and does not fit.
pub(super) fn value(block: Option<&Block>, text: String) -> Value {
    match block.map_or(Kind::Any, |block| block.kind) {
        Kind::Number => match serde_json::from_str(&text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::String(text),
        },
        Kind::Boolean => text.parse().map_or(Value::String(text), Value::Bool),
        Kind::Null if text.is_empty() => Value::Null,
        Kind::Array => Value::Array(vec![value(block.and_then(|block| block.of.as_deref()), text)]),
        _ => Value::String(text),
    }
}

/// The fields of a form as an object. A name that comes again adds an item to an array.
///
/// # Errors
/// A name that comes again and is no array.
pub(super) fn object(
    block: &Block,
    fields: impl Iterator<Item = (String, String)>,
) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    for (name, text) in fields {
        let field = block.fields.get(&name).or(match &block.others {
            Others::Like(block) => Some(block),
            _ => None,
        });
        match object.get_mut(&name) {
            None => drop(object.insert(name, value(field, text))),
            Some(Value::Array(items)) => items.push(value(field.and_then(|block| block.of.as_deref()), text)),
            Some(first) if field.is_none() => *first = Value::Array(vec![first.take(), Value::String(text)]),
            Some(_) => return Err(name),
        }
    }
    Ok(object)
}

/// An object as the fields of a form again. What a form cannot say is said in JSON.
pub(super) fn fields(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for (name, value) in object {
        match value {
            Value::Array(items) => fields.extend(items.iter().map(|item| (name.clone(), plain(item)))),
            value => fields.push((name.clone(), plain(value))),
        }
    }
    fields
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// The fields as `application/x-www-form-urlencoded` (WHATWG URL §5.2).
pub(super) fn encode(fields: &[(String, String)]) -> Vec<u8> {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        escape(name, &mut out);
        out.push('=');
        escape(value, &mut out);
    }
    out.into_bytes()
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(byte as char),
            _ => {
                let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase();
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn block(kind: Kind) -> Block {
        Block { kind, ..Block::default() }
    }

    #[test]
    fn texts_become_what_the_block_wants() {
        for (kind, text, expected) in [
            (Kind::Number, "5", json!(5)),
            (Kind::Number, "-1.5e3", json!(-1500.0)),
            (Kind::Number, "5 ", json!(5)),
            (Kind::Number, "0x5", json!("0x5")),
            (Kind::Number, "", json!("")),
            (Kind::Number, "NaN", json!("NaN")),
            (Kind::Boolean, "true", json!(true)),
            (Kind::Boolean, "yes", json!("yes")),
            (Kind::String, "5", json!("5")),
            (Kind::Null, "", json!(null)),
            (Kind::Object, "{}", json!("{}")),
            (Kind::Array, "5", json!(["5"])),
        ] {
            assert_eq!(value(Some(&block(kind)), text.to_owned()), expected, "{kind:?} {text}");
        }
    }

    #[test]
    fn only_arrays_are_said_more_than_once() {
        let mut form = block(Kind::Object);
        let of = Some(Box::new(block(Kind::Number)));
        form.fields.insert("n".into(), Block { of, ..block(Kind::Array) });
        fn pairs(text: &str) -> Vec<(String, String)> {
            let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap());
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        }
        let read = |text: &str| object(&form, pairs(text).into_iter());
        assert_eq!(Value::Object(read("n=1&x=1&n=2").unwrap()), json!({"n": [1, 2], "x": "1"}));
        assert_eq!(Value::Object(read("x=1&x=2&x=3").unwrap()), json!({"x": ["1", "2", "3"]}));
        let again = fields(&read("n=1&x=%26 +\u{e4}&n=2").unwrap());
        assert_eq!(encode(&again), b"n=1&n=2&x=%2526+%2B%C3%A4");
        form.fields.insert("x".into(), block(Kind::String));
        assert_eq!(object(&form, pairs("x=1&x=2").into_iter()).unwrap_err(), "x");
    }
}
