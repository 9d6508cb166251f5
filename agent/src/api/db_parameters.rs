//! The parameters in the query of a request to the database.

use super::db::{Refusal, invalid, refusal};
use crate::db::{Db, Filter, MAX_LIMIT, Model, Query, Watch};
use crate::web::Exchange;

/// Conflicts of an answer, unless more or fewer are asked for.
const CONFLICTS: usize = 100;

/// What a GET asks for.
pub(super) struct Asked {
    pub(super) query: Query,
    /// Only how many there are.
    pub(super) count: bool,
    pub(super) watch: bool,
    /// From where on to watch.
    pub(super) since: Option<String>,
}

pub(super) fn find(model: &Model, exchange: &Exchange) -> Result<Asked, Refusal> {
    let mut asked = Asked { query: Query::new(), count: false, watch: false, since: None };
    let queries = queries(exchange)?;
    let is_watch = queries.iter().any(|(name, _)| name == "watch");
    for (name, value) in queries {
        let refuse = |rule: &str| invalid(model, &name, &format!("{name} = {value}: {rule}"));
        let query = &mut asked.query;
        match name.as_str() {
            "limit" => query.limit = Some(value.parse().map_err(|_| refuse("must be a number"))?),
            "next" => query.next = Some(value).filter(|next| !next.is_empty()),
            "order" if value == "ascending" => query.descending = false,
            "order" if value == "descending" => query.descending = true,
            "order" if !is_open(model, &value) => {
                return Err(refuse("must be a field of the model, ascending or descending"));
            }
            "order" => query.order = Some(value),
            "descending" => query.descending = flag(&value).ok_or_else(|| refuse("must be true or false"))?,
            "count" => asked.count = flag(&value).ok_or_else(|| refuse("must be true or false"))?,
            "watch" => asked.watch = flag(&value).ok_or_else(|| refuse("must be true or false"))?,
            "since" if is_watch => asked.since = Some(value),
            "fields" => {
                query.fields = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                if let Some(name) = query.fields.iter().find(|name| !is_open(model, name)) {
                    return Err(refuse(&format!("the model has no field `{name}`")));
                }
            }
            "where" => {
                let filter = filter(model, &name, &value)?;
                asked.query = asked.query.matching(filter);
            }
            _ => match model.field(&name).filter(|field| !field.hidden()) {
                Some(field) => {
                    let value = field.read(&value).map_err(|rule| refuse(&rule))?;
                    asked.query = asked.query.filter(name, value);
                }
                None => return Err(refuse("the model has no such field")),
            },
        }
    }
    Ok(asked)
}

/// How many conflicts a GET asks for.
pub(super) fn newest(exchange: &Exchange) -> Result<usize, Refusal> {
    let limit = queries(exchange)?.into_iter().find(|(name, _)| name == "limit");
    let Some((_, text)) = limit else { return Ok(CONFLICTS) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| refusal(400, "invalid", &format!("limit = {text}: must be a number from 1 to {MAX_LIMIT}")))
}

/// The watch that a request begins, if it does.
pub(super) fn watched(db: &Db, exchange: &Exchange) -> Result<Option<Watch>, Refusal> {
    let rest = exchange.rest();
    if !matches!(exchange.method(), crate::http1::Method::Get) || !exchange.queries().any(|(name, _)| name == "watch") {
        return Ok(None);
    }
    // A browser whose stream of events was cut says where it stopped.
    let last = exchange.header("last-event-id").map(str::to_owned);
    if rest.is_empty() {
        let since = exchange.query("since").or(last);
        return Ok(Some(db.watch_since(None, None, since.as_deref())?));
    }
    match db.schema().model(rest) {
        Some(model) => match find(model, exchange)? {
            Asked { query, watch: true, since, .. } => {
                Ok(Some(db.watch_since(Some(model.name()), Some(query.filter), since.or(last).as_deref())?))
            }
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

/// `if`, the condition of a DELETE.
pub(super) fn condition(model: &Model, exchange: &Exchange) -> Result<Option<Filter>, Refusal> {
    let mut condition = None;
    for (name, value) in queries(exchange)? {
        match name.as_str() {
            "if" => condition = Some(filter(model, &name, &value)?),
            _ => return Err(invalid(model, &name, &format!("{name}: only `if` is known here"))),
        }
    }
    Ok(condition)
}

/// `upsert=true` of a POST.
pub(super) fn is_upsert(model: &Model, exchange: &Exchange) -> Result<bool, Refusal> {
    let mut upsert = false;
    for (name, value) in queries(exchange)? {
        match (name.as_str(), flag(&value)) {
            ("upsert", Some(value)) => upsert = value,
            _ => return Err(invalid(model, &name, &format!("{name} = {value}: only `upsert=true` is known here"))),
        }
    }
    Ok(upsert)
}

fn filter(model: &Model, name: &str, text: &str) -> Result<Filter, Refusal> {
    let refuse = |rule: &str| invalid(model, name, &format!("{name}: {rule}"));
    let filter = Filter::read(text).map_err(|rule| refuse(&rule))?;
    match filter.fields().into_iter().find(|name| !is_open(model, name)) {
        Some(field) => Err(refuse(&format!("the model has no field `{field}`"))),
        None => Ok(filter),
    }
}

/// Whether the model has the field, and shows it.
fn is_open(model: &Model, name: &str) -> bool {
    model.field(name).is_some_and(|field| !field.hidden())
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// All parameters. One that cannot be decoded is left out of `queries`; without it the answer would have too much in it.
fn queries(exchange: &Exchange) -> Result<Vec<(String, String)>, Refusal> {
    let read: Vec<(String, String)> = exchange.queries().collect();
    let written = exchange.target().split_once('?').map_or("", |(_, query)| query);
    match written.split('&').filter(|pair| !pair.is_empty()).count() == read.len() {
        true => Ok(read),
        false => Err(refusal(400, "syntax", "the query is not percent-encoded UTF-8")),
    }
}
