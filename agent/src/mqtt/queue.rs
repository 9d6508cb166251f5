//! Messages that wait to be sent: a lane for each priority, each with bounds, and with a policy for when they are reached.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::broken::{self, Defect};
use super::session::{MessageId, Undelivered};
use super::{Error, Message, Outgoing, Priority};

/// What happens when there is no room for a new message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Who publishes waits.
    #[default]
    Block,
    /// The oldest messages make room.
    DropOldest,
    /// The new message is refused.
    DropNewest,
    /// A message takes the place of the one of the same topic that waits, whether or not there is room; beyond that the
    /// oldest ones make room.
    Coalesce,
}

/// Bounds of the messages of one priority that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages; at least 1.
    pub count: usize,
    /// Bytes of them and of those that wait for their acknowledgement. A single message always may wait.
    pub bytes: usize,
    /// How long a message may wait; counted anew after a restart.
    pub age: Option<Duration>,
    /// What happens when count or bytes are reached.
    pub policy: Policy,
}

/// How many messages were given up, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The oldest ones of a full queue.
    pub oldest: u64,
    /// New ones that found a full queue.
    pub newest: u64,
    /// Those whose place a newer one of the same topic took.
    pub coalesced: u64,
    /// Those that waited too long.
    pub expired: u64,
    /// Those for which the broker hung up.
    pub hung_up: u64,
    /// Those that could not be written to the disk.
    pub not_stored: u64,
}

impl Dropped {
    pub(super) fn count(&mut self, why: &Undelivered) {
        *match why {
            Undelivered::HungUp => &mut self.hung_up,
            Undelivered::Dropped => &mut self.oldest,
            Undelivered::Coalesced => &mut self.coalesced,
            Undelivered::Expired => &mut self.expired,
            Undelivered::NotStored(_) => &mut self.not_stored,
        } += 1;
    }
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub id: MessageId,
    pub message: Message,
    pub is_durable: bool,
    pub reports_sent: bool,
    since: Instant,
}

/// The messages that wait, in the order in which they are to be sent.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: [Lane; 3],
    /// Whether any message can wait too long.
    has_ages: bool,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    limits: QueueLimits,
}

impl Queue {
    /// The limits are those of [`Priority::ALL`], in that order.
    pub fn new(limits: [QueueLimits; 3]) -> Self {
        let lane = |limits: QueueLimits| Lane {
            waiting: VecDeque::new(),
            bytes: 0,
            limits: QueueLimits { count: limits.count.max(1), ..limits },
        };
        Self { lanes: limits.map(lane), has_ages: limits.iter().any(|limits| limits.age.is_some()) }
    }

    /// Whether the message would be taken now; if not, one has to wait. `others` are bytes that are held elsewhere.
    pub fn has_room(&self, outgoing: &Outgoing, others: usize) -> bool {
        let lane = self.lane(outgoing.priority);
        let fits = lane.fits(outgoing.message.size(), others) || broken::has(Defect::UnboundedQueue);
        fits || lane.limits.policy != Policy::Block
    }

    /// How many messages more of each priority may wait, as far as their number alone counts.
    pub fn room(&self) -> [usize; 3] {
        self.lanes.each_ref().map(|lane| lane.limits.count.saturating_sub(lane.waiting.len()))
    }

    /// Appends a message, and gives the ones that it drives out.
    pub fn push(
        &mut self,
        id: MessageId,
        outgoing: Outgoing,
        others: usize,
        now: Instant,
    ) -> Result<Vec<(Waiting, Undelivered)>, Error> {
        let Outgoing { message, priority, is_durable, reports_sent } = outgoing;
        let lane = self.lane_mut(priority);
        let size = message.size();
        let waiting = Waiting { id, message, is_durable, reports_sent, since: now };
        let mut out = Vec::new();
        match lane.limits.policy {
            _ if broken::has(Defect::UnboundedQueue) => {}
            Policy::Block | Policy::DropNewest if lane.fits(size, others) => {}
            Policy::Block => return Err(Error::QueueFull),
            Policy::DropNewest => return Err(Error::Dropped),
            policy => {
                let same = |old: &Waiting| old.message.topic == waiting.message.topic;
                let same = (policy == Policy::Coalesce).then(|| lane.waiting.iter().position(same)).flatten();
                if let Some(place) = same {
                    // It keeps the place, or a topic with more news than the link carries would never get its turn.
                    lane.bytes += size;
                    let old = std::mem::replace(&mut lane.waiting[place], waiting);
                    lane.bytes -= old.message.size();
                    return Ok(vec![(old, Undelivered::Coalesced)]);
                }
                while !lane.fits(size, others) {
                    let Some(old) = lane.pop() else { break };
                    out.push((old, Undelivered::Dropped));
                }
            }
        }
        lane.bytes += size;
        lane.waiting.push_back(waiting);
        Ok(out)
    }

    /// Appends a message that was kept from an earlier run; the bounds were kept then.
    pub fn restore(&mut self, id: MessageId, priority: Priority, message: Message, now: Instant) {
        let lane = self.lane_mut(priority);
        lane.bytes += message.size();
        lane.waiting.push_back(Waiting { id, message, is_durable: true, reports_sent: false, since: now });
    }

    /// The message that is to be sent next.
    pub fn front(&self) -> Option<&Waiting> {
        self.lanes.iter().find_map(|lane| lane.waiting.front())
    }

    /// Takes that message out.
    pub fn pop(&mut self) -> Option<Waiting> {
        self.lanes.iter_mut().find_map(Lane::pop)
    }

    /// Whether any message can wait too long.
    pub fn has_ages(&self) -> bool {
        self.has_ages
    }

    /// Takes one message out that has waited too long.
    pub fn expired(&mut self, now: Instant) -> Option<Waiting> {
        self.lanes.iter_mut().find_map(|lane| {
            let age = lane.limits.age?;
            if now < lane.waiting.front()?.since + age {
                return None;
            }
            lane.pop()
        })
    }

    /// When the next message will have waited too long.
    pub fn expires(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| Some(lane.waiting.front()?.since + lane.limits.age?)).min()
    }

    /// Takes a certain message out.
    pub fn remove(&mut self, id: MessageId) -> Option<Waiting> {
        self.lanes.iter_mut().find_map(|lane| {
            let place = lane.waiting.iter().position(|waiting| waiting.id == id)?;
            let gone = lane.waiting.remove(place)?;
            lane.bytes -= gone.message.size();
            Some(gone)
        })
    }

    /// Messages of one priority that wait.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lane(priority).waiting.len()
    }

    fn lane(&self, priority: Priority) -> &Lane {
        &self.lanes[place(priority)]
    }

    fn lane_mut(&mut self, priority: Priority) -> &mut Lane {
        &mut self.lanes[place(priority)]
    }
}

impl Lane {
    fn fits(&self, size: usize, others: usize) -> bool {
        let fits = self.waiting.len() < self.limits.count && self.bytes + others + size <= self.limits.bytes;
        fits || (self.waiting.is_empty() && others == 0)
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.message.size();
        Some(waiting)
    }
}

/// Where something is that is there for each of [`Priority::ALL`].
pub(super) fn place(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}
