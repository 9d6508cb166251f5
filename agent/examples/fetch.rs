//! Gets a URL, or posts a text to it, and prints the answer:
//!
//! ```sh
//! cargo run --example fetch http://localhost:8080/
//! cargo run --example fetch http://localhost:8080/api/db/Reading '{"name": "temperature", "value": 21.5}'
//! ```

use ioto::fetch::{Client, Error};

/// Answers that are larger are refused.
const LIMIT: usize = 1024 * 1024;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), text) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: fetch URL [TEXT]");
        return 2.into();
    };
    let answer = smol::block_on(async {
        match text {
            None => get(&url).await,
            Some(text) => post(&url, text).await,
        }
    });
    match answer {
        Ok(answer) => {
            println!("{answer}");
            0.into()
        }
        Err(error) => {
            eprintln!("fetch: {error}");
            1.into()
        }
    }
}

async fn get(url: &str) -> Result<String, Error> {
    Client::default().get(url).send().await?.text(LIMIT).await
}

async fn post(url: &str, text: String) -> Result<String, Error> {
    let request = Client::default().post(url).header("Content-Type", "application/json").body(text);
    request.send().await?.text(LIMIT).await
}
