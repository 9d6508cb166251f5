//! Gets a URL and prints the body as it arrives, however long it is, in constant memory:
//!
//! ```sh
//! cargo run --example fetch_stream http://localhost:8080/lines
//! ```

use std::error::Error;
use std::io::Write;

use ioto::fetch::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: fetch_stream URL")?;
    smol::block_on(async {
        let mut response = Client::default().get(&url).send().await?;
        eprintln!("{} from {}", response.status(), response.url());

        let mut buffer = [0; 16 * 1024];
        loop {
            let length = response.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            std::io::stdout().write_all(&buffer[..length])?;
            std::io::stdout().flush()?;
        }
    })
}
