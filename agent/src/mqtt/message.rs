//! A message: topic, payload and how surely it is to arrive.

use std::str::FromStr;

use bytes::Bytes;

use super::Error;
use super::packet::WireQoS;
use super::topic;

/// How surely a message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum QoS {
    /// QoS 0: sent once, and lost with the connection.
    AtMostOnce,
    /// QoS 1: sent until it is acknowledged; it may arrive more than once.
    AtLeastOnce,
    /// QoS 2: sent until it has arrived, and taken once. AWS IoT does not know it.
    ExactlyOnce,
}

impl QoS {
    /// The one with this number, 0 to 2.
    pub fn of(number: u64) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce]
            .into_iter()
            .find(|qos| u64::from(qos.number()) == number)
    }

    /// Its number in packets.
    pub fn number(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// Which message goes first. Messages of one priority keep their order; one of a higher priority overtakes those that
/// wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Goes when nothing else waits.
    Low,
    /// What messages have unless they say otherwise.
    #[default]
    Normal,
    /// Goes first.
    High,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its name, `high`, `normal` or `low`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|priority| priority.name() == name);
        known.ok_or_else(|| format!("expected high, normal or low, found `{name}`"))
    }
}

/// A message for the session, and how to treat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// Which one goes first.
    pub priority: Priority,
    /// Whether it is to survive the end of the program. One of QoS 0 never does; one of QoS 2 always does where there is
    /// an outbox on disk, or a repeat after a restart could not be told from a new message.
    pub is_durable: bool,
    /// Whether [`Action::Written`](super::session::Action::Written) follows its PUBLISH, as it does with QoS 0.
    pub reports_sent: bool,
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self { message, priority: Priority::default(), is_durable: false, reports_sent: false }
    }
}

/// A message, on its way out or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes or came from: 1 to 65,535 bytes, no wildcards.
    pub topic: String,
    /// The content, any bytes. Cloning it copies nothing.
    pub payload: Bytes,
    /// Out: how surely it is to arrive. In: what the broker used.
    pub qos: QoS,
    /// Out: the broker is to keep it for later subscribers. In: it is such a kept message.
    pub retain: bool,
}

impl Message {
    /// A message that the broker does not retain. A bad topic is found when it is published.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>, qos: QoS) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, retain: false }
    }

    /// Whether it goes out again until it is acknowledged.
    pub(super) fn is_assured(&self) -> bool {
        self.qos != QoS::AtMostOnce
    }

    /// Bytes of the PUBLISH packet that carries it, at most.
    pub(super) fn size(&self) -> usize {
        /// Type and flags, four bytes of length, two of the topic's length, two of the packet id.
        const HEADER: usize = 9;
        HEADER + self.topic.len() + self.payload.len()
    }

    /// Whether a packet of at most `max_packet` bytes can carry it.
    pub(super) fn check(&self, max_packet: usize) -> Result<(), Error> {
        if !topic::is_topic(&self.topic) {
            return Err(Error::Topic(self.topic.clone()));
        }
        if self.size() > max_packet {
            return Err(Error::TooLarge { size: self.size(), limit: max_packet });
        }
        Ok(())
    }
}

impl From<QoS> for WireQoS {
    fn from(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::AtMostOnce,
            QoS::AtLeastOnce => Self::AtLeastOnce,
            QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

impl From<WireQoS> for QoS {
    fn from(qos: WireQoS) -> Self {
        match qos {
            WireQoS::AtMostOnce => Self::AtMostOnce,
            WireQoS::AtLeastOnce => Self::AtLeastOnce,
            WireQoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}
