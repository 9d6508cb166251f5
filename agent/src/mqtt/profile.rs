//! Rules of a broker that go beyond those of MQTT: what it would answer with silence or a closed connection is refused here,
//! in words.

use std::time::Duration;

use super::{Error, Message, QoS};

/// The rules of a broker.
#[derive(Debug)]
pub struct Profile {
    /// The name, for messages.
    pub name: &'static str,
    /// Bytes of a payload.
    pub max_payload: usize,
    /// Bytes of a topic.
    pub max_topic: usize,
    /// Slashes in a topic.
    pub max_slashes: usize,
    /// What a topic may begin with beside: such a beginning and the level after it do not count, as `$aws/rules/RULE/`.
    pub uncounted: Option<&'static str>,
    /// Bytes of the client id.
    pub max_client_id: usize,
    /// The highest quality of service that can be published.
    pub max_qos: u8,
    /// Whether a message on a topic that begins with `$` may be retained.
    pub retains_dollar: bool,
    /// Publishes without acknowledgement.
    pub window: u16,
    /// Publishes a second, and how many more after a rest; nothing: as many as the connection takes.
    pub rate: Option<(u32, u32)>,
    /// Subscriptions of a connection.
    pub subscriptions: usize,
    /// Filters of one SUBSCRIBE. (Eight for all: it costs nothing.)
    pub filters_per_subscribe: usize,
    /// Between two connections of one client id, after somebody else took it.
    pub takeover: Duration,
}

/// A broker that keeps to MQTT 3.1.1; the bounds are our own.
pub static GENERIC: Profile = Profile {
    name: "MQTT",
    // [MQTT 3.1.1 §2.2.3, §1.5.3]; mqtt.maxPacket bounds it earlier.
    max_payload: 268_435_455,
    max_topic: 65_535,
    max_slashes: 65_535,
    uncounted: None,
    max_client_id: 65_535,
    max_qos: 2,
    retains_dollar: true,
    window: u16::MAX,
    rate: None,
    subscriptions: 256,
    filters_per_subscribe: 8,
    takeover: Duration::from_secs(10),
};

/// AWS IoT Core. Sources: AWS General Reference, "AWS IoT Core endpoints and quotas" (Q), and AWS IoT Core Developer Guide,
/// "MQTT" (G).
pub static AWS: Profile = Profile {
    name: "AWS IoT Core",
    // Q "Maximum inbound/outbound message size": 128 KB; a larger PUBLISH closes the connection.
    max_payload: 128 * 1024,
    // Q "Topic size": 256 bytes of UTF-8.
    max_topic: 256,
    // Q "Maximum number of slashes in topic and topic filter": 7, beside those of Basic Ingest.
    max_slashes: 7,
    uncounted: Some("$aws/rules/"),
    // Q "Client ID size": 128 bytes.
    max_client_id: 128,
    // G "MQTT QoS options": level 2 is not supported; a PUBLISH with it gets no answer.
    max_qos: 1,
    // G "MQTT retained messages": not on reserved topics.
    retains_dollar: false,
    // Q "Maximum inbound unacknowledged QoS 1 publish requests": 100.
    window: 100,
    // Q "Publish requests per second per connection": 100 in and out together, what exceeds them is discarded. A fifth is
    // left for what comes in.
    rate: Some((80, 10)),
    // Q "Subscriptions per connection": 50.
    subscriptions: 50,
    // Q "Maximum subscriptions per subscribe request": 8.
    filters_per_subscribe: 8,
    // Q "Connect requests per second per client ID": 1, observed 0.1 (aws-greengrass-nucleus, pull request 1003).
    takeover: Duration::from_secs(10),
};

impl Profile {
    /// Whether the broker would take the message.
    ///
    /// # Errors
    /// [`Error::Profile`] with the rule.
    pub fn check(&self, message: &Message) -> Result<(), Error> {
        let Message { topic, payload, qos, retain } = message;
        let counted = match self.uncounted.and_then(|start| topic.strip_prefix(start)) {
            Some(rest) => rest.split_once('/').map_or("", |(_, rest)| rest),
            None => topic,
        };
        let rule = if payload.len() > self.max_payload {
            format!("takes payloads of at most {} bytes, this one has {}", self.max_payload, payload.len())
        } else if counted.len() > self.max_topic {
            format!("takes topics of at most {} bytes, this one has {}", self.max_topic, topic.len())
        } else if counted.len() > self.max_slashes && slashes(counted) > self.max_slashes {
            format!("takes topics with at most {} slashes", self.max_slashes)
        } else if level(*qos) > self.max_qos {
            "does not know QoS 2; use QoS 1 and make the receiver ignore what comes twice".into()
        } else if *retain && topic.starts_with('$') && !self.retains_dollar {
            "retains no messages on topics that begin with '$'".into()
        } else {
            return Ok(());
        };
        Err(Error::Profile { name: self.name, rule })
    }
}

fn slashes(topic: &str) -> usize {
    topic.bytes().filter(|byte| *byte == b'/').count()
}

fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(topic: &str, bytes: usize) -> Message {
        Message::new(topic, vec![0; bytes], QoS::AtLeastOnce)
    }

    #[test]
    fn what_aws_would_answer_with_a_closed_connection_is_refused_in_words() {
        let mut retained = message("$aws/things/x/shadow/update", 1);
        retained.retain = true;
        for (message, word) in [
            (message("a", 128 * 1024 + 1), "131072 bytes"),
            (message(&"a".repeat(257), 1), "256 bytes"),
            (message("1/2/3/4/5/6/7/8/9", 1), "7 slashes"),
            (message("$aws/rules/rule/1/2/3/4/5/6/7/8/9", 1), "7 slashes"),
            (retained, "retains"),
        ] {
            let text = AWS.check(&message).unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("AWS IoT Core"), "{text}");
            GENERIC.check(&message).unwrap();
        }
        for good in
            [message("1/2/3/4/5/6/7/8", 128 * 1024), message("$aws/rules/a_long_name_of_a_rule/1/2/3/4/5/6/7/8", 1)]
        {
            AWS.check(&good).unwrap();
        }
    }
}
