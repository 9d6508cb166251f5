//! Has the small program (profile `dist`) linked without unwinding tables and with packed relocations. Backtraces of core
//! dumps need the profile `release`. The small programs beside the agent are built with it too.

use std::env;
use std::path::Path;

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let beside = |directory: &&Path| directory.join("dist.ld").exists();
    let Some(directory) = Path::new(&manifest).ancestors().find(beside).map(Path::display) else { return };
    println!("cargo::rerun-if-changed={directory}/build.rs");
    println!("cargo::rerun-if-changed={directory}/dist.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Cargo does not tell a build script the name of a profile; `dist` is the one that optimises for size.
    if is("OPT_LEVEL", "z") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/dist.ld");
        if is("CARGO_CFG_TARGET_ENV", "gnu") {
            // Read by glibc 2.36 and later; linkers that can not write them pass over it.
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
}
