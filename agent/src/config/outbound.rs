//! `proxy` of a client: the proxy through which it reaches the world.

use std::net::Ipv6Addr;

use serde_json::Value as Json;

use super::Secret;
use super::listen::{is_host, split_port};
use super::node::quote;
use super::section::{Section, text};

/// The proxy of a client, `{url, username, password}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundProxy {
    /// `url`: `http://HOST:PORT` (CONNECT) or `socks5://HOST:PORT`; empty: none.
    pub url: String,
    /// `username`: who we are at the proxy.
    pub username: Option<String>,
    /// `password`
    pub password: Secret,
}

impl OutboundProxy {
    pub(super) fn read(s: &Section) -> Self {
        let url = s.value("url", String::new(), |url| Json::from(url.as_str()), |node| checked(text(node)?));
        let username = s.optional_text("username");
        let password = s.secret("password");
        if username.is_none() && !password.is_empty() {
            s.problem("password", "needs `username` beside it");
        }
        Self { url, username, password }
    }
}

fn checked(url: String) -> Result<String, String> {
    if url.is_empty() {
        return Ok(url);
    }
    if url.contains('@') {
        return Err("holds a user or a password; they belong into `username` and `password` beside it".into());
    }
    let wrong = || format!("expected a proxy as 'http://HOST:PORT' or 'socks5://HOST:PORT', found {}", quote(&url));
    let place = match url.split_once("://") {
        Some(("http" | "socks5" | "socks5h", place)) => place,
        _ => return Err(wrong()),
    };
    let (host, _) = split_port(place.strip_suffix('/').unwrap_or(place)).ok_or_else(wrong)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner.map_or(is_host(host), |address| address.parse::<Ipv6Addr>().is_ok()) {
        true => Ok(url),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_urls_without_secrets() {
        for url in ["", "http://gate:3128", "socks5://[::1]:1080/", "socks5h://10.0.0.1"] {
            assert_eq!(checked(url.to_owned()), Ok(url.to_owned()));
        }
        for url in ["gate", "https://gate", "http://", "http://a b"] {
            assert!(checked(url.to_owned()).is_err_and(|text| text.contains("expected a proxy")), "{url}");
        }
        assert!(checked("http://u:hunter2@gate".to_owned()).is_err_and(|text| !text.contains("hunter2")));
    }
}
