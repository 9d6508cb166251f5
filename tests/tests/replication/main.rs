//! The real program against moto with signatures verified, over a link that does whatever links and services do, and
//! killed on the way: what it acknowledged, what came to the cloud and what others wrote there must fit together.
//!
//! Over MQTT, the cloud's function stands between a broker and that link, messages are lost, repeated and late in both directions,
//! and the device's connection to the broker is cut.
//!
//! With `IOTO_TEST_DYNALITE`, the program `dynalite` has the table, and not moto.
//!
//! A run has its seed; `IOTO_TEST_RUNS=200` makes so many of them of each mode, `SEED=N IOTO_TEST_RUNS=1` one of them again.
#![allow(clippy::unwrap_used)]

mod device;
mod editor;
mod history;
mod link;
mod mutant;
mod post;
mod run;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use ioto_tests::{Mosquitto, Moto, seed};
use mutant::Mutant;
use run::{Figures, Mode, run};
use serde_json::Value;

/// Runs in `ci/test`.
const RUNS: u64 = 4;
/// The same over MQTT, where each takes longer.
const RUNS_OVER_MQTT: u64 = 2;
/// Of them so many at a time.
const AT_A_TIME: u64 = 4;

const UP: Mode = Mode { sync: "up", conflict: None, is_journal: false, is_over_mqtt: false };
const JOURNAL: Mode = Mode { is_journal: true, ..UP };
const DOWN: Mode = Mode { sync: "down", ..UP };
const CLOUD_WINS: Mode = Mode { sync: "both", conflict: Some("cloud"), ..UP };
const DEVICE_WINS: Mode = Mode { conflict: Some("device"), ..CLOUD_WINS };
const LATER_WINS: Mode = Mode { conflict: Some("lww"), ..CLOUD_WINS };
const MERGED: Mode = Mode { conflict: Some("merge"), ..CLOUD_WINS };
const BOTH_KEPT: Mode = Mode { conflict: Some("both"), ..CLOUD_WINS };

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

/// The program that has the table in moto's place.
fn dynalite() -> Option<String> {
    std::env::var("IOTO_TEST_DYNALITE").ok()
}

/// Makes the runs and returns what they did together; the first failure ends them.
fn all_runs(mode: Mode) -> Figures {
    let runs = if mode.is_over_mqtt { RUNS_OVER_MQTT } else { RUNS };
    let runs = std::env::var("IOTO_TEST_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(runs);
    let (first, began) = (seed(), Instant::now());
    let moto = dynalite().map_or_else(Moto::start, |program| Moto::dynalite(&program));
    let broker = mode.is_over_mqtt.then(Mosquitto::start);
    let (next, total) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    // They wait most of the time, for the device's patience and late requests.
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(runs) {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|number| *number < runs) {
                    let seed = first.wrapping_add(number);
                    match run(&moto, broker.as_ref(), mode, seed, None) {
                        Ok(figures) => link::lock(&total).add(figures),
                        Err(error) => {
                            next.store(runs, Ordering::SeqCst);
                            panic!("SEED={seed}: {error}");
                        }
                    }
                }
            });
        }
    });
    let total = std::mem::take(&mut *link::lock(&total));
    println!("{runs} runs of {mode:?} in {:.0?}: {total:?}", began.elapsed());
    total
}

#[test]
fn up_nothing_is_lost_or_overwritten_silently_whatever_the_link_does_and_whoever_kills() {
    let total = all_runs(UP);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn down_what_others_write_is_on_the_device_and_nothing_goes_back() {
    let total = all_runs(DOWN);
    assert!(total.kills > 0 && total.edits > 0 && total.writes == 0);
}

#[test]
fn both_where_the_cloud_wins_what_the_device_had_is_in_the_log() {
    let total = all_runs(CLOUD_WINS);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn both_where_the_device_wins_what_the_cloud_had_is_in_the_log() {
    let total = all_runs(DEVICE_WINS);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn both_where_the_later_wins_what_the_other_had_is_in_the_log() {
    let total = all_runs(LATER_WINS);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn both_where_they_are_merged_no_field_is_lost() {
    let total = all_runs(MERGED);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn both_where_both_are_kept_the_devices_is_beside_the_clouds() {
    let total = all_runs(BOTH_KEPT);
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn up_as_a_journal_every_row_comes_once() {
    for mode in [JOURNAL, Mode { is_over_mqtt: true, ..JOURNAL }] {
        let total = all_runs(mode);
        assert!(total.kills > 0 && total.writes > 0);
    }
}

#[test]
fn up_over_mqtt_as_well() {
    let total = all_runs(Mode { is_over_mqtt: true, ..UP });
    assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
}

#[test]
fn down_over_mqtt_as_well() {
    let total = all_runs(Mode { is_over_mqtt: true, ..DOWN });
    assert!(total.kills > 0 && total.edits > 0 && total.writes == 0);
}

#[test]
fn both_over_mqtt_as_well_whoever_wins() {
    for mode in [CLOUD_WINS, DEVICE_WINS, MERGED] {
        let total = all_runs(Mode { is_over_mqtt: true, ..mode });
        assert!(total.kills > 0 && total.edits > 0 && total.writes > 0);
    }
}

#[test]
fn every_broken_device_is_found_out() {
    const TRIES: u64 = 80;
    let (first, moto) = (seed(), Moto::start());
    let find = &|mutant: Mutant| {
        let found = (0..TRIES).find_map(|number| {
            let error = run(&moto, None, UP, first.wrapping_add(number), Some(mutant)).err()?;
            Some((number + 1, error))
        });
        match &found {
            Some((runs, error)) => println!("{mutant:?} was caught in run {runs}: {error:.120}"),
            None => println!("{mutant:?} survived {TRIES} runs"),
        }
        found.is_some()
    };
    let all_are_found = thread::scope(|scope| {
        let searches = Mutant::ALL.map(|mutant| scope.spawn(move || find(mutant)));
        searches.map(|search| search.join().unwrap()).iter().all(|found| *found)
    });
    assert!(all_are_found, "see above who survived");
}
