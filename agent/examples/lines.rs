//! An action that reads its request body as a stream and answers with ten million lines, in memory that grows with neither.
//!
//! ```sh
//! cargo run --release --example lines -- http://127.0.0.1:8080
//! curl -T big.file http://127.0.0.1:8080/lines | tail -3
//! ```
//!
//! Arguments: where to listen (default `http://127.0.0.1:8080`; port 0 takes any), and the number of lines.

use std::error::Error;

use ioto::config::Web;
use ioto::web::{Exchange, Server};
use smol::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let lines: u64 = arguments.next().map_or(Ok(10_000_000), |number| number.parse())?;

    let server = Server::new(Web { listen: vec![], ..Web::default() })
        .listen(&listen)?
        .action("/lines", async move |exchange: &mut Exchange| answer(exchange, lines).await)
        .bind()?;
    for address in server.addresses() {
        println!("{address}");
    }
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(server.run(&executor)));
    Ok(())
}

async fn answer(exchange: &mut Exchange, lines: u64) -> Result<(), ioto::web::Error> {
    // What has not arrived yet, the client still has: this buffer is all the memory a body takes.
    let mut body = exchange.body();
    let mut buffer = [0; 4096];
    let mut received = 0;
    loop {
        match body.read(&mut buffer).await? {
            0 => break,
            bytes => received += bytes,
        }
    }

    // A client that reads slowly makes `write_all` wait.
    let mut out = exchange.stream("text/plain; charset=utf-8")?;
    out.write_all(format!("received {received} bytes\n").as_bytes()).await?;
    for number in 1..=lines {
        out.write_all(format!("line {number:010}\n").as_bytes()).await?;
    }
    out.finish().await
}
