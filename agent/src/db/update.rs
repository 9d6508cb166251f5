//! A change of an item: what becomes of which field, and on what condition.

use serde_json::{Number, Value};

use super::error::Error;
use super::filter::Filter;
use super::query::Item;
use super::schema::{Model, Type};
use super::validate;

/// What becomes of an item. An [`Item`] alone sets its fields; `null` removes one.
///
/// ```
/// use ioto::db::{Filter, Update};
/// let update = Update::new().add("count", 1).push("log", "opened").only_if(Filter::equal("state", "closed"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Fields and their new values; `null` removes.
    pub set: Item,
    /// Numbers that are added to the fields; one that is missing counts as 0.
    pub add: Item,
    /// Values that are appended to the arrays; one that is missing begins empty.
    pub push: Item,
    /// Fields that are removed.
    pub remove: Vec<String>,
    /// What the item must be like; else nothing is changed, with [`Error::Condition`].
    pub condition: Option<Filter>,
}

impl Update {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field.
    #[must_use]
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.set.insert(field.into(), value.into());
        self
    }

    /// Adds to a number.
    #[must_use]
    pub fn add(mut self, field: impl Into<String>, number: impl Into<Value>) -> Self {
        self.add.insert(field.into(), number.into());
        self
    }

    /// Appends to an array.
    #[must_use]
    pub fn push(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.push.insert(field.into(), value.into());
        self
    }

    /// Removes a field.
    #[must_use]
    pub fn remove(mut self, field: impl Into<String>) -> Self {
        self.remove.push(field.into());
        self
    }

    /// Only when the item is so.
    #[must_use]
    pub fn only_if(mut self, filter: Filter) -> Self {
        self.condition = Some(filter);
        self
    }

    /// Reads an update from JSON: `{"set": {…}, "add": {…}, "push": {…}, "remove": ["field"], "if": {…}}`.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub fn from_json(members: Item) -> Result<Self, String> {
        let mut update = Self::new();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("set", Value::Object(fields)) => update.set = fields,
                ("add", Value::Object(fields)) => update.add = fields,
                ("push", Value::Object(fields)) => update.push = fields,
                ("remove", Value::Array(names)) => {
                    let names = names.into_iter().map(|name| match name {
                        Value::String(name) => Ok(name),
                        other => Err(format!("remove: must be a list of fields, found {other}")),
                    });
                    update.remove = names.collect::<Result<_, _>>()?;
                }
                ("if", filter) => update.condition = Some(Filter::from_json(&filter).map_err(|e| format!("if: {e}"))?),
                ("remove", other) => return Err(format!("remove: must be a list of fields, found {other}")),
                ("set" | "add" | "push", other) => return Err(format!("{name}: must be an object, found {other}")),
                _ => return Err(format!("`{name}` is not known; known are set, add, push, remove, if")),
            }
        }
        Ok(update)
    }

    /// The same as JSON, for [`Update::from_json`].
    pub fn to_json(&self) -> Item {
        let mut json = Item::new();
        for (name, fields) in [("set", &self.set), ("add", &self.add), ("push", &self.push)] {
            if !fields.is_empty() {
                json.insert(name.into(), fields.clone().into());
            }
        }
        if !self.remove.is_empty() {
            json.insert("remove".into(), self.remove.clone().into());
        }
        if let Some(condition) = &self.condition {
            json.insert("if".into(), condition.to_json());
        }
        json
    }

    /// The fields with their new values; `null` for those that go. The condition was looked at already.
    pub(super) fn changes(self, model: &Model, stored: &Item) -> Result<Item, Error> {
        let mut changes = self.set;
        let computed = (self.add.into_iter().map(|(name, value)| (name, Some(Step::Add), value)))
            .chain(self.push.into_iter().map(|(name, value)| (name, Some(Step::Push), value)))
            .chain(self.remove.into_iter().map(|name| (name, None, Value::Null)));
        for (name, step, value) in computed {
            let refuse = |rule: &str| Err(Error::invalid(model.name(), &name, &value, rule));
            let Some(field) = model.field(&name) else { return refuse(&validate::unknown(model)) };
            if changes.contains_key(&name) {
                return refuse("is changed twice by the same update");
            }
            let before = stored.get(&name);
            let new = match (step, field.kind()) {
                (None, _) => Value::Null,
                (Some(Step::Add), Type::Number) => match sum(before, &value) {
                    Ok(sum) => sum,
                    Err(rule) => return refuse(rule),
                },
                (Some(Step::Add), _) => return refuse("only numbers can be added to; this field is none"),
                (Some(Step::Push), Type::Array) => {
                    let mut elements = before.and_then(Value::as_array).cloned().unwrap_or_default();
                    elements.push(value);
                    elements.into()
                }
                (Some(Step::Push), _) => return refuse("only to arrays can be appended; this field is none"),
            };
            changes.insert(name, new);
        }
        Ok(changes)
    }
}

#[derive(Clone, Copy)]
enum Step {
    Add,
    Push,
}

/// Whole numbers stay whole.
fn sum(before: Option<&Value>, value: &Value) -> Result<Value, &'static str> {
    let Some(added) = value.as_number() else { return Err("must be a number") };
    let zero = Number::from(0);
    let before = before.and_then(Value::as_number).unwrap_or(&zero);
    if let (Some(before), Some(added)) = (before.as_i64(), added.as_i64()) {
        return before.checked_add(added).map(Value::from).ok_or("makes a number that is too large");
    }
    let sum = before.as_f64().zip(added.as_f64()).map(|(before, added)| before + added);
    sum.and_then(Number::from_f64).map(Value::from).ok_or("makes a number that is too large")
}

impl From<Item> for Update {
    fn from(set: Item) -> Self {
        Self { set, ..Self::default() }
    }
}
