//! Operations one by one.

use ioto::db::{Db, Error, Query};
use serde_json::{Value, json};
use smol::block_on;

use super::{Scratch, item, now, open};

fn rule(result: Result<impl std::fmt::Debug, Error>) -> (String, String) {
    match result.unwrap_err() {
        Error::Invalid { field, rule, .. } => (field, rule),
        other => panic!("{other}"),
    }
}

#[test]
fn a_created_item_has_its_defaults_a_ulid_and_timestamps_and_is_there_after_a_restart() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let made = block_on(db.create("Reading", item(json!({"name": "t", "value": 21.5, "when": 0})))).unwrap();
    assert_eq!(made["good"], json!(true));
    assert_eq!(made["when"], json!("1970-01-01T00:00:00.000Z"));
    assert_eq!(made["created"], made["updated"]);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 26);
    assert_eq!(block_on(db.get("Reading", &id)).unwrap().as_ref(), Some(&made));
    block_on(db.close());
    let db = scratch.open();
    assert_eq!(block_on(db.get("Reading", &id)).unwrap(), Some(made));
}

#[test]
fn an_item_that_breaks_the_schema_is_refused_with_field_and_rule() {
    let scratch = Scratch::new();
    let db = scratch.open();
    for (input, field, expected) in [
        (json!({}), "name", "is required, a string"),
        (json!({"name": null}), "name", "is required, a string"),
        (json!({"name": 1}), "name", "must be a string"),
        (json!({"name": "a", "value": "1"}), "value", "must be a number"),
        (json!({"name": "a", "good": 1}), "good", "must be a boolean"),
        (json!({"name": "a", "kind": "up"}), "kind", "must be one of \"in\", \"out\""),
        (json!({"name": "a", "more": []}), "more", "must be an object"),
        (json!({"name": "a", "list": {}}), "list", "must be an array"),
        (json!({"name": "a", "created": 0}), "created", "is set by the database; leave it out"),
        (json!({"name": "a", "id": ""}), "id", "is the key of the item and cannot be empty"),
    ] {
        assert_eq!(rule(block_on(db.create("Reading", item(input)))), (field.into(), expected.into()));
    }
    for key in ["a\\b", "../x", "a/.", "a\nb", "\u{0}"] {
        assert_eq!(rule(block_on(db.create("Reading", item(json!({"name": "a", "id": key}))))).0, "id");
    }
    let (field, rule) = rule(block_on(db.create("Reading", item(json!({"name": "a", "colour": 1})))));
    assert!(field == "colour" && rule.starts_with("is not in the schema"), "{rule}");
    let error = block_on(db.create("Reading", item(json!({"name": "a", "when": "soon"})))).unwrap_err().to_string();
    assert!(error.starts_with("model Reading, when = \"soon\": must be a date"), "{error}");
    let long = "x".repeat(1024);
    assert!(block_on(db.create("Reading", item(json!({"name": "a", "id": long})))).is_err());
    let large = block_on(db.create("Reading", item(json!({"name": "x".repeat(300 * 1024)}))));
    assert!(matches!(large, Err(Error::TooLarge { .. })), "{large:?}");
    assert!(matches!(block_on(db.count("Elsewhere")), Err(Error::Model { .. })));
    assert_eq!(block_on(db.count("Reading")).unwrap(), 0);
}

#[test]
fn a_second_item_with_the_same_key_is_refused() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let plain = || item(json!({"id": "a", "n": 1}));
    block_on(db.create("Plain", plain())).unwrap();
    assert!(matches!(block_on(db.create("Plain", plain())), Err(Error::Exists { .. })));
}

#[test]
fn an_update_changes_what_is_given_and_null_removes() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let made = block_on(db.create("Reading", item(json!({"name": "t", "value": 1, "serial": "s"})))).unwrap();
    let id = made["id"].as_str().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    let change = item(json!({"value": null, "kind": "in", "serial": "s", "created": made["created"]}));
    let changed = block_on(db.update("Reading", id, change)).unwrap();
    assert_eq!((changed.get("value"), &changed["kind"], &changed["name"]), (None, &json!("in"), &json!("t")));
    assert_eq!(changed["created"], made["created"]);
    assert!(changed["updated"].as_str() > made["updated"].as_str());
    assert_eq!(block_on(db.get("Reading", id)).unwrap().as_ref(), Some(&changed));
    assert_eq!(block_on(db.update("Reading", id, changed.clone())).unwrap(), changed, "no change, nothing written");
    for (input, field) in [
        (json!({"name": null}), "name"),
        (json!({"serial": "other"}), "serial"),
        (json!({"id": "other"}), "id"),
        (json!({"updated": 5}), "updated"),
        (json!({"colour": 5}), "colour"),
    ] {
        assert_eq!(rule(block_on(db.update("Reading", id, item(input)))).0, field);
    }
    let missing = block_on(db.update("Reading", "none", item(json!({"value": 1}))));
    assert!(matches!(missing, Err(Error::Missing { .. })));
}

#[test]
fn removing_is_idempotent() {
    let scratch = Scratch::new();
    let db = scratch.open();
    block_on(db.create("Plain", item(json!({"id": "a"})))).unwrap();
    assert!(block_on(db.remove("Plain", "a")).unwrap());
    assert!(!block_on(db.remove("Plain", "a")).unwrap());
    assert_eq!(block_on(db.get("Plain", "a")).unwrap(), None);
}

#[test]
fn a_key_can_be_made_of_other_fields_which_then_stay() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let made = block_on(db.create("Sorted", item(json!({"room": "hall", "place": 3})))).unwrap();
    assert_eq!(made["sk"], json!("Sorted#hall#3"));
    block_on(db.update("Sorted", "Sorted#hall#3", item(json!({"note": "x"})))).unwrap();
    let (field, _) = rule(block_on(db.update("Sorted", "Sorted#hall#3", item(json!({"room": "attic"})))));
    assert_eq!(field, "sk");
}

fn names(db: &Db, query: Query) -> (Vec<Value>, Option<String>) {
    let page = block_on(db.find("Plain", query)).unwrap();
    (page.items.into_iter().map(|item| item["id"].clone()).collect(), page.next)
}

#[test]
fn pages_follow_one_another_and_filters_are_typed() {
    let scratch = Scratch::new();
    let db = scratch.open();
    for n in 0..7 {
        let plain =
            item(json!({"id": format!("k{n}"), "name": "even odd".split(' ').nth(n % 2), "n": n, "flag": n > 3}));
        block_on(db.create("Plain", plain)).unwrap();
    }
    let (first, next) = names(&db, Query::new().limit(3));
    assert_eq!((first, next.as_deref()), (vec![json!("k0"), json!("k1"), json!("k2")], Some("k2")));
    assert_eq!(
        names(&db, Query::new().limit(4).after("k2")),
        (vec!["k3".into(), "k4".into(), "k5".into(), "k6".into()], None)
    );
    assert_eq!(
        names(&db, Query::new().filter("name", "odd").limit(2)),
        (vec!["k1".into(), "k3".into()], Some("k3".into()))
    );
    assert_eq!(names(&db, Query::new().filter("name", "odd").after("k3")), (vec!["k5".into()], None));
    assert_eq!(names(&db, Query::new().filter("flag", true).filter("n", 4)).0, ["k4"]);
    assert_eq!(names(&db, Query::new().filter("n", 4.0)).0, ["k4"]);
    assert_eq!(names(&db, Query::new().filter("id", "k5")).0, ["k5"]);
    assert_eq!(names(&db, Query::new().filter("name", Value::Null)).0, Vec::<Value>::new());
    for query in
        [Query::new().filter("n", "4"), Query::new().filter("x", 4), Query::new().limit(0), Query::new().limit(1001)]
    {
        rule(block_on(db.find("Plain", query)));
    }
    assert_eq!(rule(block_on(db.find("Reading", Query::new().filter("more", json!({}))))).0, "more");
}

#[test]
fn a_query_of_very_many_filters_is_refused_as_the_mistake_of_the_caller() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let find = |count: usize| {
        let query = (0..count).fold(Query::new(), |query, _| query.filter("name", "a"));
        block_on(db.find("Plain", query)).map(|page| page.items)
    };
    assert!(find(32).unwrap().is_empty());
    for count in [33, 2000] {
        assert_eq!(rule(find(count)), ("where".into(), "has more than 32 filters".into()));
    }
}

#[test]
fn a_page_ends_before_it_takes_much_memory() {
    let scratch = Scratch::new();
    let db = scratch.open();
    for n in 0..8 {
        block_on(db.create("Plain", item(json!({"id": n.to_string(), "name": "x".repeat(250_000)})))).unwrap();
    }
    let page = block_on(db.find("Plain", Query::new())).unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (5, Some("4")));
}

#[test]
fn a_row_whose_time_is_over_is_invisible_replaceable_and_swept() {
    let scratch = Scratch::new();
    let db = scratch.open();
    for (id, expires) in [("old", now() - 1), ("gone", now() - 1), ("new", now() + 60_000)] {
        block_on(db.create("Reading", item(json!({"id": id, "name": "n", "expires": expires})))).unwrap();
    }
    assert_eq!(block_on(db.get("Reading", "old")).unwrap(), None);
    assert_eq!(block_on(db.count("Reading")).unwrap(), 1);
    assert_eq!(block_on(db.find("Reading", Query::new())).unwrap().items.len(), 1);
    assert!(block_on(db.update("Reading", "old", item(json!({"value": 1})))).is_err());
    assert!(!block_on(db.remove("Reading", "gone")).unwrap());
    block_on(db.create("Reading", item(json!({"id": "old", "name": "again", "expires": now() + 60_000})))).unwrap();
    assert_eq!(block_on(db.sweep(now())).unwrap(), 0);
    assert_eq!(block_on(db.sweep(now() + 120_000)).unwrap(), 2);
    let pending = block_on(db.pending(10, &Default::default())).unwrap();
    assert!(pending.len() == 3 && pending.iter().all(|change| change.item.is_none()), "{pending:?}");
}

#[test]
fn fields_of_a_newer_schema_survive_an_update() {
    let scratch = Scratch::new();
    let newer = super::SCHEMA.replace(
        r#""n": {"type": "number"}, "flag""#,
        r#""n": {"type": "number"}, "extra": {"type": "string"}, "flag""#,
    );
    let options = ioto::config::Database { path: scratch.file(), ..Default::default() };
    let db = Db::open(&options, ioto::db::Schema::parse(&newer, "newer").unwrap()).unwrap();
    block_on(db.create("Plain", item(json!({"id": "a", "extra": "kept"})))).unwrap();
    drop(db);
    let db = scratch.open();
    let changed = block_on(db.update("Plain", "a", item(json!({"n": 1, "extra": "kept"})))).unwrap();
    assert_eq!(changed["extra"], json!("kept"));
    assert_eq!(rule(block_on(db.update("Plain", "a", item(json!({"extra": "changed"}))))).0, "extra");
}

#[test]
fn a_database_is_open_once_and_closed_for_good() {
    let scratch = Scratch::new();
    let db = scratch.open();
    assert!(matches!(open(&scratch.file()), Err(Error::InUse { .. })));
    block_on(db.close());
    block_on(db.close());
    assert!(matches!(block_on(db.count("Plain")), Err(Error::Closed)));
    assert!(matches!(block_on(db.remove("Plain", "a")), Err(Error::Closed)));
    assert!(!scratch.file().with_extension("db-wal").exists(), "the log was not put into the file");
    drop(db);
    scratch.open();
}

#[test]
fn many_writers_through_a_short_queue_all_succeed_and_dropped_futures_hurt_nobody() {
    let scratch = Scratch::new();
    let options = ioto::config::Database { path: scratch.file(), queue: 2, ..Default::default() };
    let db = Db::open(&options, ioto::db::Schema::parse(super::SCHEMA, "schema").unwrap()).unwrap();
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..300)
        .map(|n| {
            let db = db.clone();
            executor.spawn(async move {
                let write = db.create("Plain", item(json!({"id": format!("{n:03}")})));
                match n % 3 {
                    0 => drop(smol::future::poll_once(write).await),
                    _ => drop(write.await.unwrap()),
                }
            })
        })
        .collect();
    block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    let kept = block_on(db.find("Plain", Query::new().limit(1000))).unwrap().items;
    let awaited = kept.iter().filter(|item| item["id"].as_str().unwrap().parse::<u32>().unwrap() % 3 != 0);
    assert_eq!(awaited.count(), 200);
}

#[test]
fn files_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let db = scratch.open();
    block_on(db.create("Plain", item(json!({"id": "a"})))).unwrap();
    let directory = scratch.file().parent().unwrap().to_owned();
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in directory.read_dir().unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}
