//! Items as lines of CSV (RFC 4180): texts as they are, other values as JSON, a missing field as nothing.

use serde_json::Value;

use super::query::Item;
use super::schema::{Field, Model, Type};
use super::validate;

/// The names of the fields that are shown, as the first line of a file.
pub fn csv_header(model: &Model) -> String {
    shown(model).map(Field::name).collect::<Vec<_>>().join(",")
}

/// An item as a line, without its end.
pub fn csv_row(model: &Model, item: &Item) -> String {
    let cell = |field: &Field| match item.get(field.name()) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(text),
        Some(value) => quoted(&value.to_string()),
    };
    shown(model).map(cell).collect::<Vec<_>>().join(",")
}

fn shown(model: &Model) -> impl Iterator<Item = &Field> {
    model.fields().iter().filter(|field| !field.hidden())
}

/// The empty text is quoted, so that it differs from a missing one.
fn quoted(text: &str) -> String {
    match text.is_empty() || text.contains([',', '"', '\n', '\r']) || text.trim() != text {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

/// Reads items from lines of CSV.
pub struct Csv {
    columns: Vec<String>,
}

impl Csv {
    /// From the first line, which names the fields.
    ///
    /// # Errors
    /// It is no CSV, or names what the model does not have.
    pub fn new(model: &Model, line: &str) -> Result<Self, String> {
        let columns: Vec<String> = cells(line)?.into_iter().map(|(text, _)| text).collect();
        match columns.iter().find(|name| model.field(name).is_none()) {
            Some(name) => Err(format!("`{name}` {}", validate::unknown(model))),
            None => Ok(Self { columns }),
        }
    }

    /// The item of a line.
    ///
    /// # Errors
    /// The line is no CSV, or a value does not have the type of its field.
    pub fn item(&self, model: &Model, line: &str) -> Result<Item, String> {
        let cells = cells(line)?;
        if cells.len() != self.columns.len() {
            return Err(format!("has {} values, the first line names {} fields", cells.len(), self.columns.len()));
        }
        let mut item = Item::new();
        for (name, (text, is_quoted)) in self.columns.iter().zip(cells) {
            let Some(field) = model.field(name).filter(|_| is_quoted || !text.is_empty()) else { continue };
            let value = field.read(&text).map_err(|rule| format!("model {}, {name} = {text}: {rule}", model.name()))?;
            if field.kind() != Type::String || is_quoted || !text.is_empty() {
                item.insert(name.clone(), value);
            }
        }
        Ok(item)
    }
}

/// The values of a line, and whether they were quoted.
fn cells(line: &str) -> Result<Vec<(String, bool)>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(inside) => quoted_cell(inside)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                ((rest[..end].to_owned(), false), &rest[end..])
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(cells),
            None => return Err(format!("after a quoted value comes `{after}` in place of a comma")),
        }
    }
}

fn quoted_cell(inside: &str) -> Result<((String, bool), &str), String> {
    let (mut text, mut rest) = (String::new(), inside);
    loop {
        let end = rest.find('"').ok_or("a quoted value has no end")?;
        text += &rest[..end];
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                text.push('"');
                rest = after;
            }
            None => return Ok(((text, true), rest)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::db::Schema;
    use serde_json::json;

    #[test]
    fn what_was_written_reads_back_the_same() {
        let schema = "{models: {M: {id: {type: 'string'}, n: {type: 'number'}, o: {type: 'object'}, s: {type: 'string'}, \
                      h: {type: 'string', hidden: true}}}}";
        let schema = Schema::parse(schema, "schema").unwrap();
        let model = schema.model("M").unwrap();
        let csv = Csv::new(model, &csv_header(model)).unwrap();
        for item in [
            json!({"id": "a"}),
            json!({"id": "a,b\n\"c\"", "n": 1.5, "o": {"x": [1, "y,z"]}, "s": ""}),
            json!({"id": " a ", "n": -3, "s": "ä"}),
        ] {
            let item = item.as_object().unwrap();
            assert_eq!(&csv.item(model, &csv_row(model, item)).unwrap(), item);
        }
        assert_eq!(csv.item(model, "a,1").unwrap_err(), "has 2 values, the first line names 4 fields");
        assert!(csv.item(model, "a,x,,").unwrap_err().contains("n = x: must be a number"));
        assert!(csv.item(model, "\"a\"b,,,").unwrap_err().contains("in place of a comma"));
        assert!(Csv::new(model, "id,x").is_err_and(|rule| rule.starts_with("`x` is not in the schema")));
    }
}
