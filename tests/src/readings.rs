//! The model `Reading` that tests write: its schema, and where its rows ended up.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use crate::{Client, Moto, Response};

/// A schema with the model `Reading`, replicated to DynamoDB.
pub const SCHEMA: &str = "{
    version: '1.0.0',
    format: 'onetable:1.1.0',
    models: {
        Reading: {
            id: {type: 'string', generate: 'ulid'},
            name: {type: 'string', required: true},
            value: {type: 'number'},
        },
    },
    process: {Reading: {sync: 'up'}},
}
";

/// Rows by name: id and value. A name that is there twice is a failure of the test, and reading panics.
pub type Rows = BTreeMap<String, (String, i64)>;

/// Posts a row.
pub fn post(client: &mut Client, name: &str, value: i64) -> io::Result<Response> {
    client.post("/api/db/Reading", &json!({"name": name, "value": value}))
}

/// The rows that the agent has, read page by page.
pub fn on_the_device(client: &mut Client) -> Rows {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let page = client.get(&format!("/api/db/Reading?limit=500{next}")).expect("ask the agent for its rows");
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        items.extend(page["items"].as_array().expect("a page has items").iter().cloned());
        match page["next"].as_str() {
            Some(key) => next = format!("&next={key}"),
            None => return rows(&items),
        }
    }
}

/// The rows that are in DynamoDB.
///
/// moto makes a new item with its keys alone and gives it the rest a moment later; one of those is not there yet.
pub fn in_the_cloud(moto: &Moto) -> Rows {
    let mut items = moto.scan();
    items.retain(|item| item["pk"].as_str().is_some_and(|key| key.ends_with("#Reading")) && !item["_v"].is_null());
    for item in &items {
        assert_eq!(item["sk"], item["id"], "the sort key is the row's key: {item}");
    }
    rows(&items)
}

fn rows(items: &[Value]) -> Rows {
    let mut rows = Rows::new();
    for item in items {
        let text = |key: &str| item[key].as_str().unwrap_or_else(|| panic!("no {key} in {item}")).to_owned();
        let value = item["value"].as_f64().unwrap_or_else(|| panic!("no value in {item}")) as i64;
        let twice = rows.insert(text("name"), (text("id"), value));
        assert!(twice.is_none(), "this row is there twice: {item}");
    }
    rows
}
