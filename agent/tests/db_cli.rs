//! `ioto db`, as a user calls it: on the file when no agent runs, through the socket when one does.
#![cfg(all(feature = "db", feature = "web"))]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ioto::api::{Door, database};
use ioto::config;
use ioto::db::changelog::{Conflict, Outcome, Settlement};
use ioto::db::{Db, Schema};
use ioto::web::{Handle, Server};
use serde_json::{Value, json};
use smol::{LocalExecutor, block_on};

const SCHEMA: &str = "{
    process: {Reading: {sync: 'up'}},
    models: {
        Reading: {
            id: {type: 'string', generate: 'ulid'},
            name: {type: 'string', required: true},
            value: {type: 'number'},
            good: {type: 'boolean'},
            more: {type: 'object'},
            list: {type: 'array'},
            secret: {type: 'string', hidden: true},
        },
    },
}";

struct Device {
    root: PathBuf,
    agent: Option<(Handle, std::thread::JoinHandle<()>)>,
}

impl Device {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ioto-db-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/schema.json5"), SCHEMA).unwrap();
        Self { root, agent: None }
    }

    /// What of an agent matters here: the database behind the socket.
    fn start_agent(&mut self) {
        let run = self.root.join("state/run");
        std::fs::create_dir_all(&run).unwrap();
        let path = self.root.join("state/db/device.db");
        let options = config::Database { path, ..Default::default() };
        let db = Db::open(&options, Schema::load(&self.root.join("etc/schema.json5")).unwrap()).unwrap();
        let settings = config::Web { listen: Vec::new(), ..Default::default() };
        let socket = format!("unix:{}", run.join("api.sock").display());
        let bound =
            Server::new(settings).listen(&socket).unwrap().action("/api/db", database(db, Door::Own)).bind().unwrap();
        let handle = bound.handle();
        let thread = std::thread::spawn(move || {
            let executor = LocalExecutor::new();
            block_on(executor.run(bound.run(&executor)));
        });
        self.agent = Some((handle, thread));
    }

    /// Status, standard output and standard error of `ioto db` with these words.
    fn db(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_ioto"))
            .env_clear()
            .args(["--profile", "dev", "--config", self.root.join("etc").to_str().unwrap()])
            .args(["--state", self.root.join("state").to_str().unwrap(), "db"])
            .args(words)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, words: &[&str]) -> Value {
        let (status, out, err) = self.db(&[words, &["--json"]].concat());
        assert_eq!((status, err.as_str()), (0, ""), "{words:?}");
        serde_json::from_str(&out).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some((handle, thread)) = self.agent.take() {
            handle.stop();
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn every_verb(device: &Device) {
    let made = device.json(&["create", "Reading", "name=first one", "value=21.5", "good=true", "more:={\"a\":[1]}"]);
    assert_eq!((&made["value"], &made["good"], &made["more"]), (&json!(21.5), &json!(true), &json!({"a": [1]})));
    let id = made["id"].as_str().unwrap();
    assert_eq!(device.json(&["get", "Reading", id]), made);
    assert_eq!(device.json(&["update", "Reading", id, "value=3", "good:=null", "secret=x"])["value"], json!(3));
    device.json(&["create", "Reading", "id=z/ä %", "name=second"]);
    let found = device.json(&["find", "Reading", "name=first one"]);
    assert_eq!(found, json!({"items": [{"id": id, "name": "first one", "value": 3, "more": {"a": [1]}}]}));
    let page = device.json(&["find", "Reading", "--limit", "1"]);
    assert_eq!(page["next"], json!(id));
    assert_eq!(device.json(&["find", "Reading", "--next", id])["items"][0]["name"], json!("second"));
    let (status, out, _) = device.db(&["find", "Reading", "--limit", "1"]);
    assert_eq!((status, out.lines().next()), (0, Some("id                          name       value  more")));
    assert!(out.ends_with(&format!("More: --next '{id}'\n")), "{out}");
    assert_eq!(device.db(&["get", "Reading", "z/ä %"]).1, "id    z/ä %\nname  second\n");
    assert_eq!(device.json(&["remove", "Reading", "z/ä %"]), json!({"removed": true}));
    for (words, status, message) in [
        (&["get", "Reading", "z/ä %"][..], 1, "has no item 'z/ä %'"),
        (&["remove", "Reading", "z/ä %"], 1, "has no item 'z/ä %'"),
        (&["update", "Reading", "none", "value=1"], 1, "has no item 'none'"),
        (&["create", "Reading"], 1, "name: is required, a string"),
        (&["create", "Reading", &format!("id={id}"), "name=x"], 1, "already"),
        (&["create", "Reading", "name=x", "value=high"], 1, "value = high: must be a number"),
        (&["create", "Reading", "name=x", "colour=red"], 1, "is not in the schema; its fields are id, name"),
        (&["create", "Reading", "name=x", "more:={"], 1, "is not JSON"),
        (&["find", "Writing"], 1, "there is no model 'Writing'; the schema has Reading"),
        (&["create", "Reading", "name"], 2, "expected FIELD=VALUE"),
        (&["find", "Reading", "--limit", "0"], 2, "--limit: expected a number from 1 to 1000"),
        (&["get", "Reading"], 2, "expected `ioto db` and one of"),
        (&["get", "Reading", "x", "--next", "1"], 2, "belong to `ioto db find`"),
        (&["get", "Reading", "x", "--limit", "1"], 2, "--limit belongs to `ioto db` find and conflicts"),
    ] {
        let (found, out, err) = device.db(words);
        assert_eq!((found, out.as_str()), (status, ""), "{words:?}: {err}");
        assert!(err.starts_with("ioto: ") && err.contains(message), "{words:?}: {err}");
    }
}

fn every_rich_verb(device: &Device) {
    for n in 0..5 {
        device.json(&["create", "Reading", &format!("id=k{n}"), &format!("name=n{}", 9 - n), &format!("value={n}")]);
    }
    let keys = |words: &[&str]| -> Vec<String> {
        let found = device.json(&[&["find", "Reading"], words].concat());
        found["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&["value>=1", "value<3"]), ["k1", "k2"]);
    assert_eq!(keys(&["name^=n5"]), ["k4"]);
    assert_eq!(keys(&["name~=9"]), ["k0"]);
    assert_eq!(keys(&["value<>0", "--order", "name", "--limit", "2"]), ["k4", "k3"]);
    assert_eq!(
        keys(&["--where", "{\"or\": [{\"value\": 0}, {\"value\": {\"in\": [3, 4]}}]}", "--descending"]),
        ["k4", "k3", "k0"]
    );
    let found = device.json(&["find", "Reading", "id=k1", "--fields", "id,value"]);
    assert_eq!(found, json!({"items": [{"id": "k1", "value": 1}]}));
    let changed = device.json(&["update", "Reading", "k1", "value+=5", "list[]=a"]);
    assert_eq!((&changed["value"], &changed["list"]), (&json!(6), &json!(["a"])));
    let (status, _, err) = device.db(&["update", "Reading", "k1", "value+=1", "--where", "{\"value\": 1}"]);
    assert!(status == 1 && err.contains("'k1' is not as the condition demands"), "{err}");
    let (status, _, err) = device.db(&["remove", "Reading", "k1", "--where", "{\"value\": 1}"]);
    assert!(status == 1 && err.contains("'k1' is not as the condition demands"), "{err}");
    assert_eq!(device.json(&["upsert", "Reading", "id=k1", "name=again"])["value"], json!(6));
    let file = |name: &str, text: &str| {
        let path = device.root.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let twice = "{\"remove\": \"Reading\", \"id\": \"k0\"}\n{\"create\": \"Reading\", \"item\": {\"id\": \"k2\", \"name\": \"x\"}}\n";
    let (status, _, err) = device.db(&["transaction", &file("operations", twice)]);
    assert!(status == 1 && err.contains("operation 2 of the transaction: model Reading has an item 'k2'"), "{err}");
    assert_eq!(keys(&["id=k0"]), ["k0"]);
    let (status, _, err) = device.db(&["batch", &file("operations", twice)]);
    assert!(status == 1 && err.contains("1 of 2 operations failed"), "{err}");
    assert!(keys(&["id=k0"]).is_empty());
    for format in ["jsonl", "csv"] {
        let (status, exported, _) = device.db(&["export", "Reading", "--format", format]);
        assert_eq!((status, exported.lines().count()), (0, if format == "csv" { 5 } else { 4 }), "{exported}");
        let before = device.json(&["find", "Reading"]);
        device.json(&["remove", "Reading", "k1"]);
        assert_eq!(
            device.json(&["import", "Reading", &file(&format!("items.{format}"), &exported)]),
            json!({"imported": 4})
        );
        assert_eq!(device.json(&["find", "Reading"]), before);
    }
    let wrong = file("wrong.jsonl", "{\"id\": \"w\", \"name\": 5}\n[]\n{\"id\": \"v\", \"name\": \"v\"}\n");
    let (status, _, err) = device.db(&["import", "Reading", &wrong]);
    assert!(status == 1 && err.contains("line 1: model Reading, name = 5: must be a string"), "{err}");
    assert!(err.contains("line 2: is no JSON object") && err.contains("2 items were not imported, 1 were"), "{err}");
    assert_eq!(device.json(&["statistics"])["models"][0]["rows"], json!(5));
    assert_eq!(device.json(&["check"])["sound"], json!(true));
    assert_eq!(device.json(&["compact"])["free"], json!(0));
    let copy = device.root.join("copy.db");
    assert!(device.json(&["backup", copy.to_str().unwrap()])["bytes"].as_u64().unwrap() > 0);
    let (status, _, err) = device.db(&["backup", copy.to_str().unwrap()]);
    assert!(status == 1 && err.contains("exists already"), "{err}");
    for (words, message) in [
        (&["find", "Reading", "--where", "x"][..], "--where: is not JSON"),
        (&["get", "Reading", "x", "--where", "{}"], "--where belongs to `ioto db` find, update, remove and watch"),
        (&["find", "Reading", "--format", "csv"], "--format belongs to `ioto db` import and export"),
        (&["export", "Reading", "--format", "xml"], "--format: expected jsonl or csv, found `xml`"),
        (&["find", "Reading", "value!5"], "expected FIELD=VALUE, or with <, <="),
    ] {
        let (status, _, err) = device.db(words);
        assert!(status == 2 && err.contains(message), "{words:?}: {err}");
    }
}

#[test]
fn without_an_agent_the_rich_verbs_work_on_the_file_and_a_backup_is_restored() {
    let device = Device::new();
    every_rich_verb(&device);
    device.json(&["remove", "Reading", "k3"]);
    let (status, out, _) = device.db(&["restore", device.root.join("copy.db").to_str().unwrap()]);
    assert!(status == 0 && out.contains("device.db.before"), "{out}");
    assert_eq!(device.json(&["get", "Reading", "k3"])["value"], json!(3));
    let (status, _, err) = device.db(&["watch"]);
    assert!(status == 1 && err.contains("no agent runs"), "{err}");
}

#[test]
fn with_an_agent_the_rich_verbs_work_through_its_socket_and_changes_are_watched() {
    let mut device = Device::new();
    device.start_agent();
    every_rich_verb(&device);
    let (status, _, err) = device.db(&["restore", device.root.join("copy.db").to_str().unwrap()]);
    assert!(status == 1 && err.contains("is open in another process"), "{err}");
    let mut watch = Command::new(env!("CARGO_BIN_EXE_ioto"))
        .env_clear()
        .args(["--profile", "dev", "--config", device.root.join("etc").to_str().unwrap()])
        .args(["--state", device.root.join("state").to_str().unwrap(), "db", "watch", "Reading", "value>5"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let (sender, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || sender.send(lines.next().unwrap().unwrap()));
    // It is not known when it has begun to watch: change until it hears.
    let line = (0..1000).find_map(|n| {
        device.json(&["upsert", "Reading", "id=seen", "name=s", &format!("value={}", n + 10)]);
        heard.recv_timeout(std::time::Duration::from_millis(50)).ok()
    });
    assert!(line.unwrap().contains("Reading seen {\"id\":\"seen\""));
    watch.kill().unwrap();
    watch.wait().unwrap();
    reader.join().unwrap().unwrap();
}

#[test]
fn conflicts_are_shown_with_both_sides_by_the_agent_and_without_one() {
    let mut device = Device::new();
    assert_eq!(device.json(&["conflicts"]), json!({"conflicts": []}));
    let options = config::Database { path: device.root.join("state/db/device.db"), ..Default::default() };
    let db = Db::open(&options, Schema::load(&device.root.join("etc/schema.json5")).unwrap()).unwrap();
    for id in ["a", "b"] {
        let mine = json!({"id": id, "name": "mine", "secret": "s"}).as_object().cloned();
        block_on(db.create("Reading", mine.clone().unwrap())).unwrap();
        let sent = block_on(db.pending(9, &Default::default())).unwrap().pop().unwrap();
        let theirs = (id == "a").then(|| json!({"id": id, "name": "theirs", "new": 1}).as_object().cloned().unwrap());
        let conflict = Some(Conflict { mine, theirs });
        let (model, key, n, outcome) = (sent.model, sent.key, sent.n, Outcome::Rebase);
        block_on(db.settle(vec![Settlement { model, key, n, base: 7, outcome, conflict, known: None }])).unwrap();
    }
    block_on(db.close());
    let check = |device: &Device| {
        let shown = device.json(&["conflicts"]);
        let [newest, older] = shown["conflicts"].as_array().unwrap().as_slice() else { panic!("{shown}") };
        assert_eq!(
            (&newest["id"], &newest["cloud"], &newest["resolution"]),
            (&json!("b"), &json!(null), &json!("rebase"))
        );
        assert_eq!(older["device"], json!({"id": "a", "name": "mine"}), "hidden fields are left out");
        assert_eq!((&older["cloud"]["new"], &older["version"]), (&json!(1), &json!(7)));
        assert_eq!(device.json(&["conflicts", "--limit", "1"])["conflicts"].as_array().unwrap().len(), 1);
        let (_, text, _) = device.db(&["conflicts"]);
        assert!(
            text.contains("Reading b: the device's won\n  device  {") && text.contains("\n  cloud   removed\n"),
            "{text}"
        );
    };
    check(&device);
    device.start_agent();
    check(&device);
}

#[test]
fn without_an_agent_every_verb_works_on_the_file() {
    every_verb(&Device::new());
}

#[test]
fn with_an_agent_every_verb_works_through_its_socket() {
    let mut device = Device::new();
    device.start_agent();
    every_verb(&device);
}

#[test]
fn the_models_are_shown() {
    let device = Device::new();
    let (status, out, _) = device.db(&["models"]);
    assert_eq!((status, out.lines().next()), (0, Some("Reading (sync: up)")));
    assert!(out.contains("  name             string   required\n"), "{out}");
    assert_eq!(device.json(&["models"])["models"][0]["name"], json!("Reading"));
}

#[test]
fn a_broken_schema_is_told_with_its_line() {
    let device = Device::new();
    std::fs::write(device.root.join("etc/schema.json5"), "{\n models: {A: {id: {type: 'text'}}},\n}").unwrap();
    let (status, _, err) = device.db(&["models"]);
    assert!(status == 2 && err.contains("schema.json5:2: model A, field id, type: must be one of"), "{err}");
}
