//! The database on the web: `/api/db/MODEL` and `/api/db/MODEL/ID`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/db` | the models and their fields |
//! | `GET /api/db/MODEL?field=value&limit=&next=&order=` | `{"items": […], "next": …}`; `next` is absent on the last page |
//! | `POST /api/db/MODEL` | 201 with the item, after it is safe on the disk, and its place in `Location` |
//! | `GET`, `PATCH`, `DELETE /api/db/MODEL/ID` | the item, the changed item, 204 |
//!
//! Errors are `{"error": {"code", "message", "model", "field"}}` with 400, 403, 404, 405, 409, 413, 415, 500, 503 or 507.
//! HEAD is answered as GET without the body. Hidden fields are left out.

use serde_json::{Map, Value, json};

use super::{Door, guard, percent_encode};
use crate::db::{Db, Error as DbError, Field, Item, Model, Query};
use crate::http1::Method;
use crate::web::{Action, Error, Exchange};

/// The action for a prefix such as `/api/db`. For `door` see [`guard`].
pub fn database(db: Db, door: Door) -> impl Action {
    async move |exchange: &mut Exchange| serve(&db, door, exchange).await
}

async fn serve(db: &Db, door: Door, exchange: &mut Exchange) -> Result<(), Error> {
    let answer = match guard(exchange, door) {
        Ok(()) => answer(db, exchange).await,
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
struct Answer {
    status: u16,
    header: Option<(&'static str, String)>,
    body: Value,
}

/// Why a request is not carried out.
enum Refusal {
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

async fn answer(db: &Db, exchange: &mut Exchange) -> Result<Answer, Refusal> {
    let rest = exchange.rest().to_owned();
    let (model, key) = match rest.split_once('/') {
        Some((model, key)) => (model, Some(key).filter(|key| !key.is_empty())),
        None => (rest.as_str(), None),
    };
    if model.is_empty() {
        return match exchange.method() {
            Method::Get | Method::Head => Ok(Answer::new(200, schema(db))),
            _ => Err(wrong_method("GET, HEAD")),
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
            let changes = input(exchange).await?;
            let item = db.update(model, key, changes).await?;
            Ok(Answer::new(200, known.visible(item)))
        }
        (Some(key), Method::Delete) => match db.remove(model, key).await? {
            true => Ok(Answer::new(204, Value::Null)),
            false => Err(DbError::Missing { model: model.into(), key: key.into() }.into()),
        },
        (Some(_), _) => Err(wrong_method("GET, HEAD, PATCH, DELETE")),
    }
}

async fn find(db: &Db, model: &Model, exchange: &Exchange) -> Result<Answer, Refusal> {
    let mut query = Query::new();
    let mut read = 0;
    for (name, value) in exchange.queries() {
        read += 1;
        let refuse = |rule: &str| invalid(model, &name, &format!("{name} = {value}: {rule}"));
        match name.as_str() {
            "limit" => query.limit = Some(value.parse().map_err(|_| refuse("must be a number"))?),
            "next" => query.next = Some(value).filter(|next| !next.is_empty()),
            "order" => {
                query.descending = match value.as_str() {
                    "ascending" => false,
                    "descending" => true,
                    _ => return Err(refuse("must be ascending or descending")),
                }
            }
            _ => match model.field(&name).filter(|field| !field.hidden()) {
                Some(field) => {
                    let value = field.read(&value).map_err(|rule| refuse(&rule))?;
                    query.filters.push((name, value));
                }
                None => return Err(refuse("the model has no such field")),
            },
        }
    }
    // A filter that cannot be decoded is left out of `queries`; without it the answer would have too much in it.
    let written = exchange.target().split_once('?').map_or("", |(_, query)| query);
    if written.split('&').filter(|pair| !pair.is_empty()).count() != read {
        return Err(refusal(400, "syntax", "the query is not percent-encoded UTF-8"));
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
    let item = db.create(model.name(), input(exchange).await?).await?;
    let key = item.get(model.key().name()).and_then(Value::as_str).unwrap_or_default();
    let place = format!("{}/{}", exchange.path().trim_end_matches('/'), percent_encode(key));
    Ok(Answer { status: 201, header: Some(("Location", place)), body: model.visible(item).into() })
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

fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    Refusal::Answer(Answer::new(status, json!({"error": {"code": code, "message": message}})))
}

fn invalid(model: &Model, field: &str, message: &str) -> Refusal {
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
        let status = match &error {
            DbError::Model { .. } | DbError::Missing { .. } => 404,
            DbError::Invalid { .. } => 400,
            DbError::Exists { .. } => 409,
            DbError::TooLarge { .. } => 413,
            DbError::Full(_) => 507,
            DbError::Closed => 503,
            _ => 500,
        };
        if status >= 500 {
            log::error!("{error}");
        }
        let mut body = json!({"code": error.code(), "message": error.to_string()});
        if let DbError::Invalid { model, field, .. } = &error {
            body["model"] = model.as_str().into();
            body["field"] = field.as_str().into();
        }
        Refusal::Answer(Answer::new(status, json!({"error": body})))
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
