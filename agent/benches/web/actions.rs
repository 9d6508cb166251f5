//! The actions that `ci/bench web` measures, in a server with the configuration of a directory:
//!
//! ```sh
//! cargo run --release --example bench_actions -- DIR    # reads DIR/ioto.json5, as `ioto run --config DIR`
//! ```
//!
//! `/test/bench` answers 8 bytes; `/test/work` computes for about half a millisecond first.

use std::error::Error;
use std::hash::{DefaultHasher, Hasher};
use std::hint::black_box;

use ioto::config::{Invocation, load};
use ioto::net::reactor::block_on;
use ioto::web::{Exchange, Server};

/// Bytes that are hashed for one answer of `/test/work`.
const WORK: usize = 512 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("say the directory of the configuration")?;
    let environment = std::env::vars().collect();
    let loaded = load(&Invocation { config_dir: Some(directory.into()), environment, ..Invocation::default() })?;
    let server = Server::new(loaded.config.web)
        .action("/test/bench", async |exchange: &mut Exchange| exchange.send("text/plain", "success\n").await)
        .action("/test/work", async |exchange: &mut Exchange| exchange.send("text/plain", work()).await)
        .bind()?;
    let executor = smol::LocalExecutor::new();
    // As `ioto run` does.
    block_on(executor.run(server.run(&executor)));
    Ok(())
}

fn work() -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(black_box(&[7; WORK]));
    format!("{:016x}\n", hasher.finish())
}
