//! Actions that end their process. They run in a worker, which is this program again: the server lives on, and the client
//! gets a 500.

use ioto::config::Web;
use ioto::web::{Error, Exchange, Server, Worker};

/// The argument that makes this program the worker.
pub const WORKER: &str = "worker";

/// Binds the worker.
pub fn add(server: Server) -> Server {
    server.isolated("/test/crash", Worker::program("/proc/self/exe", [WORKER]))
}

/// The worker's side.
pub fn work() -> Result<(), Error> {
    // As in release builds: a panic ends the process where it happens.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::abort();
    }));
    let server = Server::new(Web { listen: vec![], ..Web::default() });
    Worker::serve(server.action("/test/crash", async |exchange: &mut Exchange| match exchange.rest() {
        "error" => Err(Error::failed("on purpose")),
        "abort" | "null" | "recurse" => std::process::abort(),
        "exit" => std::process::exit(3),
        "divide" => divide(exchange.query("by").and_then(|by| by.parse().ok()).unwrap_or(0), exchange).await,
        what => panic!("on purpose: {what:?}"),
    }))
}

/// Panics for 0.
async fn divide(by: i64, exchange: &Exchange) -> Result<(), Error> {
    exchange.send("text/plain", format!("{}\n", 100 / by)).await
}
