//! Changes of the schema between two starts.

use ioto::config;
use ioto::db::{Db, Error, Query, Schema, Update};
use serde_json::json;
use smol::block_on;

use super::{Scratch, item};

const KEYS: &str = "id: {type: 'string'}";

fn open(scratch: &Scratch, schema: &str) -> Result<Db, Error> {
    let options = config::Database { path: scratch.file(), ..Default::default() };
    Db::open(&options, Schema::parse(schema, "schema.json5").unwrap())
}

/// A schema of one model `M` that replicates up.
fn model(fields: &str) -> String {
    format!("{{process: {{M: {{sync: 'up'}}}}, models: {{M: {{{KEYS}, {fields}}}}}}}")
}

#[test]
fn what_only_adds_is_taken_over_at_once_and_nothing_stored_is_touched() {
    let scratch = Scratch::new();
    let db = open(&scratch, &model("n: {type: 'number'}")).unwrap();
    block_on(db.create("M", item(json!({"id": "a", "n": 1})))).unwrap();
    drop(db);
    let wider = model(
        "n: {type: 'number'}, name: {type: 'string'}, kind: {type: 'string', required: true, default: 'x'}, \
         code: {type: 'string', unique: true}, updated: {type: 'date', required: true}",
    );
    let wider = wider.replace("models: {", "models: {New: {id: {type: 'string'}}, ");
    let db = open(&scratch, &wider).unwrap();
    assert_eq!(block_on(db.get("M", "a")).unwrap().unwrap(), item(json!({"id": "a", "n": 1})));
    block_on(db.create("M", item(json!({"id": "b", "code": "1"})))).unwrap();
    block_on(db.create("New", item(json!({"id": "b"})))).unwrap();
    assert!(block_on(db.create("M", item(json!({"id": "c", "code": "1"})))).is_err());
    block_on(db.update("M", "a", item(json!({"name": "now"})))).unwrap();
}

#[test]
fn what_stored_items_do_not_fit_is_refused_with_model_field_rule_and_an_example() {
    let scratch = Scratch::new();
    let before = model("n: {type: 'number'}, name: {type: 'string'}, list: {type: 'array'}");
    let db = open(&scratch, &before).unwrap();
    for (id, rest) in [("a", json!({"n": 1, "name": "x"})), ("b", json!({"n": 2, "name": "x"})), ("c", json!({}))] {
        let mut row = item(rest);
        row.insert("id".into(), id.into());
        block_on(db.create("M", row)).unwrap();
    }
    let site = db.site();
    drop(db);
    for (fields, parts) in [
        ("n: {type: 'string'}", &["model M, field n: the item 'a' has 1, and must be a string now (and 1 others)"][..]),
        ("n: {type: 'number', enum: [1]}", &["field n: the item 'b' has 2, and must be one of 1"]),
        ("name: {type: 'string', required: true}", &["field name: the item 'c' has no value", "`default`"]),
        ("name: {type: 'string', unique: true}", &["field name: the items 'a' and 'b' have the same value", "unique"]),
        (
            "name: {type: 'date'}, n: {type: 'boolean'}",
            &["field name: the item 'a' has \"x\"", "field n: the item 'a'"],
        ),
    ] {
        let error = open(&scratch, &model(fields)).unwrap_err();
        assert_eq!(error.code(), "schema");
        let error = error.to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error}"));
        assert!(error.contains("nothing was changed"), "{error}");
    }
    for key in [
        "{models: {M: {sk: {type: 'string', generate: 'ulid'}}}}",
        "{models: {M: {id: {type: 'string', value: 'm#${n}'}, n: {type: 'number'}}}}",
    ] {
        let error = open(&scratch, key).unwrap_err().to_string();
        assert!(error.contains("the key of a model cannot be changed"), "{error}");
    }
    // The schema from before finds everything as it was.
    let db = open(&scratch, &before).unwrap();
    assert_eq!((block_on(db.count("M")).unwrap(), db.site() == site), (3, true));
    assert_eq!(block_on(db.backlog()).unwrap().rows, 3);
    assert!(!scratch.file().with_extension("db.corrupt-1").exists());
    // And once they fit, it is taken.
    block_on(db.update("M", "a", Update::new().remove("n"))).unwrap();
    block_on(db.update("M", "b", Update::new().remove("n"))).unwrap();
    drop(db);
    open(&scratch, &model("n: {type: 'string'}, name: {type: 'string'}, list: {type: 'array'}")).unwrap();
}

#[test]
fn an_earlier_firmware_works_on_and_keeps_what_it_does_not_know_for_the_later_one() {
    let scratch = Scratch::new();
    let old = model("n: {type: 'number', required: true}, kind: {type: 'string', enum: ['a']}");
    let new = model("n: {type: 'number'}, kind: {type: 'string', enum: ['a', 'b']}, extra: {type: 'string'}")
        .replace("process: {", "process: {New: {sync: 'up'}, ")
        .replace("models: {", "models: {New: {id: {type: 'string'}, text: {type: 'string'}}, ");
    let db = open(&scratch, &old).unwrap();
    block_on(db.create("M", item(json!({"id": "a", "n": 1, "kind": "a"})))).unwrap();
    drop(db);
    let db = open(&scratch, &new).unwrap();
    block_on(db.update("M", "a", item(json!({"extra": "kept", "kind": "b"})))).unwrap();
    block_on(db.create("M", item(json!({"id": "b", "kind": "b", "extra": "kept too"})))).unwrap();
    block_on(db.create("New", item(json!({"id": "x", "text": "waits"})))).unwrap();
    drop(db);
    // The update was rolled back. Items that the earlier schema would refuse are there, and are kept.
    let db = open(&scratch, &old).unwrap();
    assert_eq!(db.health().unknown, ["New"]);
    assert_eq!(block_on(db.find("M", Query::new())).unwrap().items.len(), 2);
    let changed = block_on(db.update("M", "a", item(json!({"n": 2})))).unwrap();
    assert_eq!(changed["extra"], "kept");
    block_on(db.update("M", "b", item(json!({"n": 3})))).unwrap();
    let pending = block_on(db.pending(10, &Default::default())).unwrap();
    assert_eq!(pending.iter().map(|change| change.model.as_str()).collect::<Vec<_>>(), ["M", "M"]);
    assert_eq!(pending[1].item.as_ref().unwrap()["extra"], "kept too");
    drop(db);
    let db = open(&scratch, &new).unwrap();
    assert!(db.health().unknown.is_empty());
    assert_eq!(block_on(db.get("New", "x")).unwrap().unwrap()["text"], "waits");
    assert_eq!(block_on(db.get("M", "b")).unwrap().unwrap()["extra"], "kept too");
    assert_eq!(block_on(db.backlog()).unwrap().rows, 3);
}

#[test]
fn what_comes_from_the_cloud_is_not_held_against_a_schema() {
    let scratch = Scratch::new();
    let schema =
        |kind: &str| format!("{{process: {{M: {{sync: 'down'}}}}, models: {{M: {{{KEYS}, n: {{type: '{kind}'}}}}}}}}");
    let db = open(&scratch, &schema("number")).unwrap();
    let incoming = ioto::db::inbound::Incoming {
        model: "M".into(),
        key: "a".into(),
        version: Some(1),
        item: Some(item(json!({"id": "a", "n": 5}))),
    };
    let batch = ioto::db::inbound::Batch { items: vec![incoming], ..Default::default() };
    assert_eq!(block_on(db.apply(batch)).unwrap(), 1);
    drop(db);
    let db = open(&scratch, &schema("string")).unwrap();
    assert_eq!(block_on(db.get("M", "a")).unwrap().unwrap()["n"], 5);
}
