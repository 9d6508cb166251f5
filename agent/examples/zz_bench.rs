//! Throw-away.
use ioto::config;
use ioto::web::{Exchange, Server};
use std::path::PathBuf;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap());
    let mut settings = config::Web { listen: vec![], documents: root.clone(), ..Default::default() };
    settings.limits.connections = 5000;
    settings.limits.requests = usize::MAX;
    let server = Server::new(settings)
        .listen("http://127.0.0.1:9180")?
        .listen("https://127.0.0.1:9143")?
        .tls(ioto::net::tls_server::server_config(&root.join("../cert.pem"), &root.join("../key.pem"))?)
        .action("/action", async |exchange: &mut Exchange| exchange.send("text/plain", "8 bytes\n").await)
        .bind()?;
    let executor = smol::LocalExecutor::new();
    if std::env::args().nth(2).is_some() {
        smol::block_on(executor.run(server.run(&executor)));
    } else {
        ioto::net::reactor::block_on(executor.run(server.run(&executor)));
    }
    Ok(())
}
