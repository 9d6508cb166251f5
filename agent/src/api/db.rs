//! The database on the web: `/api/db/MODEL` and `/api/db/MODEL/ID`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/db` | the models and their fields; with `?statistics` how much of them there is; with `?conflicts&limit=N` the newest conflicts of replication, 100 if nothing is said: `{"conflicts": [{"model", "id", "at", "resolution", "version", "device", "cloud"}]}` |
//! | `POST /api/db` | `{"transaction": […]}` and `{"batch": […]}` of operations, see [`Operation`]: `{"results": […]}` |
//! | `GET /api/db/MODEL?field=value&where=&order=&descending=&fields=&limit=&next=` | `{"items": […], "next": …}`; `next` is absent on the last page; `where` is a [`Filter`](crate::db::Filter) as JSON; with `count=true` only `{"count"}` |
//! | `GET /api/db?watch`, `GET /api/db/MODEL?watch&where=&since=` | changes, as server-sent events or over a WebSocket, see below |
//! | `POST /api/db/MODEL` | 201 with the item, after it is safe on the disk, and its place in `Location`; with `?upsert=true` 200 when it was there and its fields were set |
//! | `GET`, `PATCH`, `DELETE /api/db/MODEL/ID` | the item, the changed item, 204; a PATCH has fields to set, and `$add`, `$push`, `$remove`, `$if`; DELETE takes `?if=` |
//!
//! A watch tells `watching` at first, then `created`, `updated` and `removed` after each change is safe, and `lost` when there
//! were more than could be told: then find anew. Server-sent events have this as the event's name, and JSON as its data:
//! `{"change": "updated", "model", "id", "before", "item"}`; the id of an event says where in the stream of changes it stands.
//! A request that asks for a WebSocket (`Upgrade: websocket`, from pages of this server alone) gets the same JSON, a text message
//! each, with that place as `at`. Who watches again with `since=AT` or `Last-Event-ID` hears what it missed, for about a minute;
//! after that, `lost`. The client of a WebSocket sends nothing. It is pinged (`web.webSockets.ping`), and closed with
//!
//! | code | reason |
//! |---|---|
//! | 1001 | the server stops, or nothing came for `web.timeouts.inactivity`, not even the answer to a ping |
//! | 1003 | the client sent a message |
//! | 1012 | the database was closed: connect again |
//! | 1013 | `database.watchers` watch already: try again later; server-sent events are answered with 503 |
//!
//! A client that takes nothing for `web.timeouts.inactivity` is cut off.
//!
//! Errors are `{"error": {"code", "message", "model", "field", "value", "rule"}}` with 400, 403, 404, 405, 409, 413, 415, 500, 503 or 507.
//! HEAD is answered as GET without the body. Hidden fields are left out.

use serde_json::{Map, Value, json};

use super::db_parameters::{self as parameters, Asked};
use super::{Door, db_watch, guard, percent_encode};
use crate::db::{Db, Done, Error as DbError, Field, Item, Model, Operation, Update};
use crate::http1::Method;
use crate::web::{Action, Error, Exchange};

/// The action for a prefix such as `/api/db`. For `door` see [`guard`].
pub fn database(db: Db, door: Door) -> impl Action {
    async move |exchange: &mut Exchange| serve(&db, door, exchange).await
}

/// What the same prefix answers while there is no database: 503, and the words as JSON.
///
/// # Errors
/// The client is gone.
pub async fn no_database(exchange: &mut Exchange) -> Result<(), Error> {
    exchange.set_status(503);
    exchange.set_header("Cache-Control", "no-store")?;
    let message = "the database is not up; `ioto status` says why";
    exchange.send_json(&json!({"error": {"code": "closed", "message": message}})).await
}

async fn serve(db: &Db, door: Door, exchange: &mut Exchange) -> Result<(), Error> {
    let answer = match guard(exchange, door) {
        Ok(()) => match parameters::watched(db, exchange) {
            Ok(None) => answer(db, door, exchange).await,
            Ok(Some(watch)) => return db_watch::tell(db, watch, exchange).await,
            Err(Refusal::Answer(answer)) if answer.status == 503 && db_watch::asks_for_socket(exchange) => {
                return db_watch::turn_away(exchange).await;
            }
            Err(refusal) => Err(refusal),
        },
        Err(error) => Err(Refusal::from(error)),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(Refusal::Web(error)) => return Err(error),
        Err(Refusal::Answer(answer)) => answer,
    };
    exchange.set_status(answer.status);
    exchange.set_header("Cache-Control", "no-store")?;
    if let Some((name, value)) = &answer.header {
        exchange.set_header(name, value)?;
    }
    match answer.body {
        Value::Null => Ok(()),
        body => exchange.send_json(&body).await,
    }
}

/// What goes back.
pub(super) struct Answer {
    status: u16,
    header: Option<(&'static str, String)>,
    body: Value,
}

/// Why a request is not carried out.
pub(super) enum Refusal {
    /// Told to the client.
    Answer(Answer),
    /// The connection is no good any more.
    Web(Error),
}

impl Answer {
    fn new(status: u16, body: impl Into<Value>) -> Self {
        Self { status, header: None, body: body.into() }
    }
}

async fn answer(db: &Db, door: Door, exchange: &mut Exchange) -> Result<Answer, Refusal> {
    let rest = exchange.rest().to_owned();
    let (model, key) = match rest.split_once('/') {
        Some((model, key)) => (model, Some(key).filter(|key| !key.is_empty())),
        None => (rest.as_str(), None),
    };
    if model.is_empty() {
        return match exchange.method() {
            Method::Get | Method::Head if exchange.queries().any(|(name, _)| name == "statistics") => {
                Ok(Answer::new(200, db.statistics().await?.to_json()))
            }
            Method::Get | Method::Head if exchange.queries().any(|(name, _)| name == "conflicts") => {
                let conflicts = db.conflicts(parameters::newest(exchange)?).await?;
                let conflicts: Value = conflicts.iter().map(|conflict| conflict.to_json(db.schema())).collect();
                Ok(Answer::new(200, json!({"conflicts": conflicts})))
            }
            Method::Get | Method::Head => Ok(Answer::new(200, schema(db))),
            Method::Post => several(db, door, input(exchange).await?).await,
            _ => Err(wrong_method("GET, HEAD, POST")),
        };
    }
    let known = db.schema().model(model).ok_or_else(|| DbError::Model { model: model.into() })?;
    match (key, exchange.method()) {
        (None, Method::Get | Method::Head) => find(db, known, exchange).await,
        (None, Method::Post) => create(db, known, exchange).await,
        (None, _) => Err(wrong_method("GET, HEAD, POST")),
        (Some(key), Method::Get | Method::Head) => {
            let missing = || DbError::Missing { model: model.into(), key: key.into() };
            let item = db.get(model, key).await?.ok_or_else(missing)?;
            Ok(Answer::new(200, known.visible(item)))
        }
        (Some(key), Method::Patch) => {
            let update = change(known, input(exchange).await?)?;
            let item = db.update(model, key, update).await?;
            Ok(Answer::new(200, known.visible(item)))
        }
        (Some(key), Method::Delete) => {
            let removed = match parameters::condition(known, exchange)? {
                Some(condition) => db.remove_if(model, key, condition).await.map(|()| true)?,
                None => db.remove(model, key).await?,
            };
            match removed {
                true => Ok(Answer::new(204, Value::Null)),
                false => Err(DbError::Missing { model: model.into(), key: key.into() }.into()),
            }
        }
        (Some(_), _) => Err(wrong_method("GET, HEAD, PATCH, DELETE")),
    }
}

async fn find(db: &Db, model: &Model, exchange: &Exchange) -> Result<Answer, Refusal> {
    let Asked { query, count, .. } = parameters::find(model, exchange)?;
    if count {
        return Ok(Answer::new(200, json!({"count": db.count_where(model.name(), query).await?})));
    }
    let page = db.find(model.name(), query).await?;
    let items: Vec<Value> = page.items.into_iter().map(|item| Value::Object(model.visible(item))).collect();
    let mut body = Map::from_iter([("items".to_owned(), Value::Array(items))]);
    if let Some(next) = page.next {
        body.insert("next".into(), next.into());
    }
    Ok(Answer::new(200, body))
}

async fn create(db: &Db, model: &Model, exchange: &Exchange) -> Result<Answer, Refusal> {
    let (item, new) = match parameters::is_upsert(model, exchange)? {
        true => db.upsert(model.name(), input(exchange).await?).await?,
        false => (db.create(model.name(), input(exchange).await?).await?, true),
    };
    if !new {
        return Ok(Answer::new(200, model.visible(item)));
    }
    let key = item.get(model.key().name()).and_then(Value::as_str).unwrap_or_default();
    let place = format!("{}/{}", exchange.path().trim_end_matches('/'), percent_encode(key));
    Ok(Answer { status: 201, header: Some(("Location", place)), body: model.visible(item).into() })
}

/// The members that begin with `$` say what to do; the others are set.
fn change(model: &Model, body: Item) -> Result<Update, Refusal> {
    let (orders, mut set): (Item, Item) = body.into_iter().partition(|(name, _)| name.starts_with('$'));
    let orders = orders.into_iter().map(|(name, value)| (name.trim_start_matches('$').to_owned(), value)).collect();
    let mut update = Update::from_json(orders).map_err(|rule| invalid(model, "$", &format!("${rule}")))?;
    set.append(&mut update.set);
    update.set = set;
    Ok(update)
}

/// Batches, transactions, and the care of the file.
async fn several(db: &Db, door: Door, mut body: Item) -> Result<Answer, Refusal> {
    let operations = |value: Value| match value {
        Value::Array(values) => {
            let read = |(n, value)| Operation::from_json(value).map_err(|rule| format!("operation {}: {rule}", n + 1));
            values.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()
        }
        _ => Err("`batch` and `transaction` are lists of operations".into()),
    };
    let (name, value) = match (body.shift_remove("transaction"), body.shift_remove("batch"), body.shift_remove("task"))
    {
        (Some(value), None, None) => ("transaction", value),
        (None, Some(value), None) => ("batch", value),
        (None, None, Some(Value::String(task))) => return care(db, door, &task).await,
        _ => return Err(refusal(400, "syntax", "the body must have one of `transaction`, `batch` and `task`")),
    };
    let operations = operations(value).map_err(|rule| refusal(400, "invalid", &rule))?;
    let models: Vec<String> = operations.iter().map(|operation| operation.model().to_owned()).collect();
    let results: Vec<Value> = match name {
        "transaction" => {
            let done = db.transact(operations).await?;
            done.iter().zip(&models).map(|(done, model)| done.to_json(db.schema(), model)).collect()
        }
        _ => {
            let results = db.batch(operations).await?;
            let result = |(result, model): (Result<Done, DbError>, &String)| match result {
                Ok(done) => done.to_json(db.schema(), model),
                Err(error) => json!({"error": described(&error)}),
            };
            results.into_iter().zip(&models).map(result).collect()
        }
    };
    Ok(Answer::new(200, json!({"results": results})))
}

/// What takes long or fills the disk is for those on the device.
async fn care(db: &Db, door: Door, task: &str) -> Result<Answer, Refusal> {
    if door != Door::Own {
        return Err(refusal(403, "forbidden", "tasks are only for the device itself: use `ioto db` there"));
    }
    match task {
        "check" => Ok(Answer::new(200, db.verify().await?.to_json())),
        "compact" => {
            db.compact().await?;
            Ok(Answer::new(200, db.statistics().await?.to_json()))
        }
        "backup" => {
            let (path, bytes) = db.backup_beside().await?;
            Ok(Answer::new(200, json!({"path": path, "bytes": bytes})))
        }
        "rekey" => Ok(Answer::new(200, json!({"rows": db.rekey().await?}))),
        _ => Err(refusal(400, "invalid", "`task` must be one of check, compact, backup, rekey")),
    }
}

/// The object in the body of the request.
async fn input(exchange: &Exchange) -> Result<Item, Refusal> {
    let kind = exchange.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
        return Err(refusal(415, "content_type", "the body must be JSON, with `Content-Type: application/json`"));
    }
    match exchange.json().await? {
        Value::Object(item) => Ok(item),
        _ => Err(refusal(400, "syntax", "the body must be a JSON object with the fields of the item")),
    }
}

fn schema(db: &Db) -> Value {
    let field = |field: &Field| {
        json!({
            "name": field.name(), "type": field.kind().to_string(), "required": field.required(),
            "generated": field.generated(), "readonly": field.readonly(),
        })
    };
    let model = |model: &Model| {
        let fields: Vec<Value> = model.fields().iter().filter(|field| !field.hidden()).map(field).collect();
        json!({
            "name": model.name(), "key": model.key().name(), "sync": model.sync().to_string(), "fields": fields,
        })
    };
    let models: Vec<Value> = db.schema().models().map(|found| model(found)).collect();
    json!({"version": db.schema().version(), "models": models})
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    Refusal::Answer(Answer::new(status, json!({"error": {"code": code, "message": message}})))
}

pub(super) fn invalid(model: &Model, field: &str, message: &str) -> Refusal {
    let error = json!({"code": "invalid", "message": message, "model": model.name(), "field": field});
    Refusal::Answer(Answer::new(400, json!({"error": error})))
}

fn wrong_method(allowed: &str) -> Refusal {
    let message = format!("only {allowed} are possible here");
    let body = json!({"error": {"code": "method", "message": message}});
    Refusal::Answer(Answer { status: 405, header: Some(("Allow", allowed.into())), body })
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        let status = status_of(&error);
        // That there is no room is logged once, by the database.
        if status >= 500 && !matches!(error, DbError::NoRoom { .. } | DbError::Watched { .. }) {
            log::error!("{error}");
        }
        Refusal::Answer(Answer::new(status, json!({"error": described(&error)})))
    }
}

fn described(error: &DbError) -> Value {
    let mut body = json!({"code": error.code(), "message": error.to_string()});
    let mut inner = error;
    if let DbError::Step { at, error } = error {
        body["operation"] = (*at).into();
        inner = error.as_ref();
    }
    if let DbError::Invalid { model, field, value, rule } = inner {
        body["model"] = model.as_str().into();
        body["field"] = field.as_str().into();
        body["value"] = value.as_str().into();
        body["rule"] = rule.as_str().into();
    }
    body
}

fn status_of(error: &DbError) -> u16 {
    match error {
        DbError::Model { .. } | DbError::Missing { .. } => 404,
        DbError::Invalid { .. } => 400,
        DbError::Exists { .. } | DbError::Condition { .. } | DbError::Capped { .. } => 409,
        DbError::Step { error, .. } => status_of(error),
        DbError::TooLarge { .. } => 413,
        DbError::Full(_) | DbError::NoRoom { .. } => 507,
        DbError::Watched { .. } | DbError::Closed | DbError::Damaged(_) | DbError::Replaced => 503,
        _ => 500,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Status { status: 403, message } => refusal(403, "forbidden", &message),
            Error::Status { status, message } => refusal(status, "syntax", &message),
            Error::Http(error) if error.status() == 413 => refusal(413, "too_large", &error.to_string()),
            error => Refusal::Web(error),
        }
    }
}
