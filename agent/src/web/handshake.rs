//! The opening handshake of a WebSocket (RFC 6455 §4.2). No I/O: a request's head in, our part of the agreement out.

use async_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Error;
use crate::http1::{Headers, Method, RequestHead, Version, encode_field, encode_status_line};

/// Sub-protocols of an offer that are looked at.
const MAX_OFFERS: usize = 16;

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    accept: String,
    pub protocol: Option<String>,
}

impl Agreement {
    /// Checks the request and chooses the first sub-protocol that the client offers and `protocols` holds; without one in
    /// common there is none, and most clients end the connection.
    ///
    /// # Errors
    /// 426 when it is no request for a WebSocket of version 13, 400 when it is a malformed one.
    pub fn new(head: &RequestHead, protocols: &[&str]) -> Result<Self, Error> {
        let headers = &head.headers;
        if head.version != Version::Http11
            || !headers.has_token("upgrade", "websocket")
            || !headers.has_token("connection", "upgrade")
        {
            return Err(Error::status(426, "this is a WebSocket"));
        }
        if head.method != Method::Get {
            return Err(Error::status(400, "a WebSocket begins with GET"));
        }
        match single(headers, "sec-websocket-version")? {
            Some("13") => {}
            _ => return Err(Error::status(426, "the version of WebSockets here is 13")),
        }
        let key = single(headers, "sec-websocket-key")?.unwrap_or_default();
        if !is_key(key) {
            return Err(Error::status(400, "Sec-WebSocket-Key is not 16 bytes in base64"));
        }
        let offers = headers.get_all("sec-websocket-protocol").flat_map(|value| value.split(',')).map(str::trim);
        let protocol = offers.take(MAX_OFFERS).find(|offer| protocols.contains(offer)).map(str::to_owned);
        Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol })
    }

    /// Appends the answer, with the fields that the action set.
    ///
    /// # Errors
    /// A field cannot be sent.
    pub fn write(&self, fields: &Headers, out: &mut Vec<u8>) -> Result<(), Error> {
        encode_status_line(Version::Http11, 101, out)?;
        encode_field("Upgrade", "websocket", out)?;
        encode_field("Connection", "Upgrade", out)?;
        encode_field("Sec-WebSocket-Accept", &self.accept, out)?;
        if let Some(protocol) = &self.protocol {
            encode_field("Sec-WebSocket-Protocol", protocol, out)?;
        }
        for (name, value) in fields.iter() {
            encode_field(name, value, out)?;
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The page that asks, unless it is no page: only browsers send `Origin`, and they always do (RFC 6455 §10.2).
///
/// # Errors
/// 403 when there are several.
pub(super) fn origin(head: &RequestHead) -> Result<Option<&str>, Error> {
    single(&head.headers, "origin").map_err(|_| Error::status(403, "there is more than one Origin"))
}

/// Whether a page of that origin was served by the host that the request is for. A page that came without TLS is none of a
/// server with TLS; the other way round there may be a proxy in front of us that does the TLS.
pub(super) fn is_same_origin(origin: &str, head: &RequestHead, secure: bool) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" if !secure => ":80",
        "https" => ":443",
        _ => return false,
    };
    let without_port = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    head.authority().is_some_and(|authority| without_port(authority) == without_port(host))
}

/// The value of a field that may stand there once.
fn single<'a>(headers: &'a Headers, name: &'a str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(Error::status(400, format!("there is more than one {name}"))),
    }
}

/// Whether the text is 16 bytes in base64.
fn is_key(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.strip_suffix("==").is_some_and(|digits| digits.len() == 22 && digits.bytes().all(is_digit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::{Limits, parse_request};

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn head(line: &str, fields: &str) -> RequestHead {
        let text = format!("{line}\r\nHost: device\r\n{fields}\r\n");
        parse_request(text.as_bytes(), &Limits::default()).unwrap().unwrap().0
    }

    fn agree(fields: &str, protocols: &[&str]) -> Result<Agreement, Error> {
        Agreement::new(&head("GET /ws HTTP/1.1", fields), protocols)
    }

    #[test]
    fn the_key_of_the_rfc_gives_the_accept_of_the_rfc() {
        let agreement = agree(UPGRADE, &["chat"]).unwrap();
        let mut out = Vec::new();
        agreement.write(&Headers::new(), &mut out).unwrap();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_clients_first_choice_that_is_spoken_here_is_taken() {
        let offer =
            |fields: &str, protocols: &[&str]| agree(&format!("{UPGRADE}{fields}"), protocols).unwrap().protocol;
        assert_eq!(offer("Sec-WebSocket-Protocol: a, b,c\r\n", &["c", "b"]).as_deref(), Some("b"));
        assert_eq!(
            offer("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: chat\r\n", &["chat"]).as_deref(),
            Some("chat")
        );
        assert_eq!(offer("Sec-WebSocket-Protocol: Chat\r\n", &["chat"]), None);
        assert_eq!(offer("Sec-WebSocket-Protocol: \r\n", &[]), None);
    }

    #[test]
    fn what_is_no_request_for_a_websocket_is_refused() {
        let replaced = |from: &str, to: &str| UPGRADE.replace(from, to);
        for (fields, status) in [
            (String::new(), 426),
            (replaced("Upgrade: websocket", "Upgrade: h2c"), 426),
            (replaced("keep-alive, Upgrade", "keep-alive"), 426),
            (replaced(": 13", ": 8"), 426),
            (replaced("Sec-WebSocket-Version: 13\r\n", ""), 426),
            (replaced("Q==", "=="), 400),
            (replaced("Q==", "Q="), 400),
            (replaced("dGhl", "dG!l"), 400),
            (replaced("Key", "Keyless"), 400),
            (format!("{UPGRADE}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
        ] {
            let error = agree(&fields, &[]).unwrap_err();
            assert!(matches!(error, Error::Status { status: found, .. } if found == status), "{fields} {error}");
        }
        assert!(Agreement::new(&head("POST /ws HTTP/1.1", UPGRADE), &[]).is_err());
        assert!(Agreement::new(&head("GET /ws HTTP/1.0", UPGRADE), &[]).is_err());
    }

    #[test]
    fn a_page_of_another_host_port_or_scheme_is_another_origin() {
        for (host, origin, secure, same) in [
            ("device", "http://device", false, true),
            ("device:80", "http://device", false, true),
            ("device", "http://DEVICE:80", false, true),
            ("device:8080", "http://device:8080", false, true),
            ("device", "https://device", true, true),
            ("device:443", "https://device", true, true),
            ("[::1]:8080", "http://[::1]:8080", false, true),
            ("device", "https://device", false, true),
            ("device", "http://device", true, false),
            ("device", "http://device:8080", false, false),
            ("device:8080", "http://device", false, false),
            ("device", "http://evil", false, false),
            ("device", "http://device.evil", false, false),
            ("device", "http://evil/device", false, false),
            ("device", "null", false, false),
            ("device", "file://", false, false),
            ("device", "", false, false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let head = parse_request(text.as_bytes(), &Limits::default()).unwrap().unwrap().0;
            assert_eq!(is_same_origin(origin, &head, secure), same, "{host} {origin} {secure}");
        }
    }
}
