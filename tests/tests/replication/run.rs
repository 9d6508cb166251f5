//! One run: the device works, the link and the service have their moods, somebody edits in the cloud, kills; then all is
//! quiet, and everything is compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ioto::aws::{Api, DynamoDb};
use ioto::config::{self, Secret};
use ioto::db::changelog::LoggedConflict;
use ioto::db::{Db, Schema};
use ioto_tests::{Agent, Mosquitto, Moto};
use serde_json::{Map, Value, json};

use crate::device::Device;
use crate::editor::Editor;
use crate::history::By;
use crate::link::{Link, Weather, YEARS};
use crate::mutant::Mutant;
use crate::post::Post;
use crate::verdict::Evidence;

/// How the model replicates, as the schema says it.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub sync: &'static str,
    pub conflict: Option<&'static str>,
    /// Whether rows are only added.
    pub is_journal: bool,
    /// Whether it replicates by messages, with the cloud's function behind the broker.
    pub is_over_mqtt: bool,
}

impl Mode {
    /// Whether what others write comes to the device.
    pub fn takes_edits(self) -> bool {
        self.sync != "up"
    }

    /// Whether the device may change rows.
    pub fn writes(self) -> bool {
        self.sync != "down"
    }

    /// Whether single fields of both sides are put together.
    pub fn merges(self) -> bool {
        self.conflict == Some("merge")
    }

    fn schema(self) -> String {
        let mode = if self.is_journal { "journal" } else { "items" };
        let mut process = json!({"sync": self.sync, "mode": mode});
        if let Some(conflict) = self.conflict {
            process["conflict"] = conflict.into();
        }
        json!({
            "version": "2",
            "process": {"Reading": process, "Private": {"sync": "none"}},
            "models": {
                "Reading": {
                    "id": {"type": "string"}, "name": {"type": "string"}, "value": {"type": "number"},
                    "note": {"type": "object"}, "ttl": {"type": "string"},
                },
                "Private": {"id": {"type": "string"}},
            },
        })
        .to_string()
    }
}

/// What runs did, for people.
#[derive(Debug, Default)]
pub struct Figures {
    pub changes: u64,
    pub kills: u64,
    pub writes: usize,
    pub edits: usize,
    pub conflicts: usize,
    faults: BTreeMap<&'static str, u32>,
}

impl Figures {
    pub fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.kills += other.kills;
        self.writes += other.writes;
        self.edits += other.edits;
        self.conflicts += other.conflicts;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

/// The run of this seed. An error says which invariant does not hold, and of what.
pub fn run(
    moto: &Moto,
    broker: Option<&Mosquitto>,
    mode: Mode,
    seed: u64,
    mutant: Option<Mutant>,
) -> Result<Figures, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Runs share a table.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let thing = format!("lamp-{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let server: SocketAddr = moto.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let link = Link::new(server, access(moto), mutant, mode.is_over_mqtt, random.u64(..));
    let mut post = broker.map(|broker| Post::new(moto, broker, &thing, &link, random.u64(..)));
    let agent = agent(moto, mode, &thing, (&link, post.as_ref()), &mut random);
    let mut device = Device::new(agent, mode, random.u64(..));
    let mut editor = Editor::new(&thing, moto.access("table"), mode.takes_edits(), random.u64(..));

    let mut kills = 0;
    for _ in 0..random.u8(4..8) {
        let weather = weather(&mut random);
        link.set(weather);
        post.iter_mut().for_each(|post| post.set(weather.trouble / 2));
        let kill = random.u8(..3) > 0;
        device.work(&link, kill, &mut || {
            if !mode.is_journal {
                editor.edit_perhaps(&link);
            }
            post.iter_mut().for_each(Post::cut_perhaps);
        })?;
        if kill {
            kills += 1;
            device.check_all(&link)?;
        }
    }
    link.set(Weather::default());
    device.agent.kill();
    post.iter_mut().for_each(Post::calm);
    device.agent.start();
    quiet(&device, &link, mode)?;

    let rows = device.check_all(&link)?;
    let (status, _) = device.agent.stop();
    if !status.success() || device.agent.log().contains("panicked") {
        return Err(format!("the agent ended with {status}"));
    }
    let conflicts = match mutant {
        Some(Mutant::NoLog) => Vec::new(),
        _ => conflicts(&device.agent, mode)?,
    };
    if let Some(wrong) = link.cloud().wrong.take() {
        return Err(wrong);
    }
    let writes = std::mem::take(&mut link.cloud().writes);
    let edits = writes.iter().filter(|write| matches!(write.by, By::Cloud { .. })).count();
    let figures = Figures {
        changes: device.changes,
        kills,
        writes: writes.len() - edits,
        edits,
        conflicts: conflicts.len(),
        faults: link.faults(),
    };
    Evidence { mode, device: &device, rows, writes, items: items(moto, &thing), conflicts }.judge()?;
    Ok(figures)
}

fn agent(
    moto: &Moto,
    mode: Mode,
    thing: &str,
    (link, post): (&Link, Option<&Post>),
    random: &mut fastrand::Rng,
) -> Agent {
    let mut agent = Agent::new();
    let settings = moto.settings().replace(&moto.endpoint(), &link.endpoint());
    agent.schema(&mode.schema()).configure("moto", &settings);
    let (window, delay) = (random.u8(1..9), random.u8(..2) * 30);
    let pull = if mode.takes_edits() { ", pull: '1 sec'" } else { "" };
    agent.configure(
        "run",
        &format!(
            "{{device: {{id: '{thing}'}}, timeouts: {{aws: '2 secs'}}, \
             sync: {{window: {window}, delay: '{delay} ms'{pull}}}}}"
        ),
    );
    if let Some(post) = post {
        agent.configure("run-mqtt", &post.settings());
    }
    agent.start();
    let private = agent.client().post("/api/db/Private", &json!({"id": "secret"})).unwrap();
    assert_eq!(private.status, 201, "{}", private.text());
    agent
}

fn access(moto: &Moto) -> DynamoDb {
    let config = config::Aws {
        endpoint: Some(moto.endpoint()),
        region: moto.access("region").into(),
        access_key_id: moto.access("access_key_id").into(),
        secret_access_key: Secret::new(moto.access("secret_access_key")),
        ..Default::default()
    };
    DynamoDb::new(Api::new(&config, "lamp").unwrap())
}

fn weather(random: &mut fastrand::Rng) -> Weather {
    Weather {
        trouble: [0, 20, 50, 90][random.usize(..4)],
        ahead: if random.u8(..5) == 0 { random.i64(-YEARS..YEARS) } else { 0 },
        expired: random.u8(..8) == 0,
        throttled: random.u8(..8) == 0,
    }
}

/// Waits until the device has nothing to send, nothing is on its way, and it had the time to ask for news.
fn quiet(device: &Device, link: &Link, mode: Mode) -> Result<(), String> {
    let enough = Duration::from_millis(if mode.takes_edits() { 4000 } else { 1500 });
    let began = Instant::now();
    let mut since = (link.requests(), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(50));
        if link.requests() != since.0 {
            since = (link.requests(), Instant::now());
        }
        let status = device.agent.client().get("/api/status").map_err(|error| error.to_string())?.json();
        let sync = &status["services"]["sync"];
        // The backlog is counted at the start and a second after changes.
        if since.0.1 == 0 && since.1.elapsed() > enough && sync["backlog"] == 0 {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("I1 the device is not done after a minute: {sync}"));
        }
    }
}

/// The conflict log of a device that has ended; it has nothing left to send.
fn conflicts(agent: &Agent, mode: Mode) -> Result<Vec<LoggedConflict>, String> {
    let path = agent.scratch().path().join("state/db/device.db");
    assert!(path.exists(), "no database at {}", path.display());
    let options = config::Database { path, ..Default::default() };
    let db = Db::open(&options, Schema::parse(&mode.schema(), "schema").unwrap()).unwrap();
    smol::block_on(async {
        let backlog = db.backlog().await.unwrap();
        let conflicts = db.conflicts(1000).await.unwrap();
        db.close().await;
        match backlog.rows {
            0 => Ok(conflicts),
            rows => Err(format!("I1 {rows} rows are still to be sent")),
        }
    })
}

/// The items of the thing with all attributes, by the key of the row.
fn items(moto: &Moto, thing: &str) -> BTreeMap<String, Map<String, Value>> {
    let request = json!({
        "TableName": moto.access("table"), "KeyConditionExpression": "pk = :pk", "ConsistentRead": true,
        "ExpressionAttributeValues": {":pk": {"S": format!("{thing}#Reading")}},
    });
    let answer = smol::block_on(access(moto).call("Query", &request)).unwrap();
    let items = answer["Items"].as_array().unwrap().iter().map(|item| item.as_object().unwrap().clone());
    items.map(|item| (item["sk"]["S"].as_str().unwrap().to_owned(), item)).collect()
}
