//! Queries, updates, transactions and watching, one behaviour a test.

use ioto::config;
use ioto::db::{Db, Done, Error, Filter, Heard, Operation, Query, Schema, Update};
use serde_json::{Value, json};
use smol::block_on;

use super::{Scratch, item};

const SCHEMA: &str = "{
    indexes: {byKind: {hash: 'kind', sort: 'value'}, byName: {hash: 'name'}},
    process: {Counter: {sync: 'up'}, Scrap: {mem: true}},
    models: {
        Counter: {
            id: {type: 'string'}, kind: {type: 'string'}, value: {type: 'number'}, name: {type: 'string', unique: true},
            list: {type: 'array'}, data: {type: 'binary'}, fixed: {type: 'string', readonly: true},
        },
        Scrap: {id: {type: 'string', generate: 'ulid'}, n: {type: 'number'}},
    },
}";

fn open(scratch: &Scratch) -> Db {
    let options = config::Database { path: scratch.file(), ..Default::default() };
    Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap()
}

fn create(key: &str, fields: Value) -> Operation {
    let mut fields = item(fields);
    fields.insert("id".into(), key.into());
    Operation::Create { model: "Counter".into(), item: fields }
}

fn refusal(error: Error) -> String {
    error.to_string()
}

#[test]
fn an_index_is_used_where_there_is_one_and_gives_the_order() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let plan = |query: Query| block_on(db.explain("Counter", query)).unwrap().join("; ");
    let by_name = plan(Query::new().filter("name", "a"));
    assert!(by_name.contains("USING INDEX i_Counter.name") && !by_name.contains("B-TREE"), "{by_name}");
    let by_kind = plan(Query::new().filter("kind", "a").matching(Filter::greater("value", 5)).order("value"));
    assert!(by_kind.contains("USING INDEX i_Counter.kind.value (<expr>=? AND <expr>>?)"), "{by_kind}");
    assert!(!by_kind.contains("B-TREE"), "{by_kind}");
    let begins = plan(Query::new().matching(Filter::begins_with("name", "ab")).order("name"));
    assert!(begins.contains("i_Counter.name (<expr>>? AND <expr><?)") && !begins.contains("B-TREE"), "{begins}");
    let by_key = plan(Query::new().matching(Filter::begins_with("id", "ab")));
    assert!(by_key.contains("USING PRIMARY KEY (key>? AND key<?)"), "{by_key}");
    let next = plan(Query { next: Some("[5,\"k\"]".into()), ..Query::new().filter("kind", "a").order("value") });
    assert!(next.contains("USING INDEX i_Counter.kind.value") && !next.contains("B-TREE"), "{next}");
}

#[test]
fn an_update_sets_adds_pushes_and_removes_in_one() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    block_on(db.transact(vec![create("a", json!({"value": 1, "kind": "x", "name": "n"}))])).unwrap();
    let update = Update::new().set("kind", "y").add("value", 2).push("list", "first").remove("name");
    let changed = block_on(db.update("Counter", "a", update)).unwrap();
    assert_eq!(Value::Object(changed), json!({"id": "a", "value": 3, "kind": "y", "list": ["first"]}));
    for (update, message) in [
        (Update::new().add("kind", 1), "model Counter, kind = 1: only numbers can be added to; this field is none"),
        (Update::new().add("value", "1"), "model Counter, value = \"1\": must be a number"),
        (
            Update::new().push("value", 1),
            "model Counter, value = 1: only to arrays can be appended; this field is none",
        ),
        (
            Update::new().add("value", i64::MAX),
            "model Counter, value = 9223372036854775807: makes a number that is too large",
        ),
        (
            Update::new().set("value", 1).add("value", 1),
            "model Counter, value = 1: is changed twice by the same update",
        ),
        (Update::new().set("data", "no!"), "data = \"no!\": must be bytes as base64 text"),
        (Update::new().set("fixed", "x"), "fixed = \"x\": is read-only after the item was created"),
    ] {
        let error = refusal(block_on(db.update("Counter", "a", update)).unwrap_err());
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_condition_that_does_not_hold_leaves_everything_as_it_was() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    block_on(db.transact(vec![create("a", json!({"value": 1}))])).unwrap();
    let update = Update::new().add("value", 1).only_if(Filter::equal("value", 1));
    assert!(block_on(db.update("Counter", "a", update.clone())).is_ok());
    let error = block_on(db.update("Counter", "a", update)).unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("'a' is not as the condition demands")), ("condition", true));
    let error = block_on(db.remove_if("Counter", "a", Filter::less("value", 2))).unwrap_err();
    assert!(matches!(error, Error::Condition { .. }), "{error}");
    block_on(db.remove_if("Counter", "a", Filter::equal("value", 2))).unwrap();
    assert!(matches!(block_on(db.remove_if("Counter", "a", Filter::all([]))), Err(Error::Missing { .. })));
}

#[test]
fn a_transaction_is_done_as_a_whole_with_its_change_log_or_not_at_all() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let check = |value: i64| Operation::Check {
        model: "Counter".into(),
        key: "a".into(),
        condition: Filter::equal("value", value),
    };
    let watch = db.watch(None, None).unwrap();
    let error = block_on(db.transact(vec![create("a", json!({"value": 1})), create("b", json!({})), check(2)]));
    assert_eq!(
        refusal(error.unwrap_err()),
        "operation 3 of the transaction: model Counter: the item 'a' is not as the condition demands; nothing was \
         changed; none was done"
    );
    assert_eq!((block_on(db.count("Counter")).unwrap(), block_on(db.backlog()).unwrap().rows), (0, 0));
    let done = block_on(db.transact(vec![create("a", json!({"value": 1})), create("b", json!({})), check(1)])).unwrap();
    assert!(matches!(done[2], Done::Checked));
    assert_eq!((block_on(db.count("Counter")).unwrap(), block_on(db.backlog()).unwrap().rows), (2, 2));
    let heard = |_| match block_on(watch.next()) {
        Some(Heard::Change(change)) => change.key.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((0..2).map(heard).collect::<Vec<_>>(), ["a", "b"]);
    let results =
        block_on(db.batch(vec![create("c", json!({})), create("c", json!({})), create("d", json!({}))])).unwrap();
    assert!(matches!(results[..], [Ok(_), Err(Error::Exists { .. }), Ok(_)]), "{results:?}");
    assert_eq!(block_on(db.backlog()).unwrap().rows, 4);
    let many = (0..101).map(|n| create(&n.to_string(), json!({}))).collect();
    assert!(refusal(block_on(db.transact(many)).unwrap_err()).contains("at most 100 operations"));
}

#[test]
fn an_upsert_adds_or_sets() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let upsert = |fields| block_on(db.upsert("Counter", item(fields))).unwrap();
    assert!(upsert(json!({"id": "a", "value": 1, "kind": "x"})).1);
    let (changed, new) = upsert(json!({"id": "a", "value": 2}));
    assert_eq!((Value::Object(changed), new), (json!({"id": "a", "value": 2, "kind": "x"}), false));
    assert!(block_on(db.upsert("Scrap", item(json!({"n": 1})))).unwrap().1, "a key is made");
}

#[test]
fn a_value_of_a_unique_field_is_had_once() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    block_on(db.transact(vec![create("a", json!({"name": "n"})), create("b", json!({}))])).unwrap();
    let error = refusal(block_on(db.update("Counter", "b", Update::new().set("name", "n"))).unwrap_err());
    assert_eq!(error, "model Counter, name = \"n\": must be unique, and the item 'a' has this value");
    block_on(db.update("Counter", "a", Update::new().set("name", "m").set("value", 1))).unwrap();
    block_on(db.update("Counter", "b", Update::new().set("name", "n"))).unwrap();
}

#[test]
fn what_cannot_be_asked_is_refused_with_model_field_and_reason() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let find = |query: Query| refusal(block_on(db.find("Counter", query)).unwrap_err());
    for (query, message) in [
        (Query::new().filter("colour", 1), "model Counter, colour = 1: is not in the schema; its fields are id, kind"),
        (Query::new().matching(Filter::less("value", "x")), "value = \"x\": must be a number"),
        (Query::new().matching(Filter::less("value", Value::Null)), "null can only be compared with = and <>"),
        (
            Query::new().matching(Filter::begins_with("value", "1")),
            "begins_with is not possible for a field of type number",
        ),
        (Query::new().filter("list", json!([1])), "a field of type array cannot be searched"),
        (Query::new().order("list"), "order = \"list\": items cannot be ordered by objects and arrays"),
        (Query::new().fields(["x"]), "model Counter, x: is not in the schema"),
        (Query::new().order("value").after("k"), "next = \"k\": is not what the page before gave as `next`"),
        (Query::new().matching(Filter::one_of("value", 0..33)), "has more than 32 filters"),
    ] {
        let error = find(query);
        assert!(error.contains(message), "{error}");
    }
    for (text, message) in [
        ("[]", "must be an object"),
        ("{\"a\": {\"like\": 1}}", "a: `like` is no comparison; there are =, <>, <, <=, >, >="),
        ("{\"a\": {\"between\": [1]}}", "between one of two values"),
        ("{\"a\": [1]}", "use {\"in\": […]}"),
        ("{", "is not JSON"),
    ] {
        let error = Filter::read(text).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_model_in_memory_is_forgotten_at_the_close_and_writes_nothing() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let made = block_on(db.create("Scrap", item(json!({"n": 1})))).unwrap();
    let key = made["id"].as_str().unwrap();
    assert_eq!(block_on(db.get("Scrap", key)).unwrap(), Some(made.clone()));
    assert_eq!(block_on(db.find("Scrap", Query::new().filter("n", 1))).unwrap().items, vec![made.clone()]);
    let written = || std::fs::metadata(scratch.file().with_extension("db-wal")).map_or(0, |file| file.len());
    let before = written();
    for _ in 0..50 {
        block_on(db.update("Scrap", key, Update::new().add("n", 1))).unwrap();
    }
    assert_eq!(written(), before);
    drop(db);
    assert_eq!(block_on(open(&scratch).count("Scrap")).unwrap(), 0);
}

#[test]
fn a_watcher_hears_what_fitted_before_or_fits_now_and_that_it_lost_some() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    let watch = db.watch(Some("Counter"), Some(Filter::at_least("value", 2))).unwrap();
    block_on(db.transact(vec![create("a", json!({"value": 1})), create("b", json!({"value": 2}))])).unwrap();
    block_on(db.update("Counter", "a", Update::new().add("value", 1))).unwrap();
    block_on(db.update("Counter", "b", Update::new().add("value", -1))).unwrap();
    block_on(db.update("Counter", "b", Update::new().add("value", -1))).unwrap();
    block_on(db.remove("Counter", "a")).unwrap();
    let heard = |_| match block_on(watch.next()) {
        Some(Heard::Change(change)) => format!("{} {}", change.kind(), change.key),
        other => panic!("{other:?}"),
    };
    assert_eq!((0..4).map(heard).collect::<Vec<_>>(), ["created b", "updated a", "updated b", "removed a"]);
    for n in 0..300 {
        block_on(db.upsert("Counter", item(json!({"id": "a", "value": n + 10})))).unwrap();
    }
    let all: Vec<Heard> = std::iter::from_fn(|| block_on(watch.next())).take(257).collect();
    assert_eq!(all.iter().position(|heard| *heard == Heard::Lost), Some(256));
    block_on(db.close());
    assert_eq!(block_on(watch.next()), None);
    assert!(db.watch(Some("Nothing"), None).is_err() && db.watch(None, Some(Filter::equal("value", 1))).is_err());
}

#[test]
fn a_model_is_no_larger_than_its_schema_allows() {
    let scratch = Scratch::new();
    let text = "{process: {Block: {caps: {rows: 2}}, Drop: {sync: 'up', caps: {size: 300, policy: 'drop_oldest'}}, \
                Memory: {mem: true, caps: {rows: 2, policy: 'drop_oldest'}}}, models: {Block: {id: {type: 'string'}}, \
                Drop: {id: {type: 'string'}, text: {type: 'string'}}, Memory: {id: {type: 'string'}}}}";
    let options = config::Database { path: scratch.file(), ..Default::default() };
    let open = || Db::open(&options, Schema::parse(text, "schema").unwrap()).unwrap();
    let db = open();
    let create = |db: &Db, model: &str, fields: Value| block_on(db.create(model, item(fields)));
    for n in 0..2 {
        create(&db, "Block", json!({"id": n.to_string()})).unwrap();
    }
    let error = create(&db, "Block", json!({"id": "2"})).unwrap_err();
    assert_eq!(error.code(), "capped");
    assert!(error.to_string().contains("model Block has 2 rows, as many as its schema allows"), "{error}");
    drop(db);
    let db = open();
    assert!(create(&db, "Block", json!({"id": "2"})).is_err(), "it counts what was there");
    block_on(db.remove("Block", "0")).unwrap();
    create(&db, "Block", json!({"id": "2"})).unwrap();
    for n in 0..5 {
        create(&db, "Drop", json!({"id": n.to_string(), "text": "x".repeat(80)})).unwrap();
        create(&db, "Memory", json!({"id": n.to_string()})).unwrap();
    }
    let keys = |model: &str| -> Vec<Value> {
        block_on(db.find(model, Query::new())).unwrap().items.iter().map(|item| item["id"].clone()).collect()
    };
    assert_eq!(
        [keys("Drop"), keys("Memory")],
        [["2", "3", "4"].map(Value::from).to_vec(), ["3", "4"].map(Value::from).to_vec()]
    );
    assert!(create(&db, "Drop", json!({"id": "5", "text": "x".repeat(400)})).is_err());
    assert_eq!(keys("Drop").len(), 3, "what has no room at all removes nothing");
}
