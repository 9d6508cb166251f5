//! What a run is like: drawn from its seed.

use std::time::Duration;

use fastrand::Rng;

use crate::mqtt::simulation::nature::MAX_PACKET;
use crate::mqtt::{Options, Policy, Priority, QueueLimits};

/// The shortest wait between two attempts to connect.
pub const BACKOFF: Duration = Duration::from_millis(2);

/// How long the client waits for a CONNACK.
pub const TIMEOUT: Duration = Duration::from_millis(300);

/// After so much silence it pings, and after one and a half times that it gives the connection up.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub window: u16,
    pub queue: QueueLimits,
    /// Messages to be published by each life of the agent.
    pub share: usize,
    /// Messages that the broker has for the agent.
    pub incoming: u32,
    /// How often the agent is killed; only one with an outbox.
    pub kills: usize,
    pub has_disk: bool,
    /// The disk refuses transactions now and then.
    pub is_full: bool,
    /// Connections end after so many bytes at most, in either direction.
    pub bytes: Option<usize>,
    /// They end in peace, as brokers do it that do not like a message.
    pub hangs_up: bool,
    /// The broker forgets the session.
    pub forgets: bool,
    /// CONNACKs are lost.
    pub loses_connacks: bool,
    /// Even one that says that the session is forgotten: then the client cannot know.
    pub is_unseen: bool,
    /// The broker says nothing more.
    pub is_silent: bool,
    /// It sends what is no packet, or too large.
    pub sends_garbage: bool,
    /// The time that its answers take.
    pub delay: Duration,
    /// The time that handlers take, in µs.
    pub handling: u64,
}

impl Nature {
    pub fn draw(random: &mut Rng) -> Self {
        let mut one_in = |count: u8| random.u8(..count) == 0;
        let (has_disk, is_full, hangs_up) = (!one_in(4), one_in(16), one_in(8));
        let (forgets, loses_connacks, is_unseen) = (one_in(2), one_in(3), one_in(4));
        let (is_silent, sends_garbage, is_cut) = (one_in(12), one_in(2), !one_in(4));
        let few = if one_in(3) { 60 } else { 12 };
        let policy = match random.u8(..8) {
            0 => Policy::DropOldest,
            1 => Policy::DropNewest,
            2 => Policy::Coalesce,
            _ => Policy::Block,
        };
        Self {
            window: random.u16(1..few),
            queue: QueueLimits { count: random.usize(1..few.into()), bytes: 1 << 20, age: None, policy },
            share: random.usize(5..25),
            incoming: random.u32(..40),
            kills: if has_disk { random.usize(..4) } else { 0 },
            has_disk,
            is_full: is_full && has_disk,
            bytes: is_cut.then(|| random.usize(100..3000)),
            hangs_up,
            forgets,
            loses_connacks,
            is_unseen: is_unseen && forgets,
            is_silent,
            sends_garbage,
            delay: Duration::from_micros(random.u64(..6000)),
            handling: random.u64(1..2000),
        }
    }

    pub fn options(&self, port: u16) -> Options {
        let silence = if self.is_silent { KEEP_ALIVE } else { 60 * KEEP_ALIVE };
        let options = Options::new("127.0.0.1", port, "trial").backoff(BACKOFF, 4 * BACKOFF).timeout(TIMEOUT);
        let options = options.keep_alive(silence).inflight(self.window).max_packet(MAX_PACKET);
        Priority::ALL.into_iter().fold(options, |options, priority| options.queue_limits(priority, self.queue))
    }

    /// Whether the client may give messages up.
    pub fn gives_up(&self) -> bool {
        self.hangs_up || self.is_full || self.queue.policy != Policy::Block
    }
}
