//! One request to one server.

use super::body::Kind;
use super::connection::Connection;
use super::course::Course;
use super::exchange::exchange;
use super::pool::Origin;
use super::request::Plan;
use super::sender::Sender;
use super::{Body, Client, Error, Response, Url};
use crate::http1::{self, Headers, Method, RequestHead, ResponseHead, encode_request};
use crate::net::{self, Fault, Proxy};

const USER_AGENT: &str = concat!("ioto/", env!("CARGO_PKG_VERSION"));

/// One request to one server.
pub(super) struct Call<'a> {
    pub client: &'a Client,
    pub plan: &'a Plan,
    pub method: &'a Method,
    pub url: &'a Url,
    pub headers: &'a Headers,
    /// The field `Authorization`, when it was computed for this request.
    pub authorization: Option<String>,
}

impl Call<'_> {
    /// On a kept connection if there is one. It may have died a moment ago: then a fresh one is used, once, if the server
    /// cannot have acted on the request, or if acting twice is as good as once.
    pub async fn send(&self, body: Body, course: &mut Course) -> Result<Response, Error> {
        let forwarder = self.client.forwarder(self.url, self.plan);
        let origin = Origin::of(self.url, self.plan, self.client.proxy_for(self.url, self.plan), forwarder.is_some());
        let mut again = body.again();
        let mut body = body.open().await?;
        let head = self.encode_head(&body, forwarder)?;
        course.meter.begin(length_of(&body));
        if let Some(connection) = self.client.kept(&origin) {
            let mut sender = Sender::new(head.clone(), body);
            match self.exchange(connection, &mut sender, course).await {
                Ok((head, connection)) => return self.response(head, connection, sender, origin, course),
                Err((error, answered)) => {
                    let harmless = self.plan.repeatable || sender.total() == 0;
                    let dead =
                        matches!(error, Error::Broken { .. } | Error::Response { source: http1::Error::Truncated, .. });
                    body = match again.take() {
                        Some(again) if dead && harmless && !answered => again.open().await?,
                        _ => return Err(error),
                    };
                    course.meter.begin(length_of(&body));
                    log::debug!("a kept connection to {} was dead", self.url.host());
                }
            }
        }
        let connection = course.bound(self.url.host(), self.client.connect(self.url, self.plan)).await?;
        let mut sender = Sender::new(head, body);
        match self.exchange(connection, &mut sender, course).await {
            Ok((head, connection)) => self.response(head, connection, sender, origin, course),
            Err((error, _)) => Err(error),
        }
    }

    /// An error comes with whether the server had begun to answer.
    async fn exchange(
        &self,
        mut connection: Connection,
        sender: &mut Sender,
        course: &mut Course,
    ) -> Result<(ResponseHead, Connection), (Error, bool)> {
        let options = self.client.options();
        match exchange(&mut connection, sender, self.url.host(), options, course).await {
            Ok(head) => Ok((head, connection)),
            Err(error) => Err((error, !connection.buffered().is_empty())),
        }
    }

    fn response(
        &self,
        head: ResponseHead,
        connection: Connection,
        sender: Sender,
        origin: Origin,
        course: &mut Course,
    ) -> Result<Response, Error> {
        // Only a proxy says so, whatever the server behind it is.
        if let (407, Some(proxy)) = (head.status, self.client.proxy_for(self.url, self.plan)) {
            return Err(Error::Connect(net::Error::Proxy { proxy: proxy.to_string(), fault: Fault::Login }));
        }
        let course = std::mem::take(course);
        Response::new(self, head, connection, sender, origin, course)
    }

    fn encode_head(&self, body: &Body, forwarder: Option<&Proxy>) -> Result<Vec<u8>, Error> {
        let mut head = match forwarder {
            None => RequestHead::new(self.method.clone(), self.url.target()),
            // A proxy must be told the host in the request line (RFC 9112 §3.2.2).
            Some(_) => RequestHead::new(self.method.clone(), self.url.to_string()),
        };
        let mut put = |name: &str, value: &str| head.headers.append(name, value).map_err(Error::Unsendable);
        let mut put_default = |name: &str, value: &str| match self.headers.get(name) {
            None => put(name, value),
            Some(_) => Ok(()),
        };
        put_default("Host", &self.url.authority())?;
        put_default("User-Agent", USER_AGENT)?;
        put_default("Accept", "*/*")?;
        if self.plan.compressed && self.headers.get("range").is_none() {
            put_default("Accept-Encoding", "gzip")?;
        }
        if let Some(content_type) = &body.content_type {
            put_default("Content-Type", content_type)?;
        }
        if let Some(cookies) = self.client.options().cookies.as_ref().and_then(|jar| jar.field(self.url)) {
            put_default("Cookie", &cookies)?;
        }
        if let Some(authorization) = &self.authorization {
            put_default("Authorization", authorization)?;
        }
        if let Some(authorization) = forwarder.and_then(Proxy::authorization) {
            put("Proxy-Authorization", &authorization)?;
        }
        for (name, value) in self.headers.iter() {
            put(name, value)?;
        }
        if let Some(protocol) = self.plan.upgrade {
            put("Connection", "Upgrade")?;
            put("Upgrade", protocol)?;
        }
        match &body.kind {
            // A server must not wonder whether a body was lost (RFC 9110 §8.6).
            Kind::Empty if matches!(self.method, Method::Post | Method::Put | Method::Patch) => {
                put("Content-Length", "0")?;
            }
            Kind::Empty | Kind::Parts(_) => {}
            Kind::Bytes(bytes) => put("Content-Length", &bytes.len().to_string())?,
            Kind::Reader(Some(length), _) => put("Content-Length", &length.to_string())?,
            Kind::Reader(None, _) => put("Transfer-Encoding", "chunked")?,
        }
        let mut bytes = Vec::with_capacity(512);
        encode_request(&head, &mut bytes).map_err(Error::Unsendable)?;
        Ok(bytes)
    }
}

fn length_of(body: &Body) -> Option<u64> {
    match &body.kind {
        Kind::Empty | Kind::Parts(_) => Some(0),
        Kind::Bytes(bytes) => Some(bytes.len() as u64),
        Kind::Reader(length, _) => *length,
    }
}
