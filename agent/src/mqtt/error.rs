//! What can go wrong with MQTT, in plain words.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Message;
use super::outbox_file::OutboxError;
use super::packet::Malformed;
use super::session::{Reason, Undelivered, Violation};
use crate::net;

/// Why a request failed or a connection ended.
///
/// A failed connection is tried again for ever; what was published waits. Callers of a [`Client`](super::Client) get only
/// the errors of their own request; those of the connection are logged and in [`State`](super::State).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Not a topic that can be published to.
    Topic(String),
    /// Not a filter that can be subscribed to.
    Filter(String),
    /// The message or filter needs a larger packet than `mqtt.maxPacket` allows; in bytes.
    TooLarge {
        /// What the packet would take.
        size: usize,
        /// `mqtt.maxPacket`
        limit: usize,
    },
    /// `mqtt.queue` messages wait already, or too many bytes.
    QueueFull,
    /// More subscriptions than one connection may have.
    TooManySubscriptions(usize),
    /// The broker does not allow this subscription (return code 0x80).
    Refused(String),
    /// The connection broke before this message of QoS 0 was sent completely.
    Lost,
    /// The message was given up.
    Undelivered(Undelivered),
    /// The queue is full, and its policy is to take nothing new ([`Policy::DropNewest`](super::Policy::DropNewest)).
    Dropped,
    /// No answer to a request came in time.
    Unanswered(Duration),
    /// The answer to a request was a refusal: this message.
    Denied(Message),
    /// The outbox on disk cannot be used.
    Outbox(OutboxError),
    /// The connection was closed for good; nothing is sent any more.
    Closed,
    /// The options cannot be used: what is wrong and how it should be.
    Options(String),

    /// The broker has a rule against this, beyond those of MQTT.
    Profile {
        /// Whose rule.
        name: &'static str,
        /// What it says.
        rule: String,
    },

    /// The server did not make the connection a WebSocket; the text says why.
    Upgrade(String),
    /// The address of the WebSocket could not be signed; the text says why.
    Sign(String),
    /// The network or TLS failed.
    Net(net::Error),
    /// Reading or writing failed.
    Io(io::Error),
    /// The broker closed the connection.
    Hangup,
    /// The connection was reset: by the broker, or by anything on the way.
    Reset,
    /// The broker closed the connection instead of answering CONNECT.
    HangupAtConnect,
    /// The broker did not accept us; its CONNACK return code.
    Rejected(u8),
    /// The broker did not answer CONNECT in time (`mqtt.timeout`).
    NoAnswer(Duration),
    /// The first packet of the broker was no CONNACK.
    NoConnAck,
    /// The broker sent bytes that are not MQTT.
    Malformed(Malformed),
    /// The broker sent a packet that its state does not allow.
    Violation(Violation),
    /// The session gave the connection up.
    GivenUp(Reason),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => {
                write!(f, "'{}' is no topic: 1 to 65535 bytes without '+', '#' and NUL are allowed", Shortened(topic))
            }
            Self::Filter(filter) => write!(
                f,
                "'{}' is no topic filter: '+' and '#' must fill a whole level, and '#' must be the last",
                Shortened(filter)
            ),
            Self::TooLarge { size, limit } => {
                write!(f, "the packet would have {size} bytes, but {limit} are allowed (mqtt.maxPacket)")
            }
            Self::QueueFull => f.write_str("too many messages wait to be sent (mqtt.queue)"),
            Self::TooManySubscriptions(limit) => {
                write!(f, "there are {limit} subscriptions already; use wider filters")
            }
            Self::Refused(filter) => write!(
                f,
                "the broker refused the subscription to '{}': check the rights of this client at the broker",
                Shortened(filter)
            ),
            Self::Lost => f.write_str("the connection broke before the message was sent; QoS 0 is not repeated"),
            Self::Undelivered(reason) => reason.fmt(f),
            Self::Unanswered(timeout) => write!(f, "no answer came within {timeout:?}"),
            Self::Denied(message) => {
                let text = String::from_utf8_lossy(&message.payload);
                write!(f, "the request was refused on '{}': {}", Shortened(&message.topic), Shortened(&text))
            }
            Self::Outbox(error) => error.fmt(f),
            Self::Dropped => f.write_str("the queue is full, and the message was dropped"),
            Self::Closed => f.write_str("the MQTT connection is closed"),
            Self::Options(reason) => f.write_str(reason),
            Self::Profile { name, rule } => write!(f, "{name} {rule}"),
            Self::Upgrade(reason) => write!(f, "the server did not open a WebSocket for MQTT: {reason}"),
            Self::Sign(reason) => write!(f, "cannot sign the address of the broker: {reason}"),
            Self::Net(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the connection to the broker failed: {error}"),
            Self::Hangup => f.write_str("the broker closed the connection"),
            Self::Reset => f.write_str("the connection to the broker was reset"),
            Self::HangupAtConnect => f.write_str(
                "the broker closed the connection instead of answering: check its log, and whether it expects TLS, a \
                 client certificate or an ALPN protocol on this port",
            ),
            Self::Rejected(code) => write!(f, "the broker rejected us: {} (code {code})", rejection(*code)),
            Self::NoAnswer(timeout) => {
                write!(f, "the broker did not answer within {timeout:?} (mqtt.timeout): is it an MQTT port?")
            }
            Self::NoConnAck => f.write_str("the broker's first packet was no answer to CONNECT: is it an MQTT broker?"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
            Self::GivenUp(reason) => reason.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Net(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Malformed(error) => Some(error),
            Self::Violation(error) => Some(error),
            _ => None,
        }
    }
}

impl From<OutboxError> for Error {
    fn from(error: OutboxError) -> Self {
        Self::Outbox(error)
    }
}

impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Self::Net(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            UnexpectedEof => Self::Hangup,
            BrokenPipe | ConnectionAborted | ConnectionReset => Self::Reset,
            _ => Self::Io(error),
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::ReturnCode(code) => Self::Rejected(code),
            other => Self::Malformed(other),
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// What a CONNACK return code means for the one who has to fix it: MQTT 3.1.1 table 3.1, and 7, with which AWS IoT says 5.
fn rejection(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not take this client id (mqtt.clientId)",
        3 => "it is not available now",
        4 => "user name or password is malformed or wrong (mqtt.username, mqtt.password)",
        5 | 7 => {
            "not authorised; check user name and password or the client certificate, and that the broker's policy allows \
             this client id to connect"
        }
        _ => "for a reason that MQTT 3.1.1 does not name",
    }
}

/// A topic as it appears in a message: one of 65,535 bytes would drown the rest.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}…", self.0[..end].escape_debug()),
            None => write!(f, "{}", self.0.escape_debug()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_5_and_7_both_mean_not_authorised() {
        for code in [5, 7] {
            let text = Error::Rejected(code).to_string();
            assert!(text.contains("not authorised") && text.contains(&format!("code {code}")), "{text}");
        }
        assert!(Error::Rejected(4).to_string().contains("password"));
    }

    #[test]
    fn a_huge_topic_is_shortened_in_the_message() {
        assert!(Error::Topic("ä#".repeat(30_000)).to_string().len() < 300);
        assert!(Error::Topic("a\0b".into()).to_string().contains(r"a\0b"));
    }
}
