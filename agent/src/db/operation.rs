//! Operations as values: what batches and transactions are made of.

use serde_json::{Value, json};

use super::editor::Editor;
use super::error::Error;
use super::filter::Filter;
use super::query::Item;
use super::schema::Schema;
use super::update::Update;
use super::worker::Owner;

/// Operations of a batch or a transaction, at most: as many as DynamoDB takes in one.
pub const MAX_OPERATIONS: usize = 100;

/// An operation on one item.
///
/// In JSON: `{"create": "Model", "item": {…}}`, `{"upsert": "Model", "item": {…}}`,
/// `{"update": "Model", "id": "key", "set": {…}, "add": {…}, "push": {…}, "remove": […], "if": {…}}`,
/// `{"remove": "Model", "id": "key", "if": {…}}`, `{"check": "Model", "id": "key", "if": {…}}`.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "at most 100 are together, and most are updates")]
pub enum Operation {
    /// Adds an item.
    Create {
        /// The model.
        model: String,
        /// The item.
        item: Item,
    },
    /// Adds an item, or sets the fields of the one that is there with its key.
    Upsert {
        /// The model.
        model: String,
        /// The item, with its key.
        item: Item,
    },
    /// Changes an item.
    Update {
        /// The model.
        model: String,
        /// The item's key.
        key: String,
        /// The change.
        update: Update,
    },
    /// Removes an item.
    Remove {
        /// The model.
        model: String,
        /// The item's key.
        key: String,
        /// What the item must be like.
        condition: Option<Filter>,
    },
    /// Only looks whether an item is as it should be.
    Check {
        /// The model.
        model: String,
        /// The item's key.
        key: String,
        /// What the item must be like.
        condition: Filter,
    },
}

/// What came of an [`Operation`].
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// The item as it is now; `true`: it is new.
    Item(Item, bool),
    /// Whether there was an item to remove.
    Removed(bool),
    /// The item is as it should be.
    Checked,
}

impl Operation {
    /// The model that it is about.
    pub fn model(&self) -> &str {
        match self {
            Self::Create { model, .. }
            | Self::Upsert { model, .. }
            | Self::Update { model, .. }
            | Self::Remove { model, .. }
            | Self::Check { model, .. } => model,
        }
    }

    /// Reads an operation from JSON.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub fn from_json(value: Value) -> Result<Self, String> {
        let expected = "an operation is an object with `create`, `upsert`, `update`, `remove` or `check` and its model";
        let Value::Object(mut members) = value else { return Err(expected.into()) };
        // `remove` is a list in an update, where it names fields.
        let verbs = ["create", "upsert", "update", "remove", "check"];
        let Some(verb) = verbs.into_iter().find(|verb| members.get(*verb).is_some_and(Value::is_string)) else {
            return Err(expected.into());
        };
        let model = text(&mut members, verb)?;
        if matches!(verb, "create" | "upsert") {
            let item = match members.shift_remove("item") {
                Some(Value::Object(item)) => item,
                _ => return Err(format!("{verb}: needs `item`, an object")),
            };
            nothing_more(verb, &members)?;
            return Ok(match verb {
                "create" => Self::Create { model, item },
                _ => Self::Upsert { model, item },
            });
        }
        let key = text(&mut members, "id")?;
        if verb == "update" {
            let update = Update::from_json(members).map_err(|rule| format!("update: {rule}"))?;
            return Ok(Self::Update { model, key, update });
        }
        let condition = members.shift_remove("if").map(|filter| Filter::from_json(&filter)).transpose();
        let condition = condition.map_err(|rule| format!("{verb}: if: {rule}"))?;
        nothing_more(verb, &members)?;
        match (verb, condition) {
            ("remove", condition) => Ok(Self::Remove { model, key, condition }),
            (_, Some(condition)) => Ok(Self::Check { model, key, condition }),
            (_, None) => Err("check: needs `if`, a condition".into()),
        }
    }
}

impl Operation {
    /// The same as JSON, for [`Operation::from_json`].
    pub fn to_json(&self) -> Value {
        match self {
            Self::Create { model, item } => json!({"create": model, "item": item}),
            Self::Upsert { model, item } => json!({"upsert": model, "item": item}),
            Self::Update { model, key, update } => {
                let mut json = Item::from_iter([("update".to_owned(), json!(model)), ("id".to_owned(), json!(key))]);
                json.extend(update.to_json());
                json.into()
            }
            Self::Remove { model, key, condition: None } => json!({"remove": model, "id": key}),
            Self::Remove { model, key, condition: Some(condition) } => {
                json!({"remove": model, "id": key, "if": condition.to_json()})
            }
            Self::Check { model, key, condition } => json!({"check": model, "id": key, "if": condition.to_json()}),
        }
    }
}

fn text(members: &mut Item, name: &str) -> Result<String, String> {
    match members.shift_remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("an operation needs `{name}`, a text")),
    }
}

fn nothing_more(verb: &str, members: &Item) -> Result<(), String> {
    members.keys().next().map_or(Ok(()), |name| Err(format!("{verb}: `{name}` is not known here")))
}

impl Done {
    /// As JSON: `{"item": {…}}`, `{"removed": true}`, `{"checked": true}`. Hidden fields are left out.
    pub fn to_json(&self, schema: &Schema, model: &str) -> Value {
        match self {
            Done::Item(item, created) => {
                let item = schema.model(model).map(|model| model.visible(item.clone())).unwrap_or_default();
                json!({"item": item, "created": created})
            }
            Done::Removed(removed) => json!({"removed": removed}),
            Done::Checked => json!({"checked": true}),
        }
    }
}

impl Editor {
    /// All of them, or none.
    pub(super) fn transact(&mut self, operations: Vec<Operation>) -> Result<Vec<Done>, Error> {
        let step = |(at, operation)| self.operate(operation).map_err(|error| error.at(at));
        operations.into_iter().enumerate().map(step).collect()
    }

    /// Each on its own, in one commit.
    pub(super) fn batch(&mut self, operations: Vec<Operation>) -> Result<Vec<Result<Done, Error>>, Error> {
        let mut results = Vec::new();
        for operation in operations {
            let result = self.attempt(|editor| editor.operate(operation));
            if !self.in_transaction() {
                // SQLite took back everything, also what went well before.
                return Err(self.lost());
            }
            results.push(result);
        }
        Ok(results)
    }

    fn operate(&mut self, operation: Operation) -> Result<Done, Error> {
        match operation {
            Operation::Remove { .. } | Operation::Check { .. } => self.carry_out(operation),
            operation => self.within(|editor| editor.carry_out(operation)),
        }
    }

    fn carry_out(&mut self, operation: Operation) -> Result<Done, Error> {
        let schema = self.schema();
        let model = schema.demand(operation.model())?.clone();
        match operation {
            Operation::Create { item, .. } => self.create(&model, item).map(|item| Done::Item(item, true)),
            Operation::Upsert { item, .. } => self.upsert(&model, item).map(|(item, new)| Done::Item(item, new)),
            Operation::Update { key, update, .. } => {
                self.update(&model, &key, update).map(|item| Done::Item(item, false))
            }
            Operation::Remove { key, condition, .. } => {
                self.remove(&model, &key, condition.as_ref()).map(Done::Removed)
            }
            Operation::Check { key, condition, .. } => self.check(&model, &key, &condition).map(|()| Done::Checked),
        }
    }
}
