//! Conditions on items: what a query finds, a watcher hears of, and a conditional change demands.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::error::Error;
use super::query::{Item, MAX_FILTERS};
use super::schema::{Field, Model, Type};
use super::validate;

/// Conditions inside of conditions, at most.
const DEPTH: usize = 8;

/// A condition on an item.
///
/// In JSON it is an object whose members must all hold: `{"kind": "in"}` compares for equality, `{"value": {">=": 5, "<": 9}}`
/// otherwise, with `=`, `<>`, `<`, `<=`, `>`, `>=`, `between: [low, high]`, `begins_with`, `contains` and `in: […]`;
/// `{"or": [{…}, {…}]}` and `{"and": […]}` hold conditions. `null` is the value of a field that the item does not have.
///
/// ```
/// use ioto::db::Filter;
/// let warm = Filter::any([Filter::at_least("value", 21), Filter::begins_with("name", "stove")]);
/// assert_eq!(Filter::read(r#"{"or": [{"value": {">=": 21}}, {"name": {"begins_with": "stove"}}]}"#).unwrap(), warm);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// The field compares so with the value.
    Compare(String, Test, Value),
    /// The field has one of the values.
    In(String, Vec<Value>),
    /// All hold; always true when there is none.
    All(Vec<Filter>),
    /// One of them holds; never true when there is none.
    Any(Vec<Filter>),
}

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It has the value.
    Equal,
    /// It has another value, or none.
    Different,
    /// It is less: numbers by their value, texts by their characters, dates by time, false before true.
    Less,
    /// It is less or equal.
    AtMost,
    /// It is greater.
    Greater,
    /// It is greater or equal.
    AtLeast,
    /// The text begins so.
    BeginsWith,
    /// The text has this part, or the array this element.
    Contains,
}

const NAMES: [(&str, Test); 8] = [
    ("=", Test::Equal),
    ("<>", Test::Different),
    ("<", Test::Less),
    ("<=", Test::AtMost),
    (">", Test::Greater),
    (">=", Test::AtLeast),
    ("begins_with", Test::BeginsWith),
    ("contains", Test::Contains),
];

impl Filter {
    /// The field has this value; `null`: the item has no such field.
    pub fn equal(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::Equal, value.into())
    }

    /// The field is less.
    pub fn less(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::Less, value.into())
    }

    /// The field is greater.
    pub fn greater(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::Greater, value.into())
    }

    /// The field is less or equal.
    pub fn at_most(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::AtMost, value.into())
    }

    /// The field is greater or equal.
    pub fn at_least(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::AtLeast, value.into())
    }

    /// The field is from `low` to `high`, both included.
    pub fn between(field: impl Into<String>, low: impl Into<Value>, high: impl Into<Value>) -> Self {
        let field = field.into();
        Self::All(vec![Self::at_least(field.clone(), low), Self::at_most(field, high)])
    }

    /// The text begins so.
    pub fn begins_with(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Compare(field.into(), Test::BeginsWith, Value::String(text.into()))
    }

    /// The text has this part, or the array this element.
    pub fn contains(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Compare(field.into(), Test::Contains, value.into())
    }

    /// The field has one of these values.
    pub fn one_of<V: Into<Value>>(field: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        Self::In(field.into(), values.into_iter().map(Into::into).collect())
    }

    /// One of them holds.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::Any(filters.into_iter().collect())
    }

    /// All of them hold.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self::All(filters.into_iter().collect())
    }

    /// Reads a condition from JSON text.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        Self::from_json(&value)
    }

    /// Reads a condition from JSON.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        from_json(value, 0)
    }

    /// The same as JSON, for [`Filter::from_json`].
    pub fn to_json(&self) -> Value {
        match self {
            Self::Compare(field, test, value) => json!({field: {test.name(): value}}),
            Self::In(field, values) => json!({field: {"in": values}}),
            Self::All(filters) => json!({"and": filters.iter().map(Self::to_json).collect::<Value>()}),
            Self::Any(filters) => json!({"or": filters.iter().map(Self::to_json).collect::<Value>()}),
        }
    }

    /// The fields that it looks at.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::Compare(field, ..) | Self::In(field, _) => vec![field.as_str()],
            Self::All(filters) | Self::Any(filters) => filters.iter().flat_map(Self::fields).collect(),
        }
    }

    /// The same with its values as the model stores them, or why the model cannot be asked so.
    pub(super) fn checked(&self, model: &Model) -> Result<Self, Error> {
        let mut room = MAX_FILTERS;
        self.check(model, &mut room, 0)
    }

    fn check(&self, model: &Model, room: &mut usize, depth: usize) -> Result<Self, Error> {
        let many = |rule: String| Error::invalid(model.name(), "where", &Value::Null, rule);
        if depth > DEPTH {
            return Err(many(format!("conditions stand in conditions, deeper than {DEPTH}")));
        }
        let mut take = |count: usize| {
            *room = room.checked_sub(count).ok_or_else(|| many(format!("has more than {MAX_FILTERS} filters")))?;
            Ok::<_, Error>(())
        };
        Ok(match self {
            Self::Compare(name, test, value) => {
                take(1)?;
                Self::Compare(name.clone(), *test, operand(model, name, *test, value)?)
            }
            Self::In(name, values) => {
                take(values.len().max(1))?;
                let values = values.iter().map(|value| operand(model, name, Test::Equal, value));
                Self::In(name.clone(), values.collect::<Result<_, _>>()?)
            }
            Self::All(filters) => Self::All(check_each(filters, model, room, depth)?),
            Self::Any(filters) => Self::Any(check_each(filters, model, room, depth)?),
        })
    }

    /// Whether the item is so. The filter must have been checked.
    pub(super) fn matches(&self, item: &Item) -> bool {
        match self {
            Self::Compare(name, test, value) => test.holds(item.get(name).unwrap_or(&Value::Null), value),
            Self::In(name, values) => {
                let found = item.get(name).unwrap_or(&Value::Null);
                values.iter().any(|value| Test::Equal.holds(found, value))
            }
            Self::All(filters) => filters.iter().all(|filter| filter.matches(item)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(item)),
        }
    }
}

fn check_each(filters: &[Filter], model: &Model, room: &mut usize, depth: usize) -> Result<Vec<Filter>, Error> {
    filters.iter().map(|filter| filter.check(model, room, depth + 1)).collect()
}

impl Test {
    /// How it is written in JSON, such as `>=`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, test)| *test == self).map_or("=", |(name, _)| name)
    }

    fn holds(self, found: &Value, value: &Value) -> bool {
        let order = || order(found, value);
        match self {
            Test::Equal => equal(found, value),
            Test::Different => !equal(found, value),
            Test::Less => order() == Some(Ordering::Less),
            Test::AtMost => order().is_some_and(Ordering::is_le),
            Test::Greater => order() == Some(Ordering::Greater),
            Test::AtLeast => order().is_some_and(Ordering::is_ge),
            Test::BeginsWith => both(found, value).is_some_and(|(found, value)| found.starts_with(value)),
            Test::Contains => match found {
                Value::Array(elements) => elements.iter().any(|element| equal(element, value)),
                _ => both(found, value).is_some_and(|(found, value)| found.contains(value)),
            },
        }
    }
}

fn both<'a>(found: &'a Value, value: &'a Value) -> Option<(&'a str, &'a str)> {
    Some((found.as_str()?, value.as_str()?))
}

fn equal(a: &Value, b: &Value) -> bool {
    (a.is_null() && b.is_null()) || order(a, b) == Some(Ordering::Equal)
}

/// How two values of a field stand to each other, as SQLite sees it too; `None` when one of them is missing.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

/// The value that a field is compared with, in its stored form.
fn operand(model: &Model, name: &str, test: Test, value: &Value) -> Result<Value, Error> {
    let refuse = |rule: String| Error::invalid(model.name(), name, value, rule);
    let field = model.field(name).ok_or_else(|| refuse(validate::unknown(model)))?;
    if field.encrypted() {
        return Err(Error::invalid(model.name(), name, &Value::Null, "is encrypted and cannot be searched"));
    }
    if value.is_null() && matches!(test, Test::Equal | Test::Different) {
        return Ok(Value::Null);
    }
    if value.is_null() {
        return Err(refuse(format!("null can only be compared with = and <>, not with {}", test.name())));
    }
    match (test, field.kind()) {
        (Test::Contains, Type::Array) if value.is_array() || value.is_object() => {
            Err(refuse("only texts, numbers and booleans can be looked for in an array".into()))
        }
        (Test::Contains, Type::Array) => Ok(value.clone()),
        (Test::Contains | Test::BeginsWith, Type::String | Type::Date) => match value {
            Value::String(_) => Ok(value.clone()),
            _ => Err(refuse(format!("{} needs a text", test.name()))),
        },
        (Test::Contains | Test::BeginsWith, kind) => {
            Err(refuse(format!("{} is not possible for a field of type {kind}", test.name())))
        }
        (_, kind @ (Type::Object | Type::Array)) => Err(refuse(format!("a field of type {kind} cannot be searched"))),
        _ => stored(field, value).map_err(refuse),
    }
}

fn stored(field: &Field, value: &Value) -> Result<Value, String> {
    let value = validate::convert(field.kind(), value)?;
    match value.as_number() {
        Some(number) if number.as_i64().is_none() && number.as_f64().is_none() => {
            Err("is not a number that can be compared".into())
        }
        _ => Ok(value),
    }
}

fn from_json(value: &Value, depth: usize) -> Result<Filter, String> {
    let Value::Object(members) = value else {
        return Err(format!("must be an object such as {{\"name\": {{\"begins_with\": \"a\"}}}}, found {value}"));
    };
    if depth > DEPTH {
        return Err(format!("has conditions in conditions, deeper than {DEPTH}"));
    }
    let mut all = Vec::new();
    for (name, value) in members {
        match (name.as_str(), value) {
            // A field cannot be compared with a list, so these are no fields.
            ("or", Value::Array(filters)) => all.push(Filter::Any(list(filters, depth)?)),
            ("and", Value::Array(filters)) => all.extend(list(filters, depth)?),
            (_, Value::Object(tests)) => all.extend(tests_of(name, tests)?),
            (_, Value::Array(_)) => return Err(format!("{name}: cannot be compared with a list; use {{\"in\": […]}}")),
            (_, value) => all.push(Filter::equal(name, value.clone())),
        }
    }
    match (all.len(), all.pop()) {
        (1, Some(one)) => Ok(one),
        (_, last) => {
            all.extend(last);
            Ok(Filter::All(all))
        }
    }
}

fn list(filters: &[Value], depth: usize) -> Result<Vec<Filter>, String> {
    filters.iter().map(|filter| from_json(filter, depth + 1)).collect()
}

fn tests_of(field: &str, tests: &Map<String, Value>) -> Result<Vec<Filter>, String> {
    let mut read = Vec::new();
    for (name, value) in tests {
        let test = NAMES.iter().find(|(known, _)| known == name);
        read.push(match (test, name.as_str(), value) {
            (Some((_, test)), ..) => Filter::Compare(field.into(), *test, value.clone()),
            (_, "in", Value::Array(values)) => Filter::In(field.into(), values.clone()),
            (_, "between", Value::Array(range)) if range.len() == 2 => {
                Filter::between(field, range[0].clone(), range[1].clone())
            }
            (_, "in" | "between", _) => {
                return Err(format!("{field}: {name} needs a list, and between one of two values"));
            }
            _ => {
                let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).chain(["between", "in"]).collect();
                return Err(format!("{field}: `{name}` is no comparison; there are {}", known.join(", ")));
            }
        });
    }
    Ok(read)
}

impl From<Item> for Filter {
    /// All fields have the values of the item.
    fn from(item: Item) -> Self {
        Self::All(item.into_iter().map(|(field, value)| Self::equal(field, value)).collect())
    }
}
