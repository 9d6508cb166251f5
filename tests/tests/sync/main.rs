//! Replication up against moto with signatures verified: the real database, the real transport, a link that does not
//! behave.
#![allow(clippy::unwrap_used)]

mod faults;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use faults::Faults;
use ioto::aws::{self, Api, DynamoDb, attribute};
use ioto::config::{self, Secret};
use ioto::db::{Db, Item, Query, Schema};
use ioto::sync::{DynamoTransport, Replicator, Status};
use ioto_tests::{Moto, Scratch, seed};
use serde_json::{Value, json};
use smol::{Timer, future};

const THING: &str = "lamp-1";
const SCHEMA: &str = r#"{
    "version": "2",
    "process": {"Reading": {"sync": "up"}, "Private": {"sync": "none"}},
    "models": {
        "Reading": {
            "id": {"type": "string"}, "name": {"type": "string"}, "value": {"type": "number"},
            "note": {"type": "object"}, "ttl": {"type": "string"}
        },
        "Private": {"id": {"type": "string"}}
    }
}"#;

/// A device and its cloud.
struct Bench {
    _scratch: Scratch,
    moto: Moto,
    db: Db,
}

impl Bench {
    fn new() -> Self {
        let scratch = Scratch::new();
        let options = config::Database { path: scratch.path().join("device.db"), ..Default::default() };
        let db = Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap();
        Self { _scratch: scratch, moto: Moto::start(), db }
    }

    /// What moto calls a setting of it.
    fn setting(&self, name: &str) -> String {
        let settings = self.moto.settings();
        let value = settings.split(&format!("{name}: \"")).nth(1).unwrap();
        value.split('"').next().unwrap().to_owned()
    }

    fn aws(&self, endpoint: String, secret: &str) -> DynamoDb {
        let config = config::Aws {
            endpoint: Some(endpoint),
            region: self.setting("region"),
            access_key_id: self.setting("accessKeyId"),
            secret_access_key: Secret::new(secret),
            timeout: Duration::from_secs(3),
            ..Default::default()
        };
        DynamoDb::new(Api::new(&config, "lamp").unwrap())
    }

    fn replicator(&self, endpoint: String, secret: &str) -> Replicator<DynamoTransport> {
        let options = config::Sync { table: self.setting("table"), ..Default::default() };
        let transport = DynamoTransport::new(self.aws(endpoint, secret), &options, THING, &self.db);
        Replicator::new(self.db.clone(), transport, &options, THING)
    }

    async fn backlog(&self) -> u64 {
        self.db.backlog().await.unwrap().rows
    }

    /// Replicates until nothing is left to send.
    async fn drain(&self, replicator: &Replicator<DynamoTransport>) {
        let state = replicator.state();
        let drained = async {
            let began = Instant::now();
            while self.backlog().await > 0 {
                assert!(began.elapsed() < Duration::from_secs(60), "it stays at {:?}", state.status());
                Timer::after(Duration::from_millis(20)).await;
            }
        };
        future::or(drained, async { panic!("{}", replicator.run().await) }).await;
    }

    /// The documents on the device.
    async fn rows(&self) -> BTreeMap<String, Item> {
        let page = self.db.find("Reading", Query::new().limit(1000)).await.unwrap();
        page.items.into_iter().map(|item| (item["id"].as_str().unwrap().to_owned(), item)).collect()
    }

    /// The documents in the cloud without the attributes of the protocol, tombstones as `None`.
    fn items(&self) -> BTreeMap<String, Option<Item>> {
        let item = |item: Value| {
            assert_eq!(item["pk"], format!("{THING}#Reading"));
            let deleted = item["_d"] == true;
            let fields = item.as_object().unwrap().iter().filter_map(|(name, value)| {
                let field = match name.strip_prefix("_.") {
                    Some(field) => field,
                    None if name.starts_with('_') || name == "pk" || name == "sk" => return None,
                    None => name,
                };
                Some((field.to_owned(), value.clone()))
            });
            (item["sk"].as_str().unwrap().to_owned(), (!deleted).then(|| fields.collect()))
        };
        self.moto.scan().into_iter().map(item).collect()
    }
}

fn object(value: Value) -> Item {
    value.as_object().unwrap().clone()
}

/// Numbers by value: the cloud does not know how they were written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// One random change on the device.
async fn change(db: &Db, random: &mut fastrand::Rng, number: u64) {
    let key = format!("r{}", random.u8(..25));
    let mut fields = json!({"name": format!("n{number}"), "value": number as f64 / 8.0});
    match random.u8(..4) {
        0 => fields["note"] = json!({"list": [1, "two", null, true], "deep": {"é": "ü"}}),
        1 => fields["ttl"] = json!("later"),
        _ => {}
    }
    let exists = db.get("Reading", &key).await.unwrap().is_some();
    match exists {
        true if random.u8(..5) == 0 => drop(db.remove("Reading", &key).await.unwrap()),
        true => {
            fields["note"] = fields.get("note").cloned().unwrap_or_default();
            drop(db.update("Reading", &key, object(fields)).await.unwrap());
        }
        false => {
            fields["id"] = json!(key);
            drop(db.create("Reading", object(fields)).await.unwrap());
        }
    }
}

/// Somebody in the cloud changes an item by the rules. Whether there was one.
async fn edit(dynamo: &DynamoDb, table: &str, key: &str, number: u64) -> Result<bool, aws::Error> {
    let name = json!({"pk": {"S": format!("{THING}#Reading")}, "sk": {"S": key}});
    let found = dynamo.call("GetItem", &json!({"TableName": table, "Key": name, "ConsistentRead": true})).await?;
    let Some(version) = found["Item"]["_v"]["N"].as_str().and_then(|text| text.parse::<u64>().ok()) else {
        return Ok(false);
    };
    let values = json!({
        ":was": version, ":v": version + 1, ":w": "cloud:test", ":name": format!("c{number}"), ":more": number,
    });
    let mut values = attribute::encode_item(&values);
    values[":op"] = json!({"B": "Y2xvdWQ="});
    let request = json!({
        "TableName": table, "Key": name, "ConditionExpression": "#v = :was",
        "UpdateExpression": "SET #v = :v, #op = :op, #w = :w, #name = :name, cloudOnly = :more",
        "ExpressionAttributeNames": {"#v": "_v", "#op": "_op", "#w": "_w", "#name": "name"},
        "ExpressionAttributeValues": values,
    });
    match dynamo.call("UpdateItem", &request).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn what_is_on_the_device_is_in_the_cloud_whatever_the_link_does() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::new();
    let secret = bench.setting("secretAccessKey");
    let target: SocketAddr = bench.moto.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let faults = Faults::new(target, random.u64(..));
    let endpoint = format!("http://{}", faults.address());
    smol::block_on(async {
        let cloud = bench.aws(bench.moto.endpoint(), &secret);
        let table = bench.setting("table");
        let (mut number, mut edits) = (0, 0);
        let mut replicator = bench.replicator(endpoint.clone(), &secret);
        for round in 0..16 {
            // Every few rounds a new process that knows nothing of the requests on their way.
            if round % 3 == 2 {
                replicator = bench.replicator(endpoint.clone(), &secret);
            }
            let until = Instant::now() + Duration::from_millis(random.u64(100..900));
            let work = async {
                while Instant::now() < until {
                    number += 1;
                    change(&bench.db, &mut random, number).await;
                    if random.u8(..4) == 0 {
                        let key = format!("r{}", random.u8(..25));
                        edits += u32::from(edit(&cloud, &table, &key, number).await.unwrap());
                    }
                    Timer::after(Duration::from_millis(random.u64(1..30))).await;
                }
            };
            future::or(work, async { panic!("{}", replicator.run().await) }).await;
        }
        faults.set(false);
        bench.drain(&replicator).await;

        // Where the cloud had the last word, the device takes it back.
        for key in bench.rows().await.into_keys() {
            number += 1;
            let last = object(json!({"name": format!("last{number}")}));
            bench.db.update("Reading", &key, last).await.unwrap();
        }
        bench.drain(&replicator).await;
        let lost = faults.lost();
        let conflicts = bench.db.backlog().await.unwrap().conflicts;
        println!(
            "{number} changes, {edits} edits in the cloud, {conflicts} conflicts, (requests, answers) lost {lost:?}"
        );
        assert!(lost.0 > 3 && lost.1 > 3 && edits > 3 && conflicts > 0);

        let (rows, mut items) = (bench.rows().await, bench.items());
        let mut kept = 0;
        for (key, row) in &rows {
            let mut item = items.remove(key).flatten().unwrap_or_else(|| panic!("{key} is not in the cloud"));
            kept += u32::from(item.contains_key("cloudOnly"));
            item.retain(|name, _| name != "cloudOnly" || row.contains_key(name));
            assert!(same(&json!(item), &json!(row)), "{key}: {item:?} in the cloud, {row:?} on the device");
        }
        assert!(kept > 0, "no attribute of others was kept");
        // What is left over was removed on the device, or revived by somebody in the cloud after that.
        let alive: Vec<_> = items.iter().filter(|(_, item)| item.is_some()).collect();
        assert!(alive.is_empty(), "removed on the device and still in the cloud: {alive:?}");
    });
}

#[test]
fn a_wrong_secret_is_reported_and_loses_nothing() {
    let bench = Bench::new();
    let secret = bench.setting("secretAccessKey");
    smol::block_on(async {
        for n in 0..5 {
            bench.db.create("Reading", object(json!({"id": format!("r{n}"), "value": n}))).await.unwrap();
            bench.db.create("Private", object(json!({"id": format!("p{n}")}))).await.unwrap();
        }
        let replicator = bench.replicator(bench.moto.endpoint(), "wrong");
        let state = replicator.state();
        let refused = async {
            let began = Instant::now();
            while state.status().error.is_none() {
                assert!(began.elapsed() < Duration::from_secs(20), "no error within 20 s");
                Timer::after(Duration::from_millis(20)).await;
            }
            state.status()
        };
        let status: Status = future::or(refused, async { panic!("{}", replicator.run().await) }).await;
        assert!(status.down && status.parked == 0, "{status:?}");
        assert!(status.error.as_deref().unwrap().contains("Signature"), "{status:?}");
        assert!(!format!("{status:?}").contains(&secret));
        assert_eq!(bench.backlog().await, 5);
        assert!(bench.items().is_empty());

        bench.drain(&bench.replicator(bench.moto.endpoint(), &secret)).await;
        assert_eq!(bench.items().len(), 5);
    });
}
