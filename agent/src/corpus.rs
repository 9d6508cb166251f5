//! The inputs that are kept for the fuzz targets, run again by ordinary tests, each also with a few changes.

use std::fs;
use std::path::{Path, PathBuf};

/// Changes of each input.
const CHANGES: usize = 20;

/// Runs a fuzz target over `tests/fuzz/corpus/NAME`. `SEED` repeats the changes of a run; every run prints its seed.
pub fn replay(name: &str, target: fn(&[u8])) {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = source_tree().join("tests/fuzz/corpus").join(name);
    let mut inputs = 0;
    for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let input = entry.and_then(|entry| fs::read(entry.path())).unwrap_or_else(|error| panic!("{name}: {error}"));
        target(&input);
        for _ in 0..CHANGES {
            target(&changed(&input, &mut random));
        }
        inputs += 1;
    }
    assert!(inputs >= 5, "{inputs} inputs in {}", directory.display());
}

/// The source tree, or the part of it that an image has beside its tests: asked when a test runs, so that the program does not
/// name the directory that it was built in.
pub fn source_tree() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo, or the image's run-ptest, says where the package is");
    Path::new(&package).join("..")
}

/// The input with some bytes changed, removed or doubled.
fn changed(input: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..4) {
            0 => bytes.insert(at, random.u8(..)),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let end = (at + random.usize(0..16)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}
