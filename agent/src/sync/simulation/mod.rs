//! The simulation: the engine between a database and a table that behave as the real ones, on a network and a device that
//! do not behave, with the invariants of replication checked at every step.
//!
//! A run follows from its seed alone. `IOTO_SYNC_RUNS` sets the number of runs, `SEED` the first of them, and `TRACE` shows every event.

mod cloud;
mod store;
mod world;

pub(super) use cloud::Cloud;
use world::World;

/// Broken variants of the replication. Each looks right, and each loses or spoils data: the invariants must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// An older write of our own, whose answer was lost, is taken for a conflict.
    NotMe,
    /// A success removes the change from the log even if there is a newer one.
    AnyN,
    /// Rows are written without a condition.
    Unconditional,
    /// A change that was stored before somebody else wrote is written again over it.
    NoCounter,
    /// The counter of another database file is taken for ours.
    AnySite,
    /// The condition also lets a repeated request through.
    RepeatPasses,
    /// No answer is taken for success.
    Guess,
    /// An item that was deleted from the table is not made anew.
    LeaveDeleted,
    /// The base moves to an item that the device never took, for a newer change was queued.
    TheirsMovesBase,
    /// A row that is on its way is read and sent again.
    Twice,
    /// Fields that the document has no more stay in the item.
    NoRemove,
    /// A refused row is tried before all others.
    HeadOfLine,
}

const MUTANTS: [Mutant; 12] = [
    Mutant::NotMe,
    Mutant::AnyN,
    Mutant::Unconditional,
    Mutant::NoCounter,
    Mutant::AnySite,
    Mutant::RepeatPasses,
    Mutant::Guess,
    Mutant::LeaveDeleted,
    Mutant::TheirsMovesBase,
    Mutant::Twice,
    Mutant::NoRemove,
    Mutant::HeadOfLine,
];

/// Runs when nothing else is said; emulated processors are some twenty times slower.
const RUNS: u64 = 300;
/// A mutant must be caught within so many seeds.
const CAUGHT_WITHIN: u64 = 200;

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
    let mut seen = world::Seen::default();
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
    for mutant in MUTANTS {
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
