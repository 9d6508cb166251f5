//! Conditions as SQL.

use rusqlite::types::Value as Sql;
use serde_json::Value;

use super::filter::{Filter, Test};
use super::rows::column;
use super::schema::{Model, Type};

/// An SQL expression and its parameters.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) values: Vec<Sql>,
}

/// The place of a field in a row: its key has a column of its own.
pub(super) fn place(model: &Model, field: &str) -> String {
    match field == model.key().name() {
        true => "key".into(),
        false => column(field),
    }
}

impl Condition {
    /// Adds text, and its parameters.
    pub(super) fn add(&mut self, sql: &str, values: impl IntoIterator<Item = Sql>) {
        self.sql += sql;
        self.values.extend(values);
    }

    /// Adds `AND filter`. The filter must have been checked.
    pub(super) fn demand(&mut self, model: &Model, filter: &Filter) {
        match filter {
            // Flat, as far as can be: SQLite looks for an index in every term of an AND.
            Filter::All(filters) => filters.iter().for_each(|filter| self.demand(model, filter)),
            filter => {
                self.sql += " AND ";
                self.term(model, filter);
            }
        }
    }

    fn term(&mut self, model: &Model, filter: &Filter) {
        match filter {
            Filter::Compare(name, test, value) => self.compare(model, name, *test, value),
            Filter::In(name, values) => {
                let (null, values): (Vec<_>, Vec<_>) = values.iter().partition(|value| value.is_null());
                let place = place(model, name);
                let holes = vec!["?"; values.len()].join(", ");
                let or_null = if null.is_empty() { String::new() } else { format!(" OR {place} IS NULL") };
                let values: Vec<Sql> = values.into_iter().map(parameter).collect();
                self.add(&format!("({place} IN ({holes}){or_null})"), values);
            }
            Filter::All(filters) => self.join(model, filters, " AND ", "1"),
            Filter::Any(filters) => self.join(model, filters, " OR ", "0"),
        }
    }

    fn join(&mut self, model: &Model, filters: &[Filter], word: &str, none: &str) {
        if filters.is_empty() {
            self.sql += none;
            return;
        }
        self.sql += "(";
        for (n, filter) in filters.iter().enumerate() {
            self.sql += if n > 0 { word } else { "" };
            self.term(model, filter);
        }
        self.sql += ")";
    }

    fn compare(&mut self, model: &Model, name: &str, test: Test, value: &Value) {
        let place = place(model, name);
        let operator = match test {
            Test::Equal if value.is_null() => return self.add(&format!("{place} IS NULL"), []),
            Test::Different if value.is_null() => return self.add(&format!("{place} IS NOT NULL"), []),
            Test::Equal => "=",
            Test::Different => "IS NOT",
            Test::Less => "<",
            Test::AtMost => "<=",
            Test::Greater => ">",
            Test::AtLeast => ">=",
            Test::BeginsWith => return self.begins_with(&place, value.as_str().unwrap_or_default()),
            Test::Contains if model.field(name).is_some_and(|field| field.kind() == Type::Array) => {
                // The type too, because SQLite knows no booleans: true is 1.
                let types = match value {
                    Value::String(_) => "'text'",
                    Value::Bool(true) => "'true'",
                    Value::Bool(false) => "'false'",
                    Value::Null => "'null'",
                    _ => "'integer', 'real'",
                };
                let each = format!("json_each(doc, '$.{name}') AS e WHERE e.value IS ? AND e.type IN ({types})");
                return self.add(&format!("EXISTS (SELECT 1 FROM {each})"), [parameter(value)]);
            }
            Test::Contains => return self.add(&format!("instr({place}, ?) > 0"), [parameter(value)]),
        };
        self.add(&format!("{place} {operator} ?"), [parameter(value)]);
    }

    /// As a range, which an index can be used for.
    fn begins_with(&mut self, place: &str, text: &str) {
        match beyond(text) {
            Some(beyond) => {
                let range = [Sql::Text(text.into()), Sql::Text(beyond)];
                self.add(&format!("({place} >= ? AND {place} < ?)"), range);
            }
            None => self.add(&format!("{place} >= ?"), [Sql::Text(text.into())]),
        }
    }
}

/// The first text after all that begin with this one; `None` when there is nothing after them.
fn beyond(text: &str) -> Option<String> {
    let mut front: Vec<char> = text.chars().collect();
    while let Some(last) = front.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            front.push(next);
            return Some(front.into_iter().collect());
        }
    }
    None
}

/// A value in its stored form as a parameter.
pub(super) fn parameter(value: &Value) -> Sql {
    match value {
        Value::String(text) => Sql::Text(text.clone()),
        // SQLite has no booleans: JSON's true and false are extracted as 1 and 0.
        Value::Bool(value) => Sql::Integer((*value).into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Sql::Integer(integer),
            (None, Some(real)) => Sql::Real(real),
            (None, None) => Sql::Null,
        },
        _ => Sql::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn what_comes_after_a_beginning() {
        assert_eq!(beyond("ab").as_deref(), Some("ac"));
        assert_eq!(beyond("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(beyond("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(beyond("\u{10ffff}"), None);
        assert_eq!(beyond(""), None);
    }
}
