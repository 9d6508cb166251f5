//! The answer to TRACE (RFC 9110 §9.3.8): the request as it arrived here, to see what stands between. It is given only where a
//! route lists the method.

use super::{Error, Exchange};

/// What the name of a field holds whose value may be a secret.
const SECRET: [&str; 7] = ["auth", "cookie", "token", "key", "secret", "session", "password"];

/// Sends the head of the request back, without its secrets.
pub(super) async fn answer(exchange: &mut Exchange) -> Result<(), Error> {
    let mut text = format!("{} {} {}\r\n", exchange.method().as_str(), exchange.target(), exchange.version().as_str());
    for (name, value) in exchange.headers().iter().filter(|(name, _)| !is_secret(name)) {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    exchange.set_header("Cache-Control", "no-store")?;
    exchange.deliver("message/http", text.as_bytes()).await
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}
