//! A message: topic, payload and how surely it is to arrive.

use bytes::Bytes;

use super::Error;
use super::topic;

/// How surely a message arrives.
///
/// Exactly once (QoS 2) is not spoken yet; AWS IoT does not know it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum QoS {
    /// QoS 0: sent once, and lost with the connection.
    AtMostOnce,
    /// QoS 1: sent until it is acknowledged; it may arrive more than once.
    AtLeastOnce,
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
