//! Finding items: a query as one SQL statement, and its pages.

use rusqlite::params_from_iter;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};

use super::condition::{Condition, parameter, place};
use super::date;
use super::error::Error;
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE, Page, Query};
use super::rows::{Rows, table};
use super::schema::Model;
use super::validate;

impl Rows {
    pub(super) fn find(&self, model: &Model, query: &Query) -> Result<Page, Error> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::invalid(model.name(), "limit", &limit.into(), format!("must be 1 to {MAX_LIMIT}")));
        }
        for name in &query.fields {
            if model.field(name).is_none() {
                return Err(Error::invalid(model.name(), name, &Value::Null, validate::unknown(model)));
            }
        }
        let order = query.order.as_deref().filter(|order| *order != model.key().name());
        let Condition { sql, values } = statement(model, query, order, limit)?;
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut page, mut last, mut size) = (Page::default(), String::new(), 0);
        while let Some(row) = rows.next()? {
            if page.items.len() == limit || size >= MAX_PAGE {
                page.next = Some(last);
                break;
            }
            let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            size += text.len();
            let key: String = row.get(0)?;
            let mut item = self.item_with(model, &key, text, &query.fields)?;
            if !query.fields.is_empty() {
                item.retain(|name, _| query.fields.contains(name));
            }
            page.items.push(item);
            last = match order {
                None => key,
                Some(_) => json!([plain(row.get(2)?), key]).to_string(),
            };
        }
        Ok(page)
    }

    /// How many items fit.
    pub(super) fn count_where(&self, model: &Model, query: &Query) -> Result<u64, Error> {
        let mut condition = living(model, "count(*)");
        condition.demand(model, &query.filter.checked(model)?);
        let mut statement = self.connection.prepare_cached(&condition.sql)?;
        Ok(statement.query_row(params_from_iter(condition.values), |row| row.get(0))?)
    }

    /// What SQLite does to find: for tests and for those who wonder why a query is slow.
    pub(super) fn explain(&self, model: &Model, query: &Query) -> Result<Vec<String>, Error> {
        let order = query.order.as_deref().filter(|order| *order != model.key().name());
        let Condition { sql, values } = statement(model, query, order, query.limit.unwrap_or(DEFAULT_LIMIT))?;
        let mut statement = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let steps = statement.query_map(params_from_iter(values), |row| row.get(3))?;
        Ok(steps.collect::<Result<_, _>>()?)
    }
}

fn living(model: &Model, what: &str) -> Condition {
    let mut condition = Condition::default();
    let sql = format!("SELECT {what} FROM {} WHERE (expires IS NULL OR expires > ?)", table(model));
    condition.add(&sql, [Sql::Integer(date::now())]);
    condition
}

/// `order`: the field by which items are ordered, unless that is the key.
fn statement(model: &Model, query: &Query, order: Option<&str>, limit: usize) -> Result<Condition, Error> {
    let column = order.map(|order| ordered_by(model, order)).transpose()?;
    let mut condition = match &column {
        Some(column) => living(model, &format!("key, doc, {column}")),
        None => living(model, "key, doc"),
    };
    condition.demand(model, &query.filter.checked(model)?);
    let (beyond, direction) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
    match (&query.next, &column) {
        (None, _) => {}
        (Some(next), None) => condition.add(&format!(" AND key {beyond} ?"), [Sql::Text(next.clone())]),
        (Some(next), Some(column)) => after(&mut condition, column, query.descending, token(model, next)?),
    }
    // One more than the page says whether there is a next one; SQLite sorts no more than it has to when it knows.
    let by = column.map_or(String::new(), |column| format!("{column} {direction}, "));
    condition.add(&format!(" ORDER BY {by}key {direction} LIMIT ?"), [Sql::Integer(limit as i64 + 1)]);
    Ok(condition)
}

fn ordered_by(model: &Model, name: &str) -> Result<String, Error> {
    let refuse = |rule: String| Error::invalid(model.name(), "order", &name.into(), rule);
    let field = model.field(name).ok_or_else(|| refuse(validate::unknown(model)))?;
    match field.comparable() {
        true if field.encrypted() => Err(refuse("is encrypted, items cannot be ordered by it".into())),
        true => Ok(place(model, name)),
        false => Err(refuse("items cannot be ordered by objects and arrays".into())),
    }
}

/// Only what comes after a value and a key. Items without the field come first, as SQLite has it; last when descending.
fn after(condition: &mut Condition, column: &str, descending: bool, (value, key): (Sql, String)) {
    let key = Sql::Text(key);
    match (value, descending) {
        (Sql::Null, false) => {
            condition.add(&format!(" AND ({column} IS NOT NULL OR ({column} IS NULL AND key > ?))"), [key]);
        }
        (Sql::Null, true) => condition.add(&format!(" AND {column} IS NULL AND key < ?"), [key]),
        (value, false) => condition.add(&format!(" AND ({column}, key) > (?, ?)"), [value, key]),
        (value, true) => {
            condition.add(&format!(" AND (({column}, key) < (?, ?) OR {column} IS NULL)"), [value, key]);
        }
    }
}

/// Value and key of the last item of the page before.
fn token(model: &Model, text: &str) -> Result<(Sql, String), Error> {
    let read: Option<[Value; 2]> = serde_json::from_str(text).ok();
    match read {
        Some([value, Value::String(key)]) if !value.is_array() && !value.is_object() => Ok((parameter(&value), key)),
        _ => {
            let rule = "is not what the page before gave as `next` in this order";
            Err(Error::invalid(model.name(), "next", &text.into(), rule))
        }
    }
}

fn plain(value: Sql) -> Value {
    match value {
        Sql::Integer(integer) => integer.into(),
        Sql::Real(real) => real.into(),
        Sql::Text(text) => text.into(),
        Sql::Null | Sql::Blob(_) => Value::Null,
    }
}
