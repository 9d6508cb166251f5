//! Signatures that are made up, values that fit them, and the same values with one mistake.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::{Map, Value, json};

use super::check::{Check, Mismatch, Place, Side, fits};
use super::model::{Block, Kind, Others, Signatures};

const KINDS: [&str; 8] = ["any", "object", "array", "string", "number", "boolean", "null", "date"];

/// A block as a file says it.
fn block(rng: &mut fastrand::Rng, depth: usize) -> Value {
    let kinds = if depth > 4 { &KINDS[3..] } else { &KINDS[..] };
    let kind = rng.choice(kinds).unwrap();
    let mut block = json!({"type": kind});
    match *kind {
        "object" if rng.u8(..) > 40 => {
            let fields = (0..rng.usize(0..5)).map(|n| (format!("f{n}"), self::block(rng, depth + 1)));
            let mut fields: Map<String, Value> = fields.collect();
            if rng.u8(..) < 60 {
                fields.insert("*".into(), self::block(rng, depth + 1));
            }
            block["fields"] = Value::Object(fields);
            block["hasWild"] = (rng.u8(..) < 60).into();
        }
        "array" => block["of"] = self::block(rng, depth + 1),
        _ => {}
    }
    block["required"] = rng.bool().into();
    block
}

fn any(rng: &mut fastrand::Rng) -> Value {
    rng.choice([json!(null), json!(true), json!(1.5), json!("x"), json!([1]), json!({"q": 1})]).unwrap()
}

/// A value that fits.
fn value(rng: &mut fastrand::Rng, block: &Block) -> Value {
    match block.kind {
        Kind::Any => any(rng),
        Kind::String => (0..rng.usize(0..9)).map(|_| rng.char(..)).collect::<String>().into(),
        Kind::Number => rng.choice([json!(0), json!(-1), json!(1.5e300), json!(u64::MAX)]).unwrap(),
        Kind::Boolean => rng.bool().into(),
        Kind::Null => Value::Null,
        Kind::Date => rng.choice([json!("2026-11-22T16:06:55.123+01:00"), json!("2026-11-22"), json!(0)]).unwrap(),
        Kind::Array => match &block.of {
            Some(of) => (0..rng.usize(0..4)).map(|_| value(rng, of)).collect(),
            None => json!([any(rng)]),
        },
        Kind::Object => {
            let mut object = Map::new();
            for (name, field) in &block.fields {
                if field.required || rng.bool() {
                    object.insert(name.clone(), value(rng, field));
                }
            }
            match &block.others {
                Others::Unknown => {}
                Others::Pass => drop(object.insert("other".into(), any(rng))),
                Others::Like(like) => drop(object.insert("other".into(), value(rng, like))),
            }
            Value::Object(object)
        }
    }
}

/// A mistake: where it is seen, and the value with it.
type Mistake = (String, Value);

/// All mistakes of one kind each that `value` can have; `put` makes the whole of a part.
fn mistakes(block: &Block, value: &Value, place: &str, put: &dyn Fn(Value) -> Value, all: &mut Vec<Mistake>) {
    let wrong = [json!(null), json!(true), json!(1.5), json!("x"), json!([1]), json!({"q": 1})];
    all.extend(wrong.into_iter().filter(|wrong| !block.kind.fits(wrong)).map(|wrong| (place.to_owned(), put(wrong))));
    match (value, &block.of) {
        (Value::Array(items), Some(of)) => {
            for (index, item) in items.iter().enumerate() {
                let put = |part| {
                    let mut items = items.clone();
                    items[index] = part;
                    put(Value::Array(items))
                };
                mistakes(of, item, &format!("{place}[{index}]"), &put, all);
            }
        }
        (Value::Object(object), _) if block.kind == Kind::Object => {
            for (name, value) in object {
                let place = format!("{place}.{name}");
                let with = |part: Option<Value>| {
                    let mut object = object.clone();
                    match part {
                        Some(part) => drop(object.insert(name.clone(), part)),
                        None => drop(object.remove(name)),
                    }
                    put(Value::Object(object))
                };
                let like = match &block.others {
                    Others::Like(like) => Some(like.as_ref()),
                    _ => None,
                };
                if let Some(field) = block.fields.get(name).or(like) {
                    mistakes(field, value, &place, &|part| with(Some(part)), all);
                    if field.required && block.fields.contains_key(name) {
                        all.push((place, with(None)));
                    }
                }
            }
            if matches!(block.others, Others::Unknown) {
                let mut object = object.clone();
                object.insert("unknown".into(), json!(1));
                all.push((format!("{place}.unknown"), put(Value::Object(object))));
            }
        }
        _ => {}
    }
}

fn problems(block: &Block, value: &Value, side: Side) -> Vec<Mismatch> {
    let mut check = Check { side, strict: true, can: &|_| false, problems: Vec::new() };
    check.value(block, &mut value.clone(), Place::Root("body"));
    check.problems
}

#[test]
fn what_fits_passes_and_each_mistake_is_found_where_it_is() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("what_fits_passes_and_each_mistake_is_found_where_it_is: SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tried = 0;
    for _ in 0..300 {
        let text = json!({"a": {"b": {"request": block(&mut rng, 1)}}}).to_string();
        let signatures = Signatures::parse(&text, Path::new("s"), true, &|_| true).expect(&text);
        let block = signatures.methods["a.b"].request.as_ref().unwrap();
        let value = value(&mut rng, block);
        for side in [Side::Request, Side::Response] {
            assert_eq!(problems(block, &value, side), [], "{text}\n{value}");
        }
        assert!(fits(block, &value));
        let mut all = Vec::new();
        mistakes(block, &value, "body", &|value| value, &mut all);
        for (place, wrong) in all {
            tried += 1;
            let found: Vec<_> =
                problems(block, &wrong, Side::Request).into_iter().map(|problem| problem.field).collect();
            assert_eq!(found, [place], "{text}\n{value}\n{wrong}");
        }
    }
    assert!(tried > 1000, "only {tried} mistakes");
}
