//! Fields that are encrypted on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ioto::config;
use ioto::db::changelog::{Conflict, Outcome, Settlement};
use ioto::db::{Db, Error, Filter, Query, Schema, Update};
use serde_json::json;
use smol::block_on;

use super::{Scratch, item};

const SECRET: &str = "correct horse battery staple";

fn schema(encrypt: bool) -> String {
    format!(
        "{{process: {{Wifi: {{sync: 'both'}}}}, models: {{Wifi: {{id: {{type: 'string'}}, ssid: {{type: 'string'}}, \
         psk: {{type: 'string', encrypt: {encrypt}}}, more: {{type: 'object', encrypt: {encrypt}}}}}}}}}"
    )
}

fn options(scratch: &Scratch) -> config::Database {
    config::Database { path: scratch.file(), key: scratch.0.join("database.key"), ..Default::default() }
}

fn open_as(scratch: &Scratch, encrypt: bool) -> Result<Db, Error> {
    Db::open(&options(scratch), Schema::parse(&schema(encrypt), "schema").unwrap())
}

fn open(scratch: &Scratch) -> Db {
    open_as(scratch, true).unwrap()
}

fn create(db: &Db, id: &str) {
    let row = json!({"id": id, "ssid": "home", "psk": format!("{SECRET} {id}"), "more": {"deep": [SECRET]}});
    block_on(db.create("Wifi", item(row))).unwrap();
}

fn psk(db: &Db, id: &str) -> Result<String, Error> {
    let found = block_on(db.get("Wifi", id))?.unwrap();
    assert_eq!(found["more"]["deep"][0], SECRET);
    Ok(found["psk"].as_str().unwrap().to_owned())
}

/// The files of the directory, and those below it, that have the secret in them.
fn plain(scratch: &Scratch) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![scratch.0.clone()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        // Also a part of it, as it may be left over.
        if bytes.windows(12).any(|part| part == &SECRET.as_bytes()[8..20]) {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn what_is_encrypted_is_plain_in_no_file_whatever_is_done_with_it() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    for n in 0..50 {
        create(&db, &n.to_string());
    }
    assert_eq!(psk(&db, "7").unwrap(), format!("{SECRET} 7"));
    assert_eq!(plain(&scratch), [""; 0], "after create");
    block_on(db.update("Wifi", "7", item(json!({"psk": format!("{SECRET} new")})))).unwrap();
    block_on(db.remove("Wifi", "8")).unwrap();
    // A conflict keeps both sides.
    let change = block_on(db.pending(100, &Default::default())).unwrap().remove(0);
    assert_eq!(change.item.as_ref().unwrap()["more"]["deep"][0], SECRET, "the cloud gets it plain");
    let theirs = item(json!({"id": change.key, "psk": format!("{SECRET} theirs")}));
    let conflict = Some(Conflict { mine: change.item.clone(), theirs: Some(theirs.clone()) });
    let outcome = Outcome::Theirs(Some(theirs.clone()));
    let (model, key) = (change.model, change.key);
    let settled = Settlement { model, key: key.clone(), n: change.n, base: 3, outcome, conflict, known: None };
    block_on(db.settle(vec![settled])).unwrap();
    assert_eq!(block_on(db.get("Wifi", &key)).unwrap().unwrap(), theirs);
    assert_eq!(block_on(db.conflicts(1)).unwrap()[0].conflict.theirs.as_ref(), Some(&theirs));
    let incoming = ioto::db::inbound::Incoming {
        model: "Wifi".into(),
        key: "cloud".into(),
        version: Some(1),
        item: Some(item(json!({"id": "cloud", "psk": SECRET, "more": {"deep": [SECRET]}}))),
    };
    block_on(db.apply(ioto::db::inbound::Batch { items: vec![incoming], ..Default::default() })).unwrap();
    assert_eq!(psk(&db, "cloud").unwrap(), SECRET);
    block_on(db.backup(scratch.0.join("copy.db"))).unwrap();
    assert_eq!(plain(&scratch), [""; 0], "in use");
    block_on(db.compact()).unwrap();
    assert_eq!(plain(&scratch), [""; 0], "after compaction");
    block_on(db.close());
    drop(db);
    assert_eq!(plain(&scratch), [""; 0], "closed");
    let mode = fs::metadata(scratch.0.join("database.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let db = open(&scratch);
    assert_eq!(psk(&db, "9").unwrap(), format!("{SECRET} 9"));
    assert_eq!(block_on(db.find("Wifi", Query::new())).unwrap().items[3]["more"]["deep"][0], SECRET);
}

#[test]
fn what_was_plain_before_is_encrypted_at_the_next_start_and_plain_again_when_that_is_wanted() {
    let scratch = Scratch::new();
    let db = open_as(&scratch, false).unwrap();
    for n in 0..300 {
        create(&db, &n.to_string());
    }
    for n in 0..50 {
        block_on(db.remove("Wifi", &n.to_string())).unwrap();
    }
    drop(db);
    assert_eq!(plain(&scratch), ["device.db"]);
    assert!(!scratch.0.join("database.key").exists());
    let db = open(&scratch);
    assert_eq!(plain(&scratch), [""; 0]);
    assert_eq!(psk(&db, "299").unwrap(), format!("{SECRET} 299"));
    assert_eq!(block_on(db.backlog()).unwrap().rows, 300);
    drop(db);
    let db = open_as(&scratch, false).unwrap();
    assert_eq!(psk(&db, "299").unwrap(), format!("{SECRET} 299"));
}

#[test]
fn values_cannot_be_moved_to_another_item_or_field() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    create(&db, "a");
    create(&db, "b");
    let other = rusqlite::Connection::open(scratch.file()).unwrap();
    let sql = "UPDATE m_Wifi SET doc = json_set(doc, '$.psk', (SELECT json_extract(doc, '$.psk') FROM m_Wifi WHERE key = 'a')) \
               WHERE key = 'b'";
    other.execute(sql, []).unwrap();
    let error = block_on(db.get("Wifi", "b")).unwrap_err();
    assert!(matches!(&error, Error::Sealed { field, key, .. } if field == "psk" && key == "b"), "{error}");
    let sql = "UPDATE m_Wifi SET doc = json_set(doc, '$.more', json_extract(doc, '$.psk')) WHERE key = 'a'";
    other.execute(sql, []).unwrap();
    let error = block_on(db.get("Wifi", "a")).unwrap_err();
    assert!(matches!(&error, Error::Sealed { field, .. } if field == "more"), "{error}");
}

#[test]
fn without_its_key_a_field_cannot_be_used_and_the_row_is_not_lost() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    create(&db, "a");
    drop(db);
    let key = scratch.0.join("database.key");
    let aside = scratch.0.join("elsewhere");
    for (other, part) in
        [(None, "there is no key file"), (Some("0f".repeat(32)), "needs the key"), (Some("x".into()), "64 hex")]
    {
        fs::rename(&key, &aside).unwrap();
        if let Some(text) = &other {
            fs::write(&key, text).unwrap();
        }
        let db = open(&scratch);
        let error = block_on(db.get("Wifi", "a")).unwrap_err();
        assert!(matches!(&error, Error::Sealed { .. }), "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains("field psk"), "{error}");
        assert!(block_on(db.update("Wifi", "a", item(json!({"ssid": "x"})))).is_err());
        let some = block_on(db.find("Wifi", Query::new().fields(["id", "ssid"]))).unwrap();
        assert_eq!(some.items[0]["ssid"], "home");
        // The cloud does not lose the field.
        let pending = block_on(db.pending(10, &Default::default())).unwrap();
        assert!(pending.iter().all(|change| change.key != "a"));
        assert!(block_on(db.backlog()).unwrap().rows > pending.len() as u64);
        if other.is_none() {
            assert!(!key.exists(), "no other key is made where there are values of one");
            let written = block_on(db.create("Wifi", item(json!({"id": "b", "psk": "x"}))));
            assert!(matches!(written, Err(Error::Sealed { .. })));
            block_on(db.create("Wifi", item(json!({"id": "c", "ssid": "plain"})))).unwrap();
            block_on(db.remove("Wifi", "c")).unwrap();
            fs::rename(&aside, &key).unwrap();
            assert_eq!(psk(&db, "a").unwrap(), format!("{SECRET} a"), "it may come later");
        } else {
            drop(db);
            fs::rename(&aside, &key).unwrap();
        }
    }
    assert_eq!(psk(&open(&scratch), "a").unwrap(), format!("{SECRET} a"));
}

#[test]
fn a_key_that_others_put_there_is_not_made() {
    let scratch = Scratch::new();
    let options = config::Database { makes_key: false, ..options(&scratch) };
    let db = Db::open(&options, Schema::parse(&schema(true), "schema").unwrap()).unwrap();
    assert!(matches!(block_on(db.create("Wifi", item(json!({"id": "a", "psk": "x"})))), Err(Error::Sealed { .. })));
    fs::write(&options.key, [7; 32]).unwrap();
    create(&db, "a");
    assert_eq!(psk(&db, "a").unwrap(), format!("{SECRET} a"));
}

#[test]
fn the_key_is_changed_while_the_database_is_in_use() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    for n in 0..450 {
        create(&db, &n.to_string());
    }
    let before = fs::read_to_string(scratch.0.join("database.key")).unwrap();
    let pending = block_on(db.backlog()).unwrap().rows;
    assert_eq!(block_on(db.rekey()).unwrap(), 450);
    let after = fs::read_to_string(scratch.0.join("database.key")).unwrap();
    assert!(after != before && after.lines().count() == 1);
    assert_eq!(block_on(db.backlog()).unwrap().rows, pending, "nothing of it is a change");
    drop(db);
    let db = open(&scratch);
    for n in 0..450 {
        assert_eq!(psk(&db, &n.to_string()).unwrap(), format!("{SECRET} {n}"));
    }
}

#[test]
fn what_would_have_to_look_into_an_encrypted_field_is_refused() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    create(&db, "a");
    for query in [
        Query::new().filter("psk", "x"),
        Query::new().matching(Filter::one_of("psk", ["x"])),
        Query::new().matching(Filter::any([Filter::contains("psk", "x")])),
        Query::new().order("psk"),
    ] {
        let error = block_on(db.find("Wifi", query)).unwrap_err();
        assert!(error.code() == "invalid" && error.to_string().contains("is encrypted"), "{error}");
    }
    assert!(
        block_on(db.update("Wifi", "a", Update::new().set("ssid", "x").only_if(Filter::equal("psk", "x")))).is_err()
    );
    let error = block_on(db.update("Wifi", "a", item(json!({"psk": 4711})))).unwrap_err().to_string();
    assert!(error.contains("must be a string") && !error.contains("4711"), "{error}");
    for (fields, part) in [
        ("id: {type: 'string', encrypt: true}", "field id, encrypt: cannot be the key"),
        ("id: {type: 'string'}, x: {type: 'string', encrypt: true, unique: true}", "cannot be unique"),
        ("id: {type: 'string'}, x: {type: 'date', encrypt: true, ttl: true}", "end (`ttl`)"),
        (
            "id: {type: 'string'}, x: {type: 'string', encrypt: true}, y: {type: 'string', value: '${x}'}",
            "part of the field y",
        ),
        ("id: {type: 'string'}, name: {type: 'string', encrypt: true}", "in the index byName"),
    ] {
        let text = format!("{{indexes: {{byName: {{hash: 'name'}}}}, models: {{M: {{{fields}}}}}}}");
        let error = Schema::parse(&text, "schema").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_damaged_file_is_recovered_with_its_encrypted_fields() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    for n in 0..100 {
        create(&db, &n.to_string());
    }
    let other = rusqlite::Connection::open(scratch.file()).unwrap();
    for id in ["1", "2"] {
        other.execute("UPDATE m_Wifi SET doc = '[]' WHERE key = ?1", [id]).unwrap();
        while block_on(db.get("Wifi", id)).is_err() {}
    }
    let health = db.health();
    assert!(health.recoveries == 2 && health.last.unwrap().aside.is_some());
    assert_eq!(psk(&db, "50").unwrap(), format!("{SECRET} 50"));
    assert_eq!(block_on(db.count("Wifi")).unwrap(), 98);
    assert_eq!(plain(&scratch), [""; 0]);
}

#[test]
fn a_key_that_is_missing_or_another_one_is_seen_in_the_health_until_it_is_back() {
    let scratch = Scratch::new();
    let db = open(&scratch);
    create(&db, "a");
    assert_eq!(db.health().sealed, None);
    let path = scratch.0.join("database.key");
    let key = fs::read_to_string(&path).unwrap();
    drop(db);
    fs::remove_file(&path).unwrap();
    let sealed = |db: &Db| db.health().sealed.unwrap_or_default();
    let db = open(&scratch);
    assert!(sealed(&db).contains("put it back"), "{}", sealed(&db));
    assert!(db.health().to_json()["sealed"].is_string());
    fs::write(&path, &key).unwrap();
    assert_eq!((db.health().sealed, psk(&db, "a").is_ok()), (None, true));
    drop(db);
    // Another device's key, at several starts.
    fs::write(&path, "7".repeat(64)).unwrap();
    for _ in 0..3 {
        let db = open(&scratch);
        assert!(sealed(&db).contains("is sealed with the key"), "{}", sealed(&db));
    }
    // A new one before the right one is how keys are changed by hand.
    fs::write(&path, format!("{}\n{key}", "7".repeat(64))).unwrap();
    let db = open(&scratch);
    assert_eq!((db.health().sealed, psk(&db, "a").is_ok()), (None, true));
    block_on(db.rekey()).unwrap();
    assert_eq!(db.health().sealed, None);
}
