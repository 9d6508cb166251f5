//! What a run is like, and what is known of its messages.

use std::time::Duration;

use fastrand::Rng;

use crate::mqtt::session::{Limits, MessageId, Undelivered};
use crate::mqtt::{Policy, QoS, QueueLimits};

/// Bytes of one packet.
pub const MAX_PACKET: usize = 1000;

/// What this world is like.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub limits: Limits,
    /// The session has a disk, and the agent may be killed.
    pub has_disk: bool,
    /// Connections break after about so many bytes.
    pub bytes: Option<usize>,
    /// Connections break because the broker closes them.
    pub hangs_up: bool,
}

impl Nature {
    pub fn draw(random: &mut Rng) -> Self {
        let policy = match random.u8(..8) {
            0 => Policy::DropOldest,
            1 => Policy::DropNewest,
            2 => Policy::Coalesce,
            _ => Policy::Block,
        };
        let age = (random.u8(..8) == 0).then(|| Duration::from_secs(random.u64(1..60)));
        let queue = QueueLimits { count: random.usize(1..50), bytes: 8 << 20, age, policy };
        let (window, keep_alive) = (random.u16(1..20), Duration::from_secs(30));
        Self {
            limits: Limits { window, queue: [queue; 3], max_packet: MAX_PACKET, keep_alive },
            has_disk: random.u8(..3) > 0,
            bytes: (random.u8(..4) == 0).then(|| random.usize(800..3000)),
            hangs_up: random.u8(..8) == 0,
        }
    }
}

/// What the application knows of a message that it published.
#[derive(Debug)]
pub struct Published {
    pub id: MessageId,
    pub lane: String,
    pub qos: QoS,
    pub is_durable: bool,
    pub is_stored: bool,
    pub is_acknowledged: bool,
    /// It was given up, and the application was told so.
    pub failed: Option<Undelivered>,
    /// The agent was killed before it was told that the message is stored or acknowledged.
    pub is_uncertain: bool,
    /// The broker forgot the session while the message was on its way: it may arrive twice.
    pub may_repeat: bool,
}

impl Published {
    /// Whether the session said its last word about it.
    pub fn is_gone(&self) -> bool {
        self.failed.is_some()
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub kills: usize,
    pub connects: usize,
    pub cuts: usize,
    pub losses: usize,
    pub malformed: usize,
}

/// The content of a message follows from its number.
pub fn payload(index: u32) -> Vec<u8> {
    let mut payload = index.to_be_bytes().to_vec();
    payload.resize(4 + (index as usize * 7) % 200, index as u8);
    payload
}
