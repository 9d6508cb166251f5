//! Backup, restore, verification, compaction and figures.

use ioto::config;
use ioto::db::restore;
use serde_json::json;
use smol::block_on;

use super::{Scratch, item};

#[test]
fn a_backup_of_a_database_in_use_is_restored_under_a_new_name() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let create = |id: &str| block_on(db.create("Twin", item(json!({"id": id, "n": 1})))).unwrap();
    create("kept");
    let copy = scratch.0.join("copy.db");
    assert!(block_on(db.backup(&copy)).unwrap() > 0);
    assert!(block_on(db.backup(&copy)).unwrap_err().to_string().contains("cannot make the backup"));
    create("lost");
    let options = config::Database { path: scratch.file(), ..Default::default() };
    assert_eq!(restore(&options, &copy).unwrap_err().code(), "in_use");
    let site = db.site();
    drop(db);
    std::fs::write(scratch.0.join("wrong"), "not a database").unwrap();
    assert!(restore(&options, &scratch.0.join("wrong")).is_err());
    let before = restore(&options, &copy).unwrap().unwrap();
    assert!(before.ends_with("device.db.before") && before.exists());
    let db = scratch.open();
    assert_eq!((block_on(db.count("Twin")).unwrap(), db.site() == site), (1, false));
    assert!(block_on(db.get("Twin", "kept")).unwrap().is_some());
    assert_eq!(block_on(db.backlog()).unwrap().rows, 1);
}

#[test]
fn what_is_free_is_given_back_and_the_file_is_sound() {
    let scratch = Scratch::new();
    let db = scratch.open();
    let text = "x".repeat(10_000);
    for n in 0..100 {
        block_on(db.create("Plain", item(json!({"id": n.to_string(), "name": text})))).unwrap();
    }
    for n in 0..99 {
        block_on(db.remove("Plain", &n.to_string())).unwrap();
    }
    let before = block_on(db.statistics()).unwrap();
    let plain = before.models.iter().find(|model| model.name == "Plain").unwrap();
    assert!(plain.rows == 1 && plain.bytes > 10_000 && before.free > 500_000, "{before:?}");
    block_on(db.compact()).unwrap();
    let after = block_on(db.statistics()).unwrap();
    assert!(after.free == 0 && after.file < before.file - 500_000, "{after:?}");
    let verdict = block_on(db.verify()).unwrap();
    assert_eq!((verdict.findings.len(), verdict.rows), (0, 1));
}
