use std::cell::{Cell, RefCell};

use serde_json::{Value, json};

use smol::Timer;

use super::*;
use crate::db::Schema;
use crate::sync::engine::Push;
use crate::sync::item::{self, Writer};
use crate::sync::simulation::Cloud;
use crate::sync::state::Status;

const SCHEMA: &str = r#"{
    "version": "1",
    "process": {"M": {"sync": "up"}, "J": {"sync": "up", "mode": "journal"}},
    "models": {"J": {"id": {"type": "string"}}, "M": {"id": {"type": "string"}, "value": {"type": "string"}, "note": {"type": "string"}}}
}"#;

/// A database and a simulated table.
struct Bench {
    directory: std::path::PathBuf,
    db: Db,
    cloud: RefCell<Cloud>,
    is_down: Cell<bool>,
    busy: Cell<usize>,
    busiest: Cell<usize>,
    batches: RefCell<Vec<usize>>,
    traffic: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("ioto-sync-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        let options = config::Database { path: directory.join("device.db"), ..Default::default() };
        let db = Db::open(&options, Schema::parse(SCHEMA, "schema").unwrap()).unwrap();
        let cloud = RefCell::new(Cloud::default());
        let (is_down, busy, busiest) = (Cell::new(false), Cell::new(0), Cell::new(0));
        let (batches, traffic) = (RefCell::default(), Cell::new(0));
        Self { directory, db, cloud, is_down, busy, busiest, batches, traffic }
    }

    async fn create(&self, key: &str, value: &str) {
        let item = json!({"id": key, "value": value}).as_object().unwrap().clone();
        self.db.create("M", item).await.unwrap();
    }

    /// Replicates until the status is as wanted, with the backlog of this very moment in it.
    async fn until(&self, replicator: &Replicator<&Self>, wanted: impl Fn(&Status) -> bool) -> Status {
        let state = replicator.state();
        let seen = async {
            for _ in 0..2000 {
                let backlog = self.db.backlog().await.unwrap();
                let status = Status { backlog: backlog.rows, conflicts: backlog.conflicts, ..state.status() };
                if wanted(&status) {
                    return status;
                }
                Timer::after(Duration::from_millis(5)).await;
            }
            panic!("it stays at {:?}", state.status());
        };
        future::or(seen, async { panic!("{}", replicator.run().await) }).await
    }

    fn value(&self, key: &str) -> Value {
        json!(self.cloud.borrow().current(key).unwrap().item)["value"].clone()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Transport for &Bench {
    async fn pull(&self, query: &pull::Query) -> Result<Page, String> {
        Ok(self.cloud.borrow().query(&query.scope, 2, query.start.as_ref(), 0))
    }

    async fn push_batch(&self, pushes: Vec<Push>) -> Vec<Answer> {
        Timer::after(Duration::from_millis(3)).await;
        self.batches.borrow_mut().push(pushes.len());
        pushes.iter().map(|_| Answer::Stored).collect()
    }

    fn traffic(&self) -> u64 {
        self.traffic.get()
    }

    async fn push(&self, push: Push) -> Answer {
        self.traffic.set(self.traffic.get() + 1000);
        self.busy.set(self.busy.get() + 1);
        self.busiest.set(self.busiest.get().max(self.busy.get()));
        Timer::after(Duration::from_millis(3)).await;
        self.busy.set(self.busy.get() - 1);
        if self.is_down.get() {
            return Answer::Failed("no route to host".to_owned());
        }
        let writer = Writer { thing: "thing".into(), site: self.db.site(), schema: "1".into() };
        let fields = ["id", "value", "note"].map(str::to_owned);
        match item::update("table", &writer, &push, &fields) {
            Ok(request) => self.cloud.borrow_mut().update(&request, "thing", |_| true).unwrap(),
            Err(reason) => Answer::Refused(reason),
        }
    }
}

fn replicator(bench: &Bench, window: usize) -> Replicator<&Bench> {
    Replicator::new(bench.db.clone(), bench, &config::Sync { window, ..Default::default() }, "thing")
}

#[test]
fn rows_reach_the_cloud_and_several_are_on_their_way_at_a_time() {
    let bench = Bench::new();
    smol::block_on(async {
        let replicator = replicator(&bench, 4);
        for n in 0..10 {
            bench.create(&format!("k{n}"), "early").await;
        }
        let state = bench.until(&replicator, |state| state.pushed == 10 && state.backlog == 0).await;
        assert!(state.last_success.is_some() && state.error.is_none());
        assert_eq!(bench.busiest.get(), 4);

        let write = async {
            Timer::after(Duration::from_millis(100)).await;
            bench.create("late", "x").await;
            future::pending::<Status>().await
        };
        future::or(bench.until(&replicator, |state| state.pushed == 11 && state.backlog == 0), write).await;
        bench.db.remove("M", "k3").await.unwrap();
        bench.until(&replicator, |state| state.backlog == 0).await;
        assert_eq!(bench.cloud.borrow().current("k3").unwrap().item, None);
        assert_eq!(bench.value("late"), "x");
    });
}

#[test]
fn an_outage_is_seen_in_the_state_and_ends_with_everything_in_the_cloud() {
    let bench = Bench::new();
    smol::block_on(async {
        let replicator = replicator(&bench, 4);
        bench.is_down.set(true);
        for n in 0..5 {
            bench.create(&format!("k{n}"), "x").await;
        }
        let state = bench.until(&replicator, |state| state.down).await;
        assert_eq!((state.backlog, state.pushed), (5, 0));
        assert_eq!(state.error.as_deref(), Some("no route to host"));
        let counted = bench.until(&replicator, |_| replicator.state().status().backlog == 5).await;
        assert!(counted.oldest.is_some());
        let figures = replicator.state().figures();
        assert_eq!((&figures["down"], &figures["backlog"]), (&json!(true), &json!(5)));
        bench.is_down.set(false);
        let state = bench.until(&replicator, |state| state.backlog == 0).await;
        assert!(!state.down && state.error.is_none());
    });
}

#[test]
fn a_conflict_is_won_by_the_device_and_kept_in_the_log() {
    let bench = Bench::new();
    smol::block_on(async {
        let replicator = replicator(&bench, 4);
        bench.create("k", "mine").await;
        bench.until(&replicator, |state| state.backlog == 0).await;
        bench.cloud.borrow_mut().edit("k", "theirs", "2026-01-01T00:00:00.000Z", &mut fastrand::Rng::with_seed(3));
        let changes = json!({"value": "mine again"}).as_object().unwrap().clone();
        bench.db.update("M", "k", changes).await.unwrap();
        let state = bench.until(&replicator, |state| state.backlog == 0).await;
        assert_eq!(state.conflicts, 1);
        assert_eq!(bench.value("k"), "mine again");
        let logged = bench.db.conflicts(10).await.unwrap().remove(0);
        assert_eq!(json!(logged.conflict.mine)["value"], "mine again");
        assert_eq!(json!(logged.conflict.theirs)["value"], "theirs");
    });
}

#[test]
fn a_replication_that_is_dropped_at_any_time_goes_on_where_it_was() {
    let bench = Bench::new();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    smol::block_on(async {
        let mut kept = replicator(&bench, 3);
        for n in 0..40 {
            bench.create(&format!("k{n}"), "x").await;
        }
        for _ in 0..30 {
            if random.bool() {
                kept = replicator(&bench, 3);
            }
            let stop = async {
                Timer::after(Duration::from_micros(random.u64(..8000))).await;
            };
            future::or(stop, async { panic!("{}", kept.run().await) }).await;
        }
        bench.until(&kept, |state| state.backlog == 0).await;
        let cloud = bench.cloud.borrow();
        assert!((0..40).all(|n| cloud.current(&format!("k{n}")).is_some()));
        assert_eq!(cloud.stored.len(), 40, "each is stored once");
    });
}

#[test]
fn the_backlog_is_counted_at_once_then_after_changes_and_rarely_where_it_takes_long() {
    let begin = Instant::now();
    let at = |milliseconds| begin + Duration::from_millis(milliseconds);
    let mut census = Census::default();
    assert!(census.is_due(at(0)));
    census.changed();
    assert!(!census.is_due(at(5000)) && census.deadline().is_none(), "one count at a time");
    census.counted(at(1));
    assert_eq!(census.deadline(), Some(at(1001)));
    assert!(!census.is_due(at(1000)) && census.is_due(at(1001)));
    census.counted(at(1301));
    assert!(census.deadline().is_none(), "nothing changed");
    census.changed();
    assert_eq!(census.deadline(), Some(at(1301 + 300 * 20)), "counting takes a twentieth of the time at most");
}

#[test]
fn a_database_that_closes_ends_it() {
    let bench = Bench::new();
    smol::block_on(async {
        let replicator = replicator(&bench, 3);
        let close = async {
            Timer::after(Duration::from_millis(20)).await;
            bench.db.close().await;
            future::pending().await
        };
        let ended = future::or(replicator.run(), close).await;
        assert!(ended.to_string().starts_with("replication stopped"));
    });
}

#[test]
fn rows_of_a_journal_go_in_large_requests() {
    let bench = Bench::new();
    smol::block_on(async {
        for n in 0..110 {
            let item = json!({"id": format!("j{n}")}).as_object().unwrap().clone();
            bench.db.create("J", item).await.unwrap();
        }
        bench.until(&replicator(&bench, 4), |state| state.pushed == 110 && state.backlog == 0).await;
        let mut batches = bench.batches.take();
        batches.sort_unstable();
        assert_eq!(batches, [10, 25, 25, 25, 25]);
    });
}

#[test]
fn a_budget_that_is_spent_holds_everything_up_also_after_a_restart() {
    let bench = Bench::new();
    smol::block_on(async {
        for n in 0..30 {
            bench.create(&format!("k{n}"), "x").await;
        }
        let options = config::Sync { window: 1, budget: 10_000, ..Default::default() };
        let limited = || Replicator::new(bench.db.clone(), &bench, &options, "thing");
        let held = |status: &Status| status.held && status.backlog == 20;
        let state = bench.until(&limited(), held).await;
        assert_eq!((state.pushed, state.traffic, state.budget), (10, 10_000, Some(10_000)));
        let state = bench.until(&limited(), held).await;
        assert_eq!((state.pushed, bench.busy.get()), (0, 0));
        bench.until(&replicator(&bench, 1), |state| state.backlog == 0).await;
    });
}
