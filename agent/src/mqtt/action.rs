//! What the session says to whoever runs it.

use std::fmt;

use super::packet::Packet;
use super::{Message, QoS};

/// Names a published message until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(super) u64);

/// Names a request to subscribe or unsubscribe until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// Names a received message until its handlers have finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub(super) u64);

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this packet.
    Send(Packet),
    /// The message in the packet just before: one of QoS 0, which counts as sent once that is written, or one of which the
    /// sending is to be reported.
    Written(MessageId),
    /// The broker has this message. Said once for each message.
    Acknowledged(MessageId),
    /// The message is safe on the disk: it will be sent whatever happens, unless its queue gives it up. Said
    /// once for each durable message.
    Stored(MessageId),
    /// The message was given up. Said once, instead of [`Acknowledged`](Self::Acknowledged).
    Failed(MessageId, Undelivered),
    /// The broker answered a SUBSCRIBE; without a request it was one that restores a subscription.
    Subscribed {
        /// The request, said once for each.
        request: Option<RequestId>,
        /// Its filter.
        filter: String,
        /// The quality of service granted; nothing when the broker refused.
        granted: Option<QoS>,
    },
    /// The broker has ended a subscription.
    Unsubscribed(RequestId),
    /// Give the message to its handlers, and call [`Session::finished`](super::session::Session::finished) when all of
    /// them are done with it.
    Deliver(Receipt, Message),
    /// Close the connection, and call [`Session::connected`](super::session::Session::connected) on the next one.
    Close(Reason),
}

/// Why the session gives a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard for one and a half keep-alive intervals.
    Dead,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("nothing was heard from the broker for one and a half keep-alive intervals"),
        }
    }
}

/// What the broker did that its state does not allow. The connection is to be closed; the session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A packet that only clients send, or a second CONNACK.
    Unexpected(&'static str),
    /// An acknowledgement of another quality of service than the message had that it is for.
    WrongAck(&'static str),
    /// A SUBACK with another number of codes than the SUBSCRIBE had filters.
    SubAck {
        /// Filters asked for.
        filters: usize,
        /// Codes answered.
        codes: usize,
    },
    /// An UNSUBACK that answers a SUBSCRIBE.
    UnsubAck,
    /// More messages without acknowledgement than we hold while our handlers are busy. The broker sends them again.
    Overrun,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected(packet) => write!(f, "the broker sent {packet}, which it must not send now"),
            Self::WrongAck(packet) => {
                write!(f, "the broker sent a {packet} for a message of another quality of service")
            }
            Self::SubAck { filters, codes } => {
                write!(f, "the broker answered a SUBSCRIBE of {filters} filters with {codes} codes")
            }
            Self::UnsubAck => f.write_str("the broker answered a SUBSCRIBE with an UNSUBACK"),
            Self::Overrun => f.write_str(
                "the message handlers did not finish in time while the broker kept sending; it will send them again",
            ),
        }
    }
}

impl std::error::Error for Violation {}

/// Why a message was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undelivered {
    /// The broker closed the connection each time when it got this message.
    HungUp,
    /// It was the oldest one in a full queue ([`Policy::DropOldest`](super::Policy::DropOldest)).
    Dropped,
    /// A newer one of the same topic took its place ([`Policy::Coalesce`](super::Policy::Coalesce)).
    Coalesced,
    /// It waited longer than its queue allows.
    Expired,
    /// It could not be written to the disk; the text says why.
    NotStored(String),
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HungUp => f.write_str(
                "the broker closed the connection each time when it got this message, so it was given up: check that the \
                 broker's policy allows this client to publish to the topic",
            ),
            Self::Dropped => f.write_str("the queue was full, and this message was the oldest in it"),
            Self::Coalesced => f.write_str("a newer message of the same topic took the place of this one in the queue"),
            Self::Expired => f.write_str("the message waited longer than the queue allows"),
            Self::NotStored(reason) => write!(f, "the message could not be kept, and was not sent: {reason}"),
        }
    }
}
