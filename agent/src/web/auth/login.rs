//! Login and logout: what is posted to `web.auth.login` and `web.auth.logout`, as JSON or as a form.

use std::time::Instant;

use serde_json::json;

use super::authority::Refused;
use super::gate::{address, answer, answer_later, require_tls};
use super::password::LONGEST;
use super::{cookie, origin};
use crate::http1::{Method, percent_decode};
use crate::web::{Error, Exchange};

/// Begins a session for who knows the password. JSON is answered with user, role and XSRF token, a form with the way to `/`.
pub async fn login(exchange: &mut Exchange) -> Result<(), Error> {
    if !is_post(exchange).await? {
        return Ok(());
    }
    require_tls(exchange)?;
    let is_form = is_form(exchange);
    let Some((user, password)) = credentials(&exchange.bytes().await?, is_form) else {
        return Err(Error::status(400, "expected `username` and `password`, as JSON or as a form"));
    };
    let shared = exchange.shared.clone();
    let authority = &shared.authority;
    let account = match authority.verify(&user, &password, address(exchange)).await {
        Ok(account) => account,
        Err(Refused::Wrong) => {
            exchange.set_header("WWW-Authenticate", &format!("Session realm=\"{}\"", authority.settings.realm))?;
            return answer(exchange, 401, "user or password is wrong").await;
        }
        Err(refused) => return answer_later(exchange, refused).await,
    };
    let settings = &authority.settings.sessions;
    let (id, xsrf) = {
        let mut sessions = authority.sessions();
        // What was known before the login is worth nothing after it.
        cookie::values(exchange.headers(), &settings.cookie).for_each(|id| sessions.remove(id));
        let created = sessions.create(account.clone(), Instant::now());
        created.ok_or_else(|| Error::status(503, "no session can begin now"))?
    };
    exchange.add_header("Set-Cookie", &cookie::set(settings, &id, exchange.secure()))?;
    exchange.set_header("X-XSRF-TOKEN", &xsrf)?;
    exchange.set_header("Cache-Control", "no-store")?;
    if is_form {
        return go_home(exchange).await;
    }
    exchange.send_json(&json!({"user": account.name, "role": account.role, "xsrf": xsrf})).await
}

/// Ends the session.
pub async fn logout(exchange: &mut Exchange) -> Result<(), Error> {
    if !is_post(exchange).await? {
        return Ok(());
    }
    let shared = exchange.shared.clone();
    let settings = &shared.authority.settings.sessions;
    {
        let mut sessions = shared.authority.sessions();
        cookie::values(exchange.headers(), &settings.cookie).for_each(|id| sessions.remove(id));
    }
    exchange.add_header("Set-Cookie", &cookie::clear(settings, exchange.secure()))?;
    exchange.set_header("Cache-Control", "no-store")?;
    if is_form(exchange) {
        return go_home(exchange).await;
    }
    exchange.set_status(204);
    exchange.send("", "").await
}

async fn go_home(exchange: &mut Exchange) -> Result<(), Error> {
    exchange.set_header("Location", "/")?;
    exchange.set_status(303);
    exchange.send("text/plain; charset=utf-8", "303 See Other\n").await
}

/// Whether it is a POST of a page of this server; other methods are answered.
async fn is_post(exchange: &mut Exchange) -> Result<bool, Error> {
    if *exchange.method() != Method::Post {
        exchange.set_header("Allow", "POST")?;
        answer(exchange, 405, "only POST").await?;
        return Ok(false);
    }
    match origin::is_own(exchange.headers(), exchange.secure()) {
        true => Ok(true),
        false => Err(Error::status(403, "a page of another site may not do that")),
    }
}

fn is_form(exchange: &Exchange) -> bool {
    let kind = exchange.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// `username` and `password` of a body.
fn credentials(body: &[u8], is_form: bool) -> Option<(String, String)> {
    let (user, password) = match is_form {
        true => {
            let text = std::str::from_utf8(body).ok()?;
            let value = |name: &str| {
                let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
                let (_, value) = pairs.find(|(found, _)| *found == name)?;
                percent_decode(&value.replace('+', " ")).map(|value| value.into_owned())
            };
            (value("username")?, value("password")?)
        }
        false => {
            let value: serde_json::Value = serde_json::from_slice(body).ok()?;
            let text = |name| value.get(name)?.as_str().map(str::to_owned);
            (text("username")?, text("password")?)
        }
    };
    (user.len() <= LONGEST && password.len() <= LONGEST).then_some((user, password))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_read_from_json_and_forms() {
        let expected = Some(("jo m".to_owned(), "a&b=\u{e4}".to_owned()));
        assert_eq!(credentials("{\"username\": \"jo m\", \"password\": \"a&b=\u{e4}\"}".as_bytes(), false), expected);
        assert_eq!(credentials(b"x&username=jo+m&password=a%26b%3D%C3%A4", true), expected);
        for body in ["", "{}", "[]", "{\"username\": 5, \"password\": \"x\"}", "username=x&password=y"] {
            assert_eq!(credentials(body.as_bytes(), false), None, "{body}");
        }
        let long = format!("username=x&password={}", "y".repeat(257));
        for body in ["", "username=x", "username=%zz&password=x", "username=%ff&password=x", &long] {
            assert_eq!(credentials(body.as_bytes(), true), None, "{body}");
        }
    }
}
