//! Conditions, rich changes, batches, transactions and watching on the web.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::rest::Device;

/// Filters travel percent-encoded.
fn filter(value: Value) -> String {
    ioto::api::percent_encode(&value.to_string())
}

fn filled() -> Device {
    let device = Device::start(true);
    for n in 0..5 {
        let body = json!({"id": format!("k{n}"), "n": n, "name": format!("n{}", 9 - n)}).to_string();
        assert_eq!(device.ask("POST", "/api/db/Plain", Some(&body)).status, 201);
    }
    device
}

fn keys(body: &Value) -> Vec<&str> {
    body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[test]
fn a_query_takes_conditions_order_and_fields() {
    let device = filled();
    let get = |query: &str| device.ask("GET", &format!("/api/db/Plain?{query}"), None).body;
    let range = filter(json!({"n": {">=": 1, "<": 4}}));
    assert_eq!(keys(&get(&format!("where={range}"))), ["k1", "k2", "k3"]);
    let either = filter(json!({"or": [{"n": 0}, {"name": {"begins_with": "n5"}}]}));
    assert_eq!(keys(&get(&format!("where={either}"))), ["k0", "k4"]);
    let page = get("order=name&limit=2");
    assert_eq!(keys(&page), ["k4", "k3"]);
    let next = ioto::api::percent_encode(page["next"].as_str().unwrap());
    assert_eq!(keys(&get(&format!("order=name&limit=2&next={next}"))), ["k2", "k1"]);
    assert_eq!(keys(&get("order=n&descending=true&limit=1")), ["k4"]);
    assert_eq!(get("fields=n&limit=1"), json!({"items": [{"n": 0}], "next": "k0"}));
    assert_eq!(get(&format!("count=true&where={range}")), json!({"count": 3}));
    for (query, part) in [
        ("where=x", "where: is not JSON"),
        ("where=%7B%22n%22:%7B%22like%22:1%7D%7D", "`like` is no comparison"),
        ("where=%7B%22secret%22:1%7D", "the model has no field `secret`"),
        ("fields=n,secret", "the model has no field `secret`"),
        ("descending=perhaps", "must be true or false"),
    ] {
        let error = &get(query)["error"];
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn a_change_adds_pushes_and_demands_a_condition() {
    let device = filled();
    let place = "/api/db/Plain/k1";
    let changed = device.ask("PATCH", place, Some(r#"{"name": "x", "$add": {"n": 5}, "$if": {"n": 1}}"#));
    assert_eq!((changed.status, changed.body), (200, json!({"id": "k1", "n": 6, "name": "x"})));
    let refused = device.ask("PATCH", place, Some(r#"{"$add": {"n": 5}, "$if": {"n": 1}}"#));
    assert_eq!((refused.status, &refused.body["error"]["code"]), (409, &json!("condition")));
    let refused = device.ask("PATCH", place, Some(r#"{"$push": {"n": 5}}"#)).body;
    let told = json!({"model": "Plain", "field": "n", "value": "5", "rule": "only to arrays can be appended; this field is none"});
    told.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(&refused["error"][name], value));
    assert_eq!(device.ask("PATCH", place, Some(r#"{"$like": 1}"#)).status, 400);
    let unless = filter(json!({"n": 1}));
    assert_eq!(device.ask("DELETE", &format!("{place}?if={unless}"), None).status, 409);
    let when = filter(json!({"n": 6}));
    assert_eq!(device.ask("DELETE", &format!("{place}?if={when}"), None).status, 204);
    let upserted = device.ask("POST", "/api/db/Plain?upsert=true", Some(r#"{"id": "k2", "name": "y"}"#));
    assert_eq!((upserted.status, upserted.body), (200, json!({"id": "k2", "n": 2, "name": "y"})));
    assert_eq!(device.ask("POST", "/api/db/Plain?upsert=true", Some(r#"{"id": "new"}"#)).status, 201);
}

#[test]
fn a_transaction_is_done_as_a_whole_and_a_batch_one_by_one() {
    let device = filled();
    let operations = json!([
        {"update": "Plain", "id": "k0", "add": {"n": 10}},
        {"create": "Plain", "item": {"id": "k1"}},
        {"remove": "Plain", "id": "k2"},
    ]);
    let whole = device.ask("POST", "/api/db", Some(&json!({"transaction": operations}).to_string()));
    assert_eq!((whole.status, &whole.body["error"]["code"]), (409, &json!("exists")));
    assert_eq!(whole.body["error"]["operation"], json!(1));
    assert_eq!(device.ask("GET", "/api/db/Plain/k0", None).body["n"], json!(0));
    let single = device.ask("POST", "/api/db", Some(&json!({"batch": operations}).to_string()));
    assert_eq!(single.body["results"][0]["item"]["n"], json!(10));
    assert_eq!(single.body["results"][1]["error"]["code"], json!("exists"));
    assert_eq!(single.body["results"][2], json!({"removed": true}));
    for body in ["{}", r#"{"batch": 1}"#, r#"{"batch": [{"create": "Plain"}]}"#, r#"{"batch": [{"shout": "Plain"}]}"#] {
        assert_eq!(device.ask("POST", "/api/db", Some(body)).status, 400, "{body}");
    }
    assert_eq!(device.ask("POST", "/api/db", Some(r#"{"task": "backup"}"#)).status, 403);
    let statistics = device.ask("GET", "/api/db?statistics", None).body;
    let plain = statistics["models"].as_array().unwrap().iter().find(|model| model["name"] == "Plain").unwrap();
    assert_eq!(plain["rows"], json!(4));
}

#[test]
fn changes_come_as_server_sent_events() {
    let device = filled();
    let mut stream = TcpStream::connect(device.address).unwrap();
    let target = format!("/api/db/Plain?watch&where={}", filter(json!({"n": {">": 2}})));
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut next = |wanted: &str| lines.find_map(|line| line.strip_prefix(wanted).map(str::to_owned)).unwrap();
    assert_eq!(next("event: "), "watching");
    device.ask("PATCH", "/api/db/Plain/k1", Some(r#"{"name": "unseen"}"#));
    device.ask("PATCH", "/api/db/Plain/k1", Some(r#"{"n": 3}"#));
    device.ask("DELETE", "/api/db/Plain/k4", None);
    assert_eq!(next("event: "), "updated");
    let change: Value = serde_json::from_str(&next("data: ")).unwrap();
    assert_eq!((&change["id"], &change["before"]["n"], &change["item"]["n"]), (&json!("k1"), &json!(1), &json!(3)));
    assert_eq!(next("event: "), "removed");
}
