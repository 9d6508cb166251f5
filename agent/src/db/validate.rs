//! Items against the schema: what comes in is checked, completed, and brought into its stored form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::date;
use super::error::Error;
use super::generate::Generator;
use super::query::{Item, MAX_KEY};
use super::schema::{Field, Generate, Model, Part, Template, Type};
use crate::net::base64;

/// What is needed to complete an item.
pub(super) struct Maker<'a> {
    pub(super) model: &'a Model,
    pub(super) context: &'a BTreeMap<String, String>,
    pub(super) generator: &'a mut Generator,
    pub(super) now: i64,
}

/// A new item and its key, in the order of the schema.
pub(super) fn create(maker: &mut Maker<'_>, mut input: Item) -> Result<(String, Item), Error> {
    let model = maker.model;
    let mut item = Item::new();
    for field in model.fields() {
        let given = input.shift_remove(field.name()).filter(|value| !value.is_null());
        if let (true, Some(value)) = (field.automatic(), &given) {
            return Err(refuse(model, field, value, "is set by the database; leave it out".into()));
        }
        let value = match given {
            Some(value) => check(field, &value).map_err(|rule| refuse(model, field, &value, rule))?,
            None => match maker.make(field)? {
                Some(value) => value,
                None if field.required() && !field.automatic() => return Err(demand(model, field)),
                None => continue,
            },
        };
        item.insert(field.name().into(), value);
    }
    if let Some((name, value)) = input.iter().next() {
        return Err(Error::invalid(model.name(), name, value, unknown(model)));
    }
    maker.fill_templates(&mut item)?;
    let key = key(model, &item)?;
    Ok((key, item))
}

/// The item after some of its fields were changed; `None` when that makes no difference. A property that is given as it
/// is stored is no change, so that an item can be read, edited and sent back as a whole.
pub(super) fn update(maker: &mut Maker<'_>, stored: &Item, changes: Item) -> Result<Option<Item>, Error> {
    let model = maker.model;
    let mut item = stored.clone();
    for (name, value) in changes {
        if stored.get(&name).unwrap_or(&Value::Null) == &value {
            continue;
        }
        let Some(field) = model.field(&name) else {
            return Err(Error::invalid(model.name(), &name, &value, unknown(model)));
        };
        let refuse = |rule: &str| Err(refuse(model, field, &value, rule.into()));
        if field.automatic() {
            return refuse("is set by the database; leave it out");
        }
        if name == model.key().name() {
            return refuse("is the key of the item and cannot be changed");
        }
        if field.readonly() {
            return refuse("is read-only after the item was created");
        }
        match value {
            Value::Null if field.required() => return refuse("is required and cannot be removed"),
            Value::Null => drop(item.shift_remove(&name)),
            _ => match check(field, &value) {
                Ok(value) => drop(item.insert(name, value)),
                Err(rule) => return refuse(&rule),
            },
        }
    }
    if &item == stored {
        return Ok(None);
    }
    for field in model.fields().iter().filter(|field| field.timestamp() && field.name() == "updated") {
        item.insert(field.name().into(), date::format(maker.now).into());
    }
    maker.fill_templates(&mut item)?;
    let name = model.key().name();
    if item.get(name) != stored.get(name) {
        let rule = "is made of other fields and the key of the item: those fields cannot be changed";
        return Err(refuse(model, model.key(), &Value::Null, rule.into()));
    }
    Ok(Some(item))
}

/// When the item's time is over, in milliseconds of UTC.
pub(super) fn expires(model: &Model, item: &Item) -> Option<i64> {
    item.get(model.ttl()?.name())?.as_str().and_then(date::parse)
}

/// Why a property that the schema does not have is refused.
pub(super) fn unknown(model: &Model) -> String {
    let names: Vec<&str> = model.fields().iter().map(Field::name).collect();
    format!("is not in the schema; its fields are {}", names.join(", "))
}

/// Brings a value into the stored form of a type, or says what was expected.
pub(super) fn convert(kind: Type, value: &Value) -> Result<Value, String> {
    let fits = match kind {
        Type::String => value.is_string(),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::Binary => {
            let bytes = value.as_str().and_then(base64::decode);
            let text = bytes.map(|bytes| base64::encode(&bytes).into());
            return text.ok_or_else(|| "must be bytes as base64 text, such as 'aW90bw=='".into());
        }
        Type::Date => {
            let moment = match value {
                Value::String(text) => date::parse(text),
                other => other.as_i64().and_then(date::from_ms),
            };
            let expected = "must be a date: ISO 8601 text such as '2026-11-22T16:06:55Z', or milliseconds since 1970";
            return moment.map(|ms| date::format(ms).into()).ok_or_else(|| expected.into());
        }
    };
    match fits {
        true => Ok(value.clone()),
        false => Err(format!("must be {} {kind}", article(kind))),
    }
}

/// Checks a value of a field and brings it into its stored form.
pub(super) fn check(field: &Field, value: &Value) -> Result<Value, String> {
    let value = convert(field.kind(), value)?;
    if !field.choices.is_empty() && !field.choices.contains(&value) {
        let choices: Vec<String> = field.choices.iter().map(Value::to_string).collect();
        return Err(format!("must be one of {}", choices.join(", ")));
    }
    Ok(value)
}

impl Field {
    /// Reads a value from text as it stands in a query or on a command line: strings and dates as they are, everything else
    /// as JSON. It may still break another rule of the field.
    ///
    /// # Errors
    /// The text does not fit the type; the message says what was expected.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind() {
            Type::String | Type::Binary => Value::from(text),
            Type::Date => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
            _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        convert(self.kind(), &value)
    }
}

impl Maker<'_> {
    /// The key that an item would have, as far as it can be said without making one.
    pub(super) fn key_of(&self, item: &Item) -> Option<String> {
        let field = self.model.key();
        match &field.template {
            Some(template) => self.fill(template, item).ok(),
            None => item.get(field.name())?.as_str().map(str::to_owned),
        }
    }

    /// What a field becomes that was not given; templates come later.
    fn make(&mut self, field: &Field) -> Result<Option<Value>, Error> {
        if field.timestamp() {
            return Ok(Some(date::format(self.now).into()));
        }
        Ok(match field.generate {
            Some(Generate::Ulid) => Some(self.generator.ulid(self.now)?.into()),
            Some(Generate::Uid(length)) => Some(self.generator.uid(length)?.into()),
            None => field.default.clone(),
        })
    }

    /// Templates in the order of the schema: one may use those before it.
    fn fill_templates(&self, item: &mut Item) -> Result<(), Error> {
        for field in self.model.fields() {
            let Some(template) = &field.template else { continue };
            match self.fill(template, item) {
                Ok(text) => drop(item.insert(field.name().into(), text.into())),
                Err(variable) if field.required() || field.name() == self.model.key().name() => {
                    let rule = format!("is made of '{variable}', which has no value");
                    return Err(refuse(self.model, field, &Value::Null, rule));
                }
                Err(_) => drop(item.shift_remove(field.name())),
            }
        }
        Ok(())
    }

    fn fill<'t>(&self, template: &'t Template, item: &Item) -> Result<String, &'t str> {
        let mut text = String::new();
        for part in &template.parts {
            match part {
                Part::Text(part) => text += part,
                Part::Variable(name) if name == "_type" => text += self.model.name(),
                Part::Variable(name) => match (item.get(name), self.context.get(name)) {
                    (_, Some(value)) => text += value,
                    (Some(Value::String(value)), None) => text += value,
                    (Some(value @ (Value::Number(_) | Value::Bool(_))), None) => text += &value.to_string(),
                    _ => return Err(name),
                },
            }
        }
        Ok(text)
    }
}

fn key(model: &Model, item: &Item) -> Result<String, Error> {
    let field = model.key();
    let Some(key) = item.get(field.name()).and_then(Value::as_str) else {
        return Err(demand(model, field));
    };
    let rule = match key {
        "" => "is the key of the item and cannot be empty".into(),
        key if key.len() > MAX_KEY => format!("is the key of the item and can have at most {MAX_KEY} bytes"),
        key if key.chars().any(|c| c.is_control() || c == '\\')
            || key.split('/').any(|part| matches!(part, "." | "..")) =>
        {
            // Every item has a place on the web, and no web server takes these in a path.
            "is the key of the item and cannot have control characters, backslashes, or parts `.` and `..`".into()
        }
        key => return Ok(key.into()),
    };
    Err(refuse(model, field, &key.into(), rule))
}

fn demand(model: &Model, field: &Field) -> Error {
    refuse(model, field, &Value::Null, format!("is required, {} {}", article(field.kind()), field.kind()))
}

fn refuse(model: &Model, field: &Field, value: &Value, rule: String) -> Error {
    // Errors are logged; what is not plain in the database is not plain there.
    let value = if field.encrypted() { &Value::Null } else { value };
    Error::invalid(model.name(), field.name(), value, rule)
}

fn article(kind: Type) -> &'static str {
    match kind {
        Type::Object | Type::Array => "an",
        _ => "a",
    }
}
