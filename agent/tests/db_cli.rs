//! `ioto db`, as a user calls it: on the file when no agent runs, through the socket when one does.
#![cfg(all(feature = "db", feature = "web"))]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ioto::api::{Door, database};
use ioto::config;
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
        (&["get", "Reading", "x", "--limit", "1"], 2, "belong to `ioto db find`"),
    ] {
        let (found, out, err) = device.db(words);
        assert_eq!((found, out.as_str()), (status, ""), "{words:?}: {err}");
        assert!(err.starts_with("ioto: ") && err.contains(message), "{words:?}: {err}");
    }
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
