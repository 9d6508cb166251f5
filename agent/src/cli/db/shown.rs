//! What is shown of models and items.

use std::fmt::Write;

use ioto::db::{Field, Item, Model, Page, Schema};
use serde_json::{Map, Value, json};

use super::Output;

/// Characters of a value in a table of items.
const WIDEST: usize = 40;

/// The models and their fields.
pub fn models(schema: &Schema) -> Output {
    let mut text = String::new();
    let mut list = Vec::new();
    for model in schema.models() {
        let _ = writeln!(text, "{} (sync: {})", model.name(), model.sync());
        let mut fields = Vec::new();
        for field in model.fields() {
            let notes = [
                (field.name() == model.key().name(), "key"),
                (field.required(), "required"),
                (field.generated(), "generated"),
                (field.readonly(), "read-only"),
                (field.hidden(), "hidden"),
                (field.unique(), "unique"),
                (field.encrypted(), "encrypted"),
            ];
            let notes: Vec<&str> = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
            let line = format!("  {:<16} {:<8} {}", field.name(), field.kind().to_string(), notes.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
            fields.push(json!({"name": field.name(), "type": field.kind().to_string(), "notes": notes}));
        }
        list.push(json!({"name": model.name(), "sync": model.sync().to_string(), "fields": fields}));
    }
    Output { text, json: json!({"models": list}) }
}

/// An item, a line a field.
pub fn one(model: &Model, item: Item) -> Output {
    let item = model.visible(item);
    let width = item.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in &item {
        let _ = writeln!(text, "{name:<width$}  {}", shown(value));
    }
    Output { text, json: item.into() }
}

/// Items, a line each.
pub fn many(model: &Model, page: Page) -> Output {
    let items: Vec<Item> = page.items.into_iter().map(|item| model.visible(item)).collect();
    let fields = model.fields().iter().map(Field::name);
    let columns: Vec<&str> = fields.filter(|name| items.iter().any(|item| item.contains_key(*name))).collect();
    let cell = |item: &Item, name: &str| -> String {
        let text = item.get(name).map(shown).unwrap_or_default();
        match text.chars().count() > WIDEST {
            true => text.chars().take(WIDEST - 1).chain(['…']).collect(),
            false => text,
        }
    };
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|name| name.to_string()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|name| cell(item, name)).collect()));
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in rows.iter().filter(|_| !items.is_empty()) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let mut json = Map::from_iter([("items".to_owned(), Value::from_iter(items.into_iter().map(Value::Object)))]);
    if let Some(next) = page.next {
        let _ = writeln!(text, "More: --next '{next}'");
        json.insert("next".into(), next.into());
    }
    Output { text, json: json.into() }
}

/// A value for people: text without quotes, on one line and without control characters.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

/// A change, on one line.
pub fn change(data: &str) -> String {
    let Ok(change) = serde_json::from_str::<Value>(data) else { return data.into() };
    match change["change"].as_str() {
        Some("lost") => "lost: more changed than could be told; find anew".into(),
        kind => {
            let word = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
            let item = change.get("item").map_or(String::new(), |item| format!(" {}", shown(item)));
            format!("{} {} {}{item}", kind.unwrap_or_default(), word("model"), word("id"))
        }
    }
}

/// Conflicts, the newest first: what happened, and both sides.
pub fn conflicts(json: Value) -> Output {
    let mut text = String::new();
    for conflict in json["conflicts"].as_array().into_iter().flatten() {
        let word = |name: &str| conflict[name].as_str().map_or_else(String::new, |text| shown(&text.into()));
        let what = match conflict["resolution"].as_str() {
            Some("rebase") => "the device's won",
            Some("theirs") => "the cloud's won",
            Some("merge") => "merged; the cloud's won where both changed a field",
            Some("both") => "both were kept",
            _ => "settled",
        };
        let side = |name: &str| match &conflict[name] {
            Value::Null => "removed".to_owned(),
            item => shown(item),
        };
        let _ = writeln!(text, "{}  {} {}: {what}", word("at"), word("model"), word("id"));
        let _ = writeln!(text, "  device  {}\n  cloud   {}", side("device"), side("cloud"));
    }
    Output { text, json }
}

/// Names and values, a line each; the models of a list likewise.
pub fn figures(json: &Value) -> String {
    let mut text = String::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        match value {
            Value::Array(values) if values.is_empty() => {}
            Value::Array(values) => {
                for value in values {
                    let _ = match value.as_object() {
                        Some(model) => writeln!(
                            text,
                            "model {:<18} {} rows, {} bytes",
                            model["name"].as_str().unwrap_or_default(),
                            model["rows"],
                            model["bytes"]
                        ),
                        None => writeln!(text, "{}", shown(value)),
                    };
                }
            }
            value => drop(writeln!(text, "{name:<24} {value}")),
        }
    }
    text
}
