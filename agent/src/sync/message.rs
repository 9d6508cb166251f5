//! The messages of the transport over MQTT, as `agent/cloud/PROTOCOL.md` has them.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::engine::Push;
use super::item::Current;
use super::pull::{Page, Query, Scope};
use super::question::{self, Place};

/// Most bytes of a message to the cloud.
pub(super) const MESSAGE: usize = 120 * 1024;
/// Most changes in one.
pub(super) const CHANGES: usize = 500;

/// What the cloud answers.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// What became of some changes, by their places in the batch.
    Results(Vec<(usize, Value)>),
    /// A page, to be read with [`page`].
    Page(Value),
    /// Why the whole request was not carried out, and whether it may be another time.
    Error { retry: bool, reason: String },
}

/// The beginning of a message with changes; [`batch`] adds what is missing.
pub(super) fn opening(site: &str, schema: &str) -> String {
    format!("{{\"v\":1,\"type\":\"push\",\"site\":{},\"schema\":{}", json!(site), json!(schema))
}

/// A message with these changes, each as JSON.
pub(super) fn batch<'a>(opening: &str, id: &str, changes: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut message = format!("{opening},\"id\":{},\"changes\":[", json!(id));
    for (at, change) in changes.enumerate() {
        message.push_str(if at > 0 { "," } else { "" });
        message.push_str(change);
    }
    message.push_str("]}");
    message.into_bytes()
}

/// Bytes that a message has beside its changes and the commas between them.
pub(super) fn overhead(opening: &str, id: &str) -> usize {
    batch(opening, id, std::iter::empty()).len()
}

/// A question.
pub(super) fn question(id: &str, query: &Query) -> Vec<u8> {
    let mut message = match &query.scope {
        Scope::Newest => json!({"type": "pull", "since": "0", "newest": true}),
        Scope::Changes(since) => json!({"type": "pull", "since": since.as_deref().unwrap_or("0")}),
        Scope::Model(model) => json!({"type": "all", "model": model}),
    };
    message["v"] = 1.into();
    message["id"] = id.into();
    message["next"] = query.start.clone().unwrap_or_default();
    message.to_string().into_bytes()
}

/// The id of the request that a message answers, and the answer. An error says why it is none, in words.
pub(super) fn reply(payload: &[u8]) -> Result<(String, Reply), String> {
    let mut reply: Value = serde_json::from_slice(payload).map_err(|error| format!("it is not JSON: {error}"))?;
    if reply["v"] != 1 {
        return Err("it is not an object with v: 1".to_owned());
    }
    let reason = || reply["reason"].as_str().unwrap_or("no reason is said").to_owned();
    let Some(id) = reply["id"].as_str().map(str::to_owned) else {
        return Err(format!("it is for no request: {}", reason()));
    };
    let answer = match reply["type"].as_str() {
        Some("ack") => Reply::Results(results(reply["results"].take())?),
        Some("page") => Reply::Page(reply),
        Some("error") => Reply::Error { retry: reply["retry"] != false, reason: reason() },
        _ => return Err("it is none of ack, page, error".to_owned()),
    };
    Ok((id, answer))
}

fn results(results: Value) -> Result<Vec<(usize, Value)>, String> {
    let Value::Array(results) = results else { return Err("results is not a list".to_owned()) };
    let place = |result: &Value| result["i"].as_u64().and_then(|at| usize::try_from(at).ok());
    let result = |result: Value| place(&result).map(|at| (at, result)).ok_or("a result without its place".to_owned());
    results.into_iter().map(result).collect()
}

/// What the result of a change means; of an item that is cut only what its stamps decide.
pub(super) fn answer(thing: &str, push: &Push, result: &Value) -> Answer {
    let reason = || result["reason"].as_str().unwrap_or("no reason is said").to_owned();
    match result["status"].as_str() {
        Some("stored") => Answer::Stored,
        Some("differs") => differs(thing, push, result),
        Some("refused") => Answer::Refused(reason()),
        Some("throttled") => Answer::Throttled(reason()),
        _ => Answer::Failed(reason()),
    }
}

fn differs(thing: &str, push: &Push, result: &Value) -> Answer {
    let current = match &result["item"] {
        Value::Null => return Answer::Differs(None),
        Value::Object(attributes) => Current::parse(attributes),
        _ => return Answer::Failed("the item in the answer is none".to_owned()),
    };
    match current {
        Err(reason) => Answer::Refused(reason),
        Ok(current) if result["cut"] == true => {
            let is_decided = current.is_from(&push.row.op) || current.writer.as_deref() == Some(thing);
            match is_decided && current.version.is_some() {
                true => Answer::Differs(Some(Box::new(current))),
                false => Answer::Refused("somebody made the item in the cloud too large for a message".to_owned()),
            }
        }
        Ok(current) => Answer::Differs(Some(Box::new(current))),
    }
}

/// The page that answers a question. An error says what is wrong with it, in words.
pub(super) fn page(place: &Place, query: &Query, page: &Value) -> Result<Page, String> {
    let items = page["items"].as_array().ok_or("the answer has no items")?;
    let items: Option<Vec<(&Map<String, Value>, bool)>> =
        items.iter().map(|entry| Some((entry["item"].as_object()?, entry["cut"] == true))).collect();
    let items = items.ok_or("an item in the answer is none")?;
    let next = Some(page["next"].clone()).filter(|next| !next.is_null());
    Ok(question::page_of(place, query, items.into_iter(), next))
}
