//! `field=value` and its like, from the command line.

use ioto::db::{Field, Filter, Item, Model, Test, Update};
use serde_json::Value;

use super::super::args::Usage;
use super::Failure;

/// A field, what is done or compared, and a value: typed by the schema, or after `:=` JSON.
#[derive(Debug, PartialEq)]
pub struct Assignment {
    field: String,
    sign: Sign,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    Is,
    Json,
    Add,
    Push,
    Compare(Test),
}

/// Longer signs first: `<=` begins as `<` does.
const COMPARISONS: [(&str, Sign); 9] = [
    (":=", Sign::Json),
    ("<>", Sign::Compare(Test::Different)),
    ("<=", Sign::Compare(Test::AtMost)),
    (">=", Sign::Compare(Test::AtLeast)),
    ("^=", Sign::Compare(Test::BeginsWith)),
    ("~=", Sign::Compare(Test::Contains)),
    ("<", Sign::Compare(Test::Less)),
    (">", Sign::Compare(Test::Greater)),
    ("=", Sign::Is),
];
const CHANGES: [(&str, Sign); 4] = [(":=", Sign::Json), ("+=", Sign::Add), ("[]=", Sign::Push), ("=", Sign::Is)];

/// What is set, added or appended.
pub fn assignments(words: &[&str]) -> Result<Vec<Assignment>, Usage> {
    words.iter().map(|word| read(word, &CHANGES, "FIELD=VALUE or FIELD:=JSON")).collect()
}

/// What is compared.
pub fn conditions(words: &[&str]) -> Result<Vec<Assignment>, Usage> {
    let expected = "FIELD=VALUE, or with <, <=, >, >=, <>, ^= (begins with), ~= (contains), or FIELD:=JSON";
    words.iter().map(|word| read(word, &COMPARISONS, expected)).collect()
}

/// The field is all up to the first sign.
fn read(word: &str, signs: &[(&str, Sign)], expected: &str) -> Result<Assignment, Usage> {
    let end = word.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(word.len());
    let (field, rest) = word.split_at(end);
    let sign = signs.iter().find_map(|(text, sign)| rest.strip_prefix(text).map(|value| (*sign, value)));
    match sign {
        Some((sign, text)) if !field.is_empty() => Ok(Assignment { field: field.into(), sign, text: text.into() }),
        _ => Err(Usage(format!("expected {expected}, found `{word}`"))),
    }
}

impl Assignment {
    fn fail(&self, model: &Model, rule: &str) -> Failure {
        Failure(format!("model {}, {} = {}: {rule}", model.name(), self.field, self.text))
    }

    /// The value in the type of the schema.
    fn value(&self, model: &Model) -> Result<Value, Failure> {
        match (self.sign, model.field(&self.field)) {
            (Sign::Json, _) => self.json(model),
            // An element of an array has no type; what is no JSON is text.
            (Sign::Push, Some(_)) => Ok(serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into())),
            (Sign::Compare(Test::Contains | Test::BeginsWith), Some(field)) => Ok(match field.kind() {
                ioto::db::Type::Array => serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into()),
                _ => self.text.as_str().into(),
            }),
            (_, Some(field)) => field.read(&self.text).map_err(|rule| self.fail(model, &rule)),
            (_, None) => {
                let names: Vec<&str> = model.fields().iter().map(Field::name).collect();
                Err(self.fail(model, &format!("is not in the schema; its fields are {}", names.join(", "))))
            }
        }
    }

    fn json(&self, model: &Model) -> Result<Value, Failure> {
        serde_json::from_str(&self.text).map_err(|error| self.fail(model, &format!("is not JSON: {error}")))
    }
}

/// A new item.
pub fn item(model: &Model, assignments: &[Assignment]) -> Result<Item, Failure> {
    let update = update(model, assignments, None)?;
    match assignments.iter().find(|assignment| matches!(assignment.sign, Sign::Add | Sign::Push)) {
        Some(assignment) => Err(assignment.fail(model, "a new item takes FIELD=VALUE and FIELD:=JSON only")),
        None => Ok(update.set),
    }
}

/// A change of an item.
pub fn update(model: &Model, assignments: &[Assignment], condition: Option<Filter>) -> Result<Update, Failure> {
    let mut update = Update { condition, ..Update::new() };
    for assignment in assignments {
        let value = assignment.value(model)?;
        let place = match assignment.sign {
            Sign::Add => &mut update.add,
            Sign::Push => &mut update.push,
            _ => &mut update.set,
        };
        if place.insert(assignment.field.clone(), value).is_some() {
            return Err(assignment.fail(model, "the field is given twice"));
        }
    }
    Ok(update)
}

/// All must hold.
pub fn filter(model: &Model, assignments: &[Assignment]) -> Result<Filter, Failure> {
    let read = |assignment: &Assignment| {
        let value = assignment.value(model)?;
        Ok(match assignment.sign {
            Sign::Compare(test) => Filter::Compare(assignment.field.clone(), test, value),
            _ => Filter::equal(assignment.field.clone(), value),
        })
    };
    assignments.iter().map(read).collect::<Result<_, _>>().map(Filter::All)
}
