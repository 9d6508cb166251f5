//! The tokens of routes with `xsrf: true`: proof that a request comes from a page that this server gave to the same client.
//!
//! An answer to GET tells the token in `X-XSRF-TOKEN`; a request that changes something sends it back in that field, or in the
//! variable `-xsrf-` of its form. A user's token belongs to the session. A visitor's is the signed value of the session's cookie,
//! which is given to visitors without a session as well, so that they cost no memory.

use smol::io::AsyncReadExt;

use super::compare::{random, same};
use super::gate::OWN;
use super::{cookie, origin, session};
use crate::net::hex;
use crate::web::exchange::form_decode;
use crate::web::multipart::{Multipart, Step};
use crate::web::{Error, Exchange};

/// The variable of forms.
const VARIABLE: &str = "-xsrf-";
/// Bytes at the beginning of a form with files in which the variable must stand: those behind it are not held in memory.
const BEGINNING: usize = 16 * 1024;

/// Tells a visitor a token.
pub fn offer(exchange: &mut Exchange) -> Result<(), Error> {
    let shared = exchange.shared.clone();
    let settings = &shared.authority.settings.sessions;
    let known = cookie::values(exchange.headers(), &settings.cookie).find(|value| is_ours(value)).map(str::to_owned);
    let value = match known {
        Some(value) => value,
        // The link of another site: a strict cookie, perhaps that of a user, is there and does not come with it.
        None if settings.same_site == "Strict" && exchange.header("sec-fetch-site") == Some("cross-site") => {
            return Ok(());
        }
        None => {
            let bytes = random::<16>().ok_or_else(|| Error::status(503, "the system gives no random bytes"))?;
            let value = hex::encode(&bytes);
            session::give(exchange, &value)?;
            value
        }
    };
    tell(exchange, &value)?;
    // The next client behind a cache would get the same.
    exchange.set_header("Cache-Control", OWN)
}

/// Tells the token of a visitor's cookie.
pub fn tell(exchange: &mut Exchange, cookie: &str) -> Result<(), Error> {
    let token = exchange.shared.authority.form_token(cookie);
    exchange.set_header("X-XSRF-TOKEN", &token)
}

/// Checks that the request brings the token of its session or of its cookie.
///
/// # Errors
/// 403: it comes from a page of another site. 400: the token is missing, or another.
pub async fn demand(exchange: &Exchange, of_session: Option<&str>) -> Result<(), Error> {
    if !origin::is_own(exchange.headers(), exchange.secure()) {
        return Err(Error::status(403, "a page of another site may not do that"));
    }
    let given = match exchange.header("x-xsrf-token") {
        Some(token) => Some(token.to_owned()),
        None => from_form(exchange).await?,
    };
    let is_right = given.is_some_and(|given| {
        let fits = |expected: &str| same(given.as_bytes(), expected.as_bytes());
        let authority = &exchange.shared.authority;
        match of_session {
            Some(expected) => fits(expected),
            None => cookie::values(exchange.headers(), &authority.settings.sessions.cookie)
                .any(|value| is_ours(value) && fits(&authority.form_token(value))),
        }
    });
    match is_right {
        true => Ok(()),
        false => Err(Error::status(
            400,
            "the token is missing or too old: GET the page again, and send the X-XSRF-TOKEN of that answer in the same field \
             or in the form variable -xsrf-",
        )),
    }
}

fn is_ours(value: &str) -> bool {
    value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The variable of the form in the body, which the handler can read as if nothing had been read before.
async fn from_form(exchange: &Exchange) -> Result<Option<String>, Error> {
    let Ok(media) = exchange.media_type() else { return Ok(None) };
    if media.is("application/x-www-form-urlencoded") {
        let bytes = exchange.bytes().await?;
        let found = variable(&bytes);
        exchange.transfer.borrow_mut().put_back(bytes);
        return Ok(found);
    }
    if !media.is("multipart/form-data") {
        return Ok(None);
    }
    let Ok(parser) = Multipart::new(&media) else { return Ok(None) };
    let mut bytes = Vec::new();
    exchange.body().take(BEGINNING as u64).read_to_end(&mut bytes).await?;
    let found = part(parser, &bytes);
    exchange.transfer.borrow_mut().put_back(bytes);
    Ok(found)
}

fn variable(body: &[u8]) -> Option<String> {
    let pairs = std::str::from_utf8(body).ok()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(name, value)| Some((form_decode(name)?, form_decode(value)?)))
        .find_map(|(name, value)| (name == VARIABLE).then_some(value))
}

/// The value of the part of that name, if it is complete.
fn part(mut parser: Multipart, mut input: &[u8]) -> Option<String> {
    let mut value: Option<Vec<u8>> = None;
    loop {
        let used = match parser.step(input).ok()? {
            Step::More { used: 0 } | Step::End => return None,
            Step::More { used } => used,
            Step::Part { used, head } => {
                value = (head.name == VARIABLE && head.file_name.is_none()).then(Vec::new);
                used
            }
            Step::Data { length } => {
                if let Some(value) = &mut value {
                    value.extend_from_slice(input.get(..length)?);
                }
                length
            }
            Step::PartEnd { used } => match value {
                Some(value) => return String::from_utf8(value).ok(),
                None => used,
            },
        };
        input = input.get(used..)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::web::media::Parameterized;

    #[test]
    fn the_variable_is_found_in_both_kinds_of_form() {
        for (body, expected) in [
            ("a=b&-xsrf-=x%20y&-xsrf-=z", Some("x y")),
            ("%2Dxsrf%2D=x", Some("x")),
            ("-xsrf-", None),
            ("-xsrf-=%zz", None),
            ("", None),
        ] {
            assert_eq!(variable(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let media = Parameterized::parse("multipart/form-data; boundary=B").unwrap();
        let field = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        for (body, expected) in [
            (field("a", "b") + &field("-xsrf-", "x y") + "--B--\r\n", Some("x y")),
            (field("-xsrf-", "x") + &field("file", &"x".repeat(20_000)), Some("x")),
            (field("-xsrf-", "") + "--B--", Some("")),
            (field("-xsrf-", "x").trim_end().to_owned(), None),
            (field("-xsrf-\"; filename=\"f", "x") + "--B--\r\n", None),
            (field("a", "b") + "--B--\r\n" + &field("-xsrf-", "x"), None),
            (String::new(), None),
        ] {
            let found = part(Multipart::new(&media).unwrap(), body.as_bytes());
            assert_eq!(found.as_deref(), expected, "{body}");
            for end in 0..body.len().min(200) {
                part(Multipart::new(&media).unwrap(), &body.as_bytes()[..end]);
            }
        }
    }
}
