//! How fast it is: `cargo test --release --test db rates -- --ignored --nocapture --test-threads=1`.

use std::time::{Duration, Instant};

use ioto::db::{Db, Query};
use serde_json::json;
use smol::{LocalExecutor, block_on};

use super::{Scratch, item};

/// CPU time of the process so far: `utime` and `stime` of `/proc/self/stat`, in hundredths of a second (proc(5)).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    Duration::from_millis((ticks() + ticks()) * 10)
}

fn reading(n: usize) -> ioto::db::Item {
    item(json!({"name": format!("sensor {}", n % 100), "value": n, "serial": "x".repeat(100)}))
}

/// `writers` tasks create rows for `time`; returns how many rows.
fn write(db: &Db, writers: usize, time: Duration) -> usize {
    let executor = LocalExecutor::new();
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            executor.spawn(async move {
                let mut count = 0;
                while Instant::now() < end {
                    db.create("Reading", reading(count)).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    tasks.into_iter().map(|task| block_on(executor.run(task))).sum()
}

#[test]
#[ignore = "a measurement"]
fn writes() {
    for writers in [1, 10, 64, 100, 400] {
        let scratch = Scratch::new();
        let db = scratch.open();
        let (before, begun) = (cpu(), Instant::now());
        let rows = write(&db, writers, Duration::from_secs(3));
        let (cpu, time) = ((cpu() - before).as_secs_f64(), begun.elapsed().as_secs_f64());
        let (rate, each) = (rows as f64 / time, cpu * 1e6 / rows as f64);
        println!("{writers:4} writers: {rate:8.0} rows/s, {each:6.1} us CPU a row");
    }
}

#[test]
#[ignore = "a measurement"]
fn reads() {
    let scratch = Scratch::new();
    let db = scratch.open();
    block_on(db.create("Plain", item(json!({"id": "a", "name": "n"})))).unwrap();
    let latency = |what: &str| {
        let mut times: Vec<Duration> = (0..2000)
            .map(|_| {
                let begun = Instant::now();
                block_on(db.get("Plain", "a")).unwrap();
                begun.elapsed()
            })
            .collect();
        times.sort();
        println!("get {what}: median {:?}, 99 % {:?}, worst {:?}", times[1000], times[1980], times[1999]);
    };
    latency("alone");
    std::thread::scope(|scope| {
        scope.spawn(|| write(&db, 64, Duration::from_secs(2)));
        std::thread::sleep(Duration::from_millis(200));
        latency("while 64 write");
    });
    let begun = Instant::now();
    for _ in 0..200 {
        block_on(db.find("Reading", Query::new().filter("name", "sensor 7").limit(20))).unwrap();
    }
    let rows = block_on(db.count("Reading")).unwrap();
    println!("find by index, 20 of {rows} rows: {:?}", begun.elapsed() / 200);
}
