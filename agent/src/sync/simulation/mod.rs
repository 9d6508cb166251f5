//! The simulation: the engine between a database and a table that behave as the real ones, on a network and a device
//! that do not behave, with the invariants of replication checked at every step.
//!
//! A run follows from its seed alone. `IOTO_SYNC_RUNS` sets the number of runs, `SEED` the first of them, `TRACE`
//! shows every event, and `MUTANT` tries one of the mutants alone.

mod cloud;
mod device;
mod index;
mod invariants;
mod mutant;
mod others;
mod pulling;
mod seen;
mod store;
mod world;

pub(super) use cloud::Cloud;
pub(super) use mutant::Mutant;
use seen::Seen;
use world::World;

/// Runs when nothing else is said; other processors are mostly emulated where tests run, some twenty times slower.
const RUNS: u64 = if cfg!(target_arch = "x86_64") { 250 } else { 20 };
/// A mutant must be caught within so many seeds.
const CAUGHT_WITHIN: u64 = 5000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn first_seed() -> u64 {
    number("SEED").unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

#[test]
fn every_invariant_holds_whatever_goes_wrong() {
    let (first, runs) = (first_seed(), number("IOTO_SYNC_RUNS").unwrap_or(RUNS));
    println!("SEED={first} IOTO_SYNC_RUNS={runs}");
    let mut seen = Seen::default();
    for seed in first..first + runs {
        match World::new(seed, None).run() {
            Ok(run) => seen.add(&run),
            Err(violation) => panic!("SEED={seed} IOTO_SYNC_RUNS=1: {violation}"),
        }
    }
    println!("{seen:?}");
    if runs >= 100 {
        seen.assert_everything_happened();
    }
}

#[test]
fn every_mutant_is_caught() {
    let first = first_seed();
    println!("SEED={first}");
    let mut survivors = Vec::new();
    let wanted = std::env::var("MUTANT").unwrap_or_default();
    for mutant in Mutant::ALL.into_iter().filter(|mutant| format!("{mutant:?}").contains(&wanted)) {
        let caught = (0..CAUGHT_WITHIN).find_map(|run| {
            let violation = World::new(first + run, Some(mutant)).run().err()?;
            Some((run + 1, violation))
        });
        match caught {
            Some((runs, violation)) => println!("{mutant:?}: caught after {runs} runs: {violation}"),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "SEED={first}: not caught within {CAUGHT_WITHIN} runs: {survivors:?}");
}
