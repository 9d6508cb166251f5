//! One request and its response, as an action sees them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use smol::io::AsyncReadExt;

use super::auth::Account;
use super::head::{Head, Length};
use super::local::Local;
use super::shared::Shared;
use super::signatures::Validation;
use super::transfer::{self, Stage, Transfer};
use super::{Body, BodyWriter, Error};
use crate::http1::{Headers, Method, RequestHead, Version, percent_decode};
use crate::net::Holder;

/// A response body up to this size is sent in one write with its head.
const ONE_WRITE: usize = 32 * 1024;
const JSON: &str = "application/json";
/// Fields that frame a message; only the server knows how.
const FRAMING: [&str; 4] = ["connection", "content-length", "transfer-encoding", "date"];

/// Who sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client on the network.
    Tcp(SocketAddr),
    /// A process on this device, by a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("a process of this device"),
        }
    }
}

/// The other side of a connection.
#[derive(Clone)]
pub(super) struct Caller {
    pub peer: Peer,
    pub secure: bool,
    /// Whose client certificate was verified, and by which configuration of [`Shared`].
    pub certificate: Option<(Arc<Holder>, u64)>,
}

impl From<(Peer, bool)> for Caller {
    fn from((peer, secure): (Peer, bool)) -> Self {
        Self { peer, secure, certificate: None }
    }
}

impl Caller {
    /// Whether the certificate was verified by a configuration that is no longer in force.
    pub fn is_outdated(&self, shared: &Shared) -> bool {
        self.certificate.as_ref().is_some_and(|(_, generation)| *generation != shared.tls_generation())
    }
}

/// One request and its response.
///
/// An action reads what it needs and answers once, with [`Exchange::send`], [`Exchange::send_json`] or
/// [`Exchange::stream`]; when it returns without an answer, the status goes out with an empty body. Body and writer may be
/// used at the same time.
pub struct Exchange {
    pub(super) head: RequestHead,
    /// Percent-decoded.
    pub(super) path: String,
    /// Where the rest of the path begins.
    pub(super) rest: usize,
    pub(super) peer: Peer,
    pub(super) secure: bool,
    pub(super) certificate: Option<Arc<Holder>>,
    /// Who asks, if the gate knows.
    pub(super) user: Option<Arc<Account>>,
    /// The id of a session that began with this request.
    #[cfg(feature = "users")]
    pub(super) session: Option<Box<super::auth::SessionId>>,
    status: u16,
    /// What the signature says, where the route validates.
    pub(super) validation: Option<Box<Validation>>,
    pub(super) headers: Headers,
    /// The connection closes after this response.
    pub(super) last: bool,
    pub(super) transfer: RefCell<Transfer>,
    pub(super) shared: Arc<Shared>,
    pub(super) local: Rc<Local>,
}

impl Exchange {
    pub(super) fn new(
        head: RequestHead,
        path: String,
        from: Caller,
        transfer: Transfer,
        shared: Arc<Shared>,
        local: Rc<Local>,
    ) -> Self {
        Self {
            head,
            path,
            rest: 0,
            peer: from.peer,
            secure: from.secure,
            certificate: from.certificate.map(|(holder, _)| holder),
            user: None,
            validation: None,
            #[cfg(feature = "users")]
            session: None,
            status: 200,
            headers: Headers::new(),
            last: false,
            transfer: RefCell::new(transfer),
            shared,
            local,
        }
    }

    /// What to do.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The path, percent-decoded. It holds no control characters, no backslash and no segment `.` or `..`.
    /// What the route trims is gone; [`Exchange::target`] still has it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the action's prefix in the path, without the slash between them.
    pub fn rest(&self) -> &str {
        self.path.get(self.rest..).unwrap_or_default().trim_start_matches('/')
    }

    /// The first query variable of that name, decoded (`+` is a space); `None` also when its encoding is broken.
    pub fn query(&self, name: &str) -> Option<String> {
        self.queries().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// All query variables in their order, decoded; those with broken encoding are left out. Where a query block of a
    /// signature validates them, with its defaults and without what it drops.
    pub fn queries(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let valid = self.validation.as_ref().and_then(|validation| validation.variables());
        let text = if valid.is_none() { self.head.query().unwrap_or_default() } else { "" };
        let valid = valid.unwrap_or_default().iter().cloned();
        let sent = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((form_decode(name)?, form_decode(value)?))
        });
        valid.chain(sent)
    }

    /// The request's target as it was sent.
    pub fn target(&self) -> &str {
        &self.head.target
    }

    /// The client's version of HTTP.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The request's header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The first header field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)
    }

    /// The name of the user who sent the request; `None` when nobody logged in, or the route is open to all and there is no
    /// session.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name())
    }

    /// Whether the user has a role or an ability (`web.auth.roles`). Everybody has those of the role `public`.
    pub fn can(&self, ability: &str) -> bool {
        self.shared.authority.can(self.user.as_deref(), ability)
    }

    /// Who asks.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Whether the connection is TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Whose certificate the client showed (`tls.verify.client`); it was verified. The [`user`](Self::user) may be another:
    /// who also logs in is who logged in.
    pub fn certificate(&self) -> Option<&Holder> {
        self.certificate.as_deref()
    }

    /// The request's body as a stream.
    pub fn body(&self) -> Body<'_> {
        Body { transfer: &self.transfer }
    }

    /// The whole body, at most `web.limits.body` bytes. Where a signature validates it, with its defaults and without what it
    /// drops.
    ///
    /// # Errors
    /// 413 when it is longer, before it is read if its length is known; and those of [`Body`].
    pub async fn bytes(&self) -> Result<Vec<u8>, Error> {
        if let Some(bytes) = self.validation.as_ref().and_then(|validation| validation.bytes()) {
            return bytes;
        }
        let limit = self.shared.settings.limits.body;
        let announced = self.transfer.borrow().remaining();
        if announced.is_some_and(|length| length > limit) {
            return Err(crate::http1::Error::BodyTooLarge.into());
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(ONE_WRITE as u64) as usize);
        self.body().take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
        match bytes.len() as u64 > limit {
            true => Err(crate::http1::Error::BodyTooLarge.into()),
            false => Ok(bytes),
        }
    }

    /// The whole body as JSON, whatever type the client says it has.
    ///
    /// # Errors
    /// 400 when it is not JSON; and those of [`Exchange::bytes`].
    pub async fn json(&self) -> Result<Value, Error> {
        if let Some(value) = self.validation.as_ref().and_then(|validation| validation.json()) {
            return Ok(value);
        }
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::status(400, format!("the body is not JSON: {error}")))
    }

    /// The status of the response, 200 to 599; 200 when it is not set. Anything else fails when it is sent.
    pub fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Sets a header field of the response, in place of one of the same name.
    ///
    /// # Errors
    /// The name is not a token, the value holds a control character such as CR or LF, or the field is one of those that only
    /// the server can know: `Connection`, `Content-Length`, `Transfer-Encoding`, `Date`.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_name(name)?;
        Ok(self.headers.set(name, value)?)
    }

    /// Adds a header field to the response, beside those of the same name (`Set-Cookie`).
    ///
    /// # Errors
    /// As [`Exchange::set_header`].
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_name(name)?;
        Ok(self.headers.append(name, value)?)
    }

    /// Answers with a body of known length; a small one goes out in one write with its head.
    ///
    /// # Errors
    /// The client is gone or too slow, or the request was answered already.
    pub async fn send(&self, content_type: &str, body: impl AsRef<[u8]>) -> Result<(), Error> {
        let body = body.as_ref();
        match &self.validation {
            Some(validation) => match validation.outgoing(self, content_type, body)? {
                Some(body) => self.deliver(content_type, &body).await,
                None => self.deliver(content_type, body).await,
            },
            None => self.deliver(content_type, body).await,
        }
    }

    /// Sends a body that is as it must be.
    pub(super) async fn deliver(&self, content_type: &str, body: &[u8]) -> Result<(), Error> {
        self.begin(content_type, Some(body.len() as u64), Stage::Complete)?;
        let mut link = Sender(&self.transfer);
        let body = if self.has_body() { body } else { &[] };
        if body.len() <= ONE_WRITE {
            let is_last = {
                let mut transfer = self.transfer.borrow_mut();
                transfer.link.output.extend_from_slice(body);
                transfer.close
            };
            match is_last {
                // The end of the connection follows and goes into the same packet. If the action goes on for long, the kernel
                // waits no longer than 200 ms.
                true => link.flush_more().await,
                false => link.flush().await,
            }
        } else {
            link.write(body).await
        }
    }

    /// Answers with JSON, in one write with its head. Where the route validates, it must fit the signature's response block,
    /// and goes without what the user may not see; so does JSON that [`Exchange::send`] is given, but not what is streamed.
    ///
    /// # Errors
    /// As [`Exchange::send`]; and when the JSON does not fit: then nothing of it is sent.
    pub async fn send_json(&self, value: &Value) -> Result<(), Error> {
        match &self.validation {
            Some(validation) => {
                let mut value = value.clone();
                validation.fit(self, &mut value)?;
                self.deliver(JSON, &serde_json::to_vec(&value)?).await
            }
            None => self.deliver(JSON, &serde_json::to_vec(value)?).await,
        }
    }

    /// Answers with JSON as [`Exchange::send_json`], but never without a signature that has a response block.
    ///
    /// # Errors
    /// As [`Exchange::send_json`]; and when there is no such block: nothing is sent then.
    pub async fn send_validated(&self, value: &Value) -> Result<(), Error> {
        match self.validation.as_ref().is_some_and(|validation| validation.has_response()) {
            true => self.send_json(value).await,
            false => Err(Error::failed("the answer has no signature: web.signatures, `validate` of the route")),
        }
    }

    /// Answers with a body of unknown length: chunked, or until the connection closes for an HTTP/1.0 client. Nothing is sent
    /// before the first 16 KiB, a flush or the end.
    ///
    /// # Errors
    /// The request was answered already, or the content type cannot be sent.
    pub fn stream(&self, content_type: &str) -> Result<BodyWriter<'_>, Error> {
        let body = match self.head.version {
            Version::Http11 => transfer::Body::Chunked(None),
            Version::Http10 => transfer::Body::UntilClose,
        };
        let body = if self.has_body() { body } else { transfer::Body::Dropped };
        self.begin(content_type, None, Stage::Streaming(body))?;
        Ok(BodyWriter { transfer: &self.transfer })
    }

    /// Answers with a body of known length that is written piece by piece.
    ///
    /// # Errors
    /// As [`Exchange::stream`].
    pub fn stream_length(&self, content_type: &str, length: u64) -> Result<BodyWriter<'_>, Error> {
        let body = if self.has_body() { transfer::Body::Length(length) } else { transfer::Body::Dropped };
        self.begin(content_type, Some(length), Stage::Streaming(body))?;
        Ok(BodyWriter { transfer: &self.transfer })
    }

    /// Forgets what was set for the response: another one is sent instead.
    pub(super) fn reset_response(&mut self, status: u16) {
        self.status = status;
        self.headers = Headers::new();
        if status == 426 {
            // What to upgrade to must be said (RFC 9110 §15.5.22, RFC 6455 §4.2.2). The fields can be sent.
            for (name, value) in [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
            {
                let _ = self.headers.set(name, value);
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.transfer.borrow().stage() == Stage::Open
    }

    /// Writes the head into the link's output.
    pub(super) fn begin(&self, content_type: &str, length: Option<u64>, stage: Stage) -> Result<(), Error> {
        let mut transfer = self.transfer.borrow_mut();
        if transfer.stage() != Stage::Open {
            return Err(Error::Answered);
        }
        if !(200..=599).contains(&self.status) {
            return Err(crate::http1::Error::Unsendable("the status code").into());
        }
        if content_type.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(crate::http1::Error::Unsendable("the content type").into());
        }
        let length = match length {
            _ if matches!(self.status, 204 | 304) => Length::None,
            // RFC 9110 §15.3.6: nothing to show, and that is said.
            _ if self.status == 205 => Length::Known(0),
            Some(length) => Length::Known(length),
            None if self.head.version == Version::Http10 => Length::UntilClose,
            None => Length::Chunked,
        };
        let is_final = stage == Stage::Complete;
        let leaves_too_much = transfer.remaining().is_some_and(|left| left > super::connection::DRAIN as u64);
        // Where others wait for a place, each response is the last of its connection.
        transfer.close |= self.last
            || self.local.crowded.get()
            || length == Length::UntilClose
            || transfer.holds_back()
            || transfer.fault.is_some()
            || (is_final && leaves_too_much);
        let head = Head {
            status: self.status,
            content_type,
            length,
            headers: &self.headers,
            close: transfer.close,
            secure: self.secure,
            version: self.head.version,
        };
        if matches!(stage, Stage::Streaming(_)) {
            // The body may be read after this, and after the head it would be too late to ask for it.
            transfer.ask_for_body();
        }
        let mut output = std::mem::take(&mut transfer.link.output);
        if output.capacity() == 0 {
            output = self.local.take_spare();
        }
        let result = head.write(&self.shared, &self.local, &mut output);
        transfer.link.output = output;
        result?;
        transfer.link.begin_body(self.status);
        transfer.begin(stage);
        Ok(())
    }

    fn has_body(&self) -> bool {
        self.head.method != Method::Head && !matches!(self.status, 204 | 205 | 304)
    }
}

/// Sends on the link without keeping it borrowed while it waits.
pub(super) struct Sender<'a>(pub &'a RefCell<Transfer>);

impl Sender<'_> {
    pub async fn flush(&mut self) -> Result<(), Error> {
        Ok(std::future::poll_fn(|cx| self.0.borrow_mut().link.poll_flush(cx)).await?)
    }

    /// As [`Sender::flush`], where more follows at once.
    pub async fn flush_more(&mut self) -> Result<(), Error> {
        Ok(std::future::poll_fn(|cx| self.0.borrow_mut().link.poll_flush_more(cx)).await?)
    }

    /// Sends what stands in the output, then `data` without a copy.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        self.flush().await?;
        let mut rest = data;
        while !rest.is_empty() {
            let sent = std::future::poll_fn(|cx| self.0.borrow_mut().link.poll_write(cx, rest)).await?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.flush().await
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    match FRAMING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        true => Err(crate::http1::Error::Unsendable("a header field that only the server can set").into()),
        false => Ok(()),
    }
}

/// Decodes a name or value of a form: `%XX`, and `+` for a space.
pub(super) fn form_decode(text: &str) -> Option<String> {
    let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    percent_decode(&text).map(Cow::into_owned)
}
