//! The database through its public interface: behaviour, comparison with a naive model, kills, damage.
#![cfg(feature = "db")]
#![allow(clippy::unwrap_used)]

mod behaviour;
mod care;
mod changelog;
mod compare;
mod crash;
mod damage;
mod encryption;
mod full;
mod inbound;
mod model;
mod operations;
mod policies;
mod rates;
#[cfg(feature = "web")]
mod rest;
#[cfg(feature = "web")]
mod rest_operations;
mod schema_changes;
mod watching;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ioto::config;
use ioto::db::{Db, Item, Schema};
use serde_json::Value;

const SCHEMA: &str = r#"{
    "version": "1",
    "indexes": {"primary": {"hash": "pk", "sort": "sk"}, "byName": {"hash": "name"}},
    "process": {
        "Reading": {"sync": "up"}, "Order": {"sync": "down"}, "Twin": {"sync": "both"}, "Elsewhere": {"enable": "cloud"}
    },
    "models": {
        "Reading": {
            "id": {"type": "string", "generate": "ulid"},
            "name": {"type": "string", "required": true},
            "value": {"type": "number"},
            "good": {"type": "boolean", "default": true},
            "kind": {"type": "string", "enum": ["in", "out"]},
            "when": {"type": "date"},
            "more": {"type": "object"},
            "list": {"type": "array"},
            "serial": {"type": "string", "readonly": true},
            "secret": {"type": "string", "hidden": true},
            "expires": {"type": "date", "ttl": true},
            "created": {"type": "date"},
            "updated": {"type": "date"}
        },
        "Plain": {"id": {"type": "string"}, "name": {"type": "string"}, "n": {"type": "number"}, "flag": {"type": "boolean"}},
        "Sorted": {
            "sk": {"type": "string", "value": "${_type}#${room}#${place}"},
            "room": {"type": "string", "required": true},
            "place": {"type": "number", "required": true},
            "note": {"type": "string"}
        },
        "Order": {"id": {"type": "string"}, "text": {"type": "string"}},
        "Twin": {"id": {"type": "string"}, "n": {"type": "number"}},
        "Elsewhere": {"id": {"type": "string"}}
    }
}"#;

/// A directory of its own for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ioto-db-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.join("db/device.db")
    }

    fn open(&self) -> Db {
        open(&self.file()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<Db, ioto::db::Error> {
    let options = config::Database { path: path.into(), ..Default::default() };
    Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap())
}

/// An item from the `json!` of an object.
fn item(value: Value) -> Item {
    match value {
        Value::Object(item) => item,
        other => panic!("{other} is no object"),
    }
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// The seed of a randomised test: `SEED`, or the time. Printed, so that a failure can be repeated.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| now() as u64);
    println!("SEED={seed}");
    seed
}
