//! Login and logout: what is posted to `web.auth.login` and `web.auth.logout`, as JSON or as a form.

use std::time::Duration;

use serde_json::json;
use smol::Timer;

use super::authority::Refused;
use super::gate::{address, answer, answer_later, require_tls};
use super::origin;
use super::password::LONGEST;
use crate::http1::Method;
use crate::web::exchange::form_decode;
use crate::web::{Error, Exchange};

/// After a wrong password.
const DELAY: Duration = Duration::from_millis(500);

/// Begins a session for who knows the password. JSON is answered with user, role and XSRF token, a form with the way to `/`.
pub async fn login(exchange: &mut Exchange) -> Result<(), Error> {
    if !is_post(exchange).await? {
        return Ok(());
    }
    require_tls(exchange)?;
    if let Some(wait) = exchange.shared.authority.address_wait(address(exchange)) {
        return answer_later(exchange, Refused::Wait(wait)).await;
    }
    let is_form = is_form(exchange);
    let body = exchange.bytes().await?;
    let Some((user, password)) = credentials(&body, is_form) else {
        return Err(Error::status(400, "expected `username` and `password`, as JSON or as a form"));
    };
    let shared = exchange.shared.clone();
    let authority = &shared.authority;
    let account = match authority.verify(&user, &password, address(exchange)).await {
        Ok(account) => account,
        Err(Refused::Wrong) => {
            // It delays a guess on this connection, and nothing else.
            Timer::after(DELAY).await;
            exchange.set_header("WWW-Authenticate", &format!("Session realm=\"{}\"", authority.settings.realm))?;
            return answer(exchange, 401, "user or password is wrong").await;
        }
        Err(refused) => return answer_later(exchange, refused).await,
    };
    exchange.login(account.name()).await?;
    exchange.set_header("Cache-Control", "no-store")?;
    if is_form {
        let wanted = variable(&body, "redirect").or_else(|| exchange.query("redirect"));
        return go(exchange, wanted.as_deref()).await;
    }
    let token = exchange.headers.get("x-xsrf-token").map(str::to_owned);
    exchange.send_json(&json!({"user": account.name, "role": account.role, "xsrf": token})).await
}

/// Ends the session.
pub async fn logout(exchange: &mut Exchange) -> Result<(), Error> {
    if !is_post(exchange).await? {
        return Ok(());
    }
    exchange.logout().await?;
    exchange.set_header("Cache-Control", "no-store")?;
    if is_form(exchange) {
        let wanted = exchange.query("redirect");
        return go(exchange, wanted.as_deref()).await;
    }
    exchange.set_status(204);
    exchange.send("", "").await
}

/// Sends a browser to a page of this server.
async fn go(exchange: &mut Exchange, wanted: Option<&str>) -> Result<(), Error> {
    exchange.set_header("Location", wanted.filter(|target| is_local(target)).unwrap_or("/"))?;
    exchange.set_status(303);
    exchange.send("text/plain; charset=utf-8", "303 See Other\n").await
}

/// Whether browsers take a target for a path of this server; they take two slashes, and a backslash, for another one.
fn is_local(target: &str) -> bool {
    let is_path = target.starts_with('/') && !target.starts_with("//");
    is_path && target.len() <= 2048 && target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\')
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
        true => (variable(body, "username")?, variable(body, "password")?),
        false => {
            let value: serde_json::Value = serde_json::from_slice(body).ok()?;
            let text = |name| value.get(name)?.as_str().map(str::to_owned);
            (text("username")?, text("password")?)
        }
    };
    (user.len() <= LONGEST && password.len() <= LONGEST).then_some((user, password))
}

/// A variable of a form.
fn variable(form: &[u8], name: &str) -> Option<String> {
    let mut pairs = std::str::from_utf8(form).ok()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    form_decode(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_no_other_server() {
        for target in ["/", "/a/b?c=d#e", "/a//b"] {
            assert!(is_local(target), "{target}");
        }
        for target in
            ["", "a", "//evil", "/\\evil", "\\\\evil", "https://evil", "/a\r\nb", "/ /evil", "/\t/evil", "/\u{e4}"]
        {
            assert!(!is_local(target), "{target}");
        }
    }

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
