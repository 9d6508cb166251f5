//! What was acknowledged is never lost: neither by kills, nor by an outage of the cloud, nor by both.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use ioto_tests::readings::{self, Rows};
use ioto_tests::{Agent, Client, Moto, eventually, seed};

const ROWS: usize = 2000;
const KILLS: usize = 20;

/// What the poster knows: the rows that were answered 201, and those whose answer never came.
#[derive(Default)]
struct Ledger {
    next: usize,
    acknowledged: Rows,
    unanswered: BTreeSet<String>,
}

impl Ledger {
    /// Posts the next row. An answer must be 201; none at all is noted, and ends the connection.
    fn post(&mut self, client: &mut Client) -> bool {
        let (name, value) = (format!("row {}", self.next), self.next as i64);
        self.next += 1;
        let Ok(response) = readings::post(client, &name, value) else {
            self.unanswered.insert(name);
            return false;
        };
        assert_eq!(response.status, 201, "{}", response.text());
        let item = response.json();
        let id = item["id"].as_str().unwrap_or_else(|| panic!("no id in {item}"));
        self.acknowledged.insert(name, (id.into(), value));
        true
    }
}

#[test]
fn twenty_kills_during_an_outage_lose_no_acknowledged_row_and_double_none() {
    fastrand::seed(seed());
    let mut moto = Moto::start();
    moto.outage();
    let mut agent = Agent::new();
    agent.schema(readings::SCHEMA).configure("moto", &moto.settings());
    agent.start();

    let began = Instant::now();
    let mut ledger = Ledger::default();
    // A kill comes a random moment after a random row was begun. The last rows are left to be posted in peace.
    let mut instants = fastrand::choose_multiple(0..ROWS - 100, KILLS);
    instants.sort_unstable();
    for instant in instants {
        let mut client = agent.client();
        while ledger.next < instant {
            assert!(ledger.post(&mut client), "the agent closed the connection although nobody killed it");
        }
        let moment = Duration::from_micros(fastrand::u64(0..15_000));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(moment);
                agent.kill();
            });
            while ledger.next < ROWS && ledger.post(&mut client) {}
        });
        agent.start();
    }
    let mut client = agent.client();
    while ledger.next < ROWS {
        assert!(ledger.post(&mut client), "the agent closed the connection although nobody killed it");
    }
    println!("{ROWS} rows and {KILLS} kills in {:.1?}, {} unanswered", began.elapsed(), ledger.unanswered.len());
    assert!(ledger.unanswered.len() <= KILLS, "more than one row in flight per kill: {:?}", ledger.unanswered);

    // Both start again.
    agent.kill();
    moto.recover();
    agent.start();
    let began = Instant::now();
    let on_the_device = readings::on_the_device(&mut agent.client());
    eventually("all rows of the device are replicated", Duration::from_secs(180), || {
        // To ask moto would keep it from taking them.
        let status = agent.client().get("/api/status").expect("ask for the status").json();
        (status["services"]["sync"]["pushed"].as_u64() >= Some(on_the_device.len() as u64)).then_some(())
    });
    println!("{} rows replicated in {:.1?}", on_the_device.len(), began.elapsed());
    let in_the_cloud = readings::in_the_cloud(&moto);

    for (name, row) in &ledger.acknowledged {
        assert_eq!(in_the_cloud.get(name), Some(row), "{name} was answered 201");
    }
    for name in in_the_cloud.keys().filter(|name| !ledger.acknowledged.contains_key(*name)) {
        assert!(ledger.unanswered.contains(name), "{name} was never posted");
    }
    assert_eq!(in_the_cloud, on_the_device);
}
