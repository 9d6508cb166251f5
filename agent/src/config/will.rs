//! `mqtt.will`: what the broker tells others when we go without a goodbye.

use super::section::Section;

/// The last will, `{topic, payload, qos, retain}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    /// `topic`; empty: there is no last will.
    pub topic: String,
    /// `payload`
    pub payload: String,
    /// `qos`: 0 to 2.
    pub qos: u8,
    /// `retain`: whether the broker keeps it for later subscribers.
    pub retain: bool,
}

impl Will {
    pub(super) fn read(s: &Section) -> Self {
        let d = Self::default();
        let will = Self {
            topic: s.text("topic", &d.topic),
            payload: s.text("payload", &d.payload),
            qos: s.count("qos", 0..=2, d.qos),
            retain: s.flag("retain", d.retain),
        };
        // A topic to publish to names one thing [MQTT 3.1.1 §4.7.1].
        if will.topic.contains(['#', '+', '\0']) || will.topic.len() > 65_535 {
            s.problem("topic", "expected a topic without `#` and `+`, as 'devices/d1/gone'");
        }
        if will.topic.is_empty() && !will.payload.is_empty() {
            s.problem("payload", "needs `topic` beside it");
        }
        will
    }
}
