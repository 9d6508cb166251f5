//! A question to somebody behind the broker, and its answer.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use smol::future::FutureExt;

use super::{Client, Error, Listener, Message, QoS};
use crate::net::Deadline;

/// How long to wait for an answer unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a message answers the question.
type Matches = Box<dyn Fn(&Message) -> bool + Send + Sync>;

/// A question: a message, the topics on which it is answered, and how the answer is known.
///
/// ```no_run
/// # async fn example(client: ioto::mqtt::Client) -> Result<(), ioto::mqtt::Error> {
/// use ioto::mqtt::Request;
/// // The shadow of an AWS IoT thing: the answer comes on .../accepted or .../rejected, with the same clientToken.
/// let get = "$aws/things/lamp/shadow/get";
/// let request = Request::new(get, r#"{"clientToken": "42"}"#)
///     .answered_on(format!("{get}/accepted"))
///     .refused_on(format!("{get}/rejected"))
///     .client_token("42");
/// let shadow = client.request(request).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked before it is given to `Client::request`"]
pub struct Request {
    message: Message,
    answers: Vec<String>,
    refusals: Vec<String>,
    matches: Matches,
    timeout: Duration,
}

impl Request {
    /// A question without a place for its answer: [`answered_on`](Self::answered_on) gives it one.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            message: Message::new(topic, payload, QoS::AtLeastOnce),
            answers: Vec::new(),
            refusals: Vec::new(),
            matches: Box::new(|_| true),
            timeout: TIMEOUT,
        }
    }

    /// The answer comes on this topic.
    pub fn answered_on(mut self, topic: impl Into<String>) -> Self {
        self.answers.push(topic.into());
        self
    }

    /// A refusal comes on this topic.
    pub fn refused_on(mut self, topic: impl Into<String>) -> Self {
        self.refusals.push(topic.into());
        self
    }

    /// Of all messages on these topics, this says which one is the answer. Without it any message is.
    pub fn matching(mut self, matches: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        self.matches = Box::new(matches);
        self
    }

    /// The answer is JSON and repeats this text as its `clientToken`, as those of AWS IoT do.
    pub fn client_token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.matching(move |message| {
            serde_json::from_slice(&message.payload).is_ok_and(|answer: Value| answer["clientToken"] == token.as_str())
        })
    }

    /// How long the whole of it may take; 10 s unless told otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Client {
    /// Asks, and gives the answer. The topics of the answer are subscribed to before the question goes out, and left
    /// afterwards; who asks often saves that with a [`Listener`] of his own for the same topics.
    ///
    /// # Errors
    /// [`Unanswered`](Error::Unanswered) after the timeout, [`Denied`](Error::Denied) with the refusal, and those of
    /// [`subscribe`](Self::subscribe) and [`publish`](Self::publish).
    pub async fn request(&self, request: Request) -> Result<Message, Error> {
        let timeout = request.timeout;
        let too_late = async {
            Deadline::after(timeout).await;
            Err(Error::Unanswered(timeout))
        };
        self.ask(request).or(too_late).await
    }

    async fn ask(&self, request: Request) -> Result<Message, Error> {
        let Request { message, answers, refusals, matches, .. } = request;
        let accepted = self.listen_to(&answers).await?;
        let rejected = self.listen_to(&refusals).await?;
        self.send(message).await?;
        let accepted = async { first(&accepted, &matches).await };
        let rejected = async { Err(Error::Denied(first(&rejected, &matches).await?)) };
        accepted.or(rejected).await
    }

    async fn listen_to(&self, topics: &[String]) -> Result<Vec<Listener>, Error> {
        let mut listeners = Vec::new();
        for topic in topics {
            listeners.push(self.listen(topic, QoS::AtLeastOnce).await?.0);
        }
        Ok(listeners)
    }
}

/// The first message that matches. None of no listeners ever does.
async fn first(listeners: &[Listener], matches: &Matches) -> Result<Message, Error> {
    let mut any = std::future::pending().boxed_local();
    for listener in listeners {
        let next = async move {
            while let Some(message) = listener.next().await {
                if matches(&message) {
                    return Ok(message);
                }
            }
            Err(Error::Closed)
        };
        any = any.or(next).boxed_local();
    }
    any.await
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("message", &self.message)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
