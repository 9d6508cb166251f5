//! `mqtt.queue`: the bounds of the messages that wait to be sent.

use std::time::Duration;

use super::section::Section;
use super::units::FOREVER;

/// `policy`: what happens when there is no room for a new message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePolicy {
    /// `'block'`: who publishes waits.
    #[default]
    Block,
    /// `'dropOldest'`: the oldest messages make room.
    DropOldest,
    /// `'dropNewest'`: the new message is refused.
    DropNewest,
    /// `'coalesce'`: a message takes the place of the one of the same topic that waits, whether or not there is room;
    /// beyond that the oldest ones make room.
    Coalesce,
}

/// Bounds of the messages of one priority that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// `count`: messages; at least 1.
    pub count: usize,
    /// `size`: bytes of them and of those that wait for their acknowledgement. A single message always may wait.
    pub bytes: usize,
    /// `age`: how long a message may wait, counted anew after a restart; nothing: for ever.
    pub age: Option<Duration>,
    /// `policy`: what happens when count or bytes are reached.
    pub policy: QueuePolicy,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { count: 1000, bytes: 8 * 1024 * 1024, age: None, policy: QueuePolicy::Block }
    }
}

const POLICIES: [(&str, QueuePolicy); 4] = [
    ("block", QueuePolicy::Block),
    ("dropOldest", QueuePolicy::DropOldest),
    ("dropNewest", QueuePolicy::DropNewest),
    ("coalesce", QueuePolicy::Coalesce),
];

impl QueueLimits {
    /// The queues of the priorities high, normal and low. What `queue` says holds for all of them, and `queue.high`,
    /// `queue.normal` and `queue.low` have the last word about theirs.
    pub(super) fn read_all(s: &Section) -> [Self; 3] {
        let all = Self::read(s, Self::default());
        ["high", "normal", "low"].map(|priority| Self::read(&s.section(priority), all))
    }

    fn read(s: &Section, d: Self) -> Self {
        let age = s.duration("age", Duration::from_secs(1)..=FOREVER, d.age.unwrap_or(FOREVER));
        Self {
            count: s.count("count", 1..=100_000, d.count),
            bytes: s.size("size", 1024..=1 << 30, d.bytes),
            age: Some(age).filter(|age| *age < FOREVER),
            policy: s.choice("policy", &POLICIES, d.policy),
        }
    }
}
