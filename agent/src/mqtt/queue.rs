//! Messages that wait to be sent: a lane for each priority, each with bounds, and with a policy for when they are reached.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::broken::{self, Defect};
use super::session::{MessageId, Undelivered};
use super::{Error, Message, Outgoing, Policy, Priority, QueueLimits};

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

/// The queue of one priority, for status displays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Messages that wait.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// How long the one waits that is to be sent next; of a client without outbox and without bounds of age, which looks at
    /// the clock less often, at most so long.
    pub age: Option<Duration>,
    /// Messages that it gave up since the start: those that [`Policy`] drops or replaces, and those that waited too long.
    pub dropped: u64,
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
    dropped: u64,
    /// Nothing expires before.
    good_until: Option<Instant>,
}

impl Queue {
    /// The limits are those of [`Priority::ALL`], in that order.
    pub fn new(limits: [QueueLimits; 3]) -> Self {
        let lane = |limits: QueueLimits| Lane {
            waiting: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            good_until: None,
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
            Policy::DropNewest => {
                lane.dropped += 1;
                return Err(Error::Dropped);
            }
            policy => {
                let same = |old: &Waiting| old.message.topic == waiting.message.topic;
                let same = (policy == Policy::Coalesce).then(|| lane.waiting.iter().position(same)).flatten();
                if let Some(place) = same {
                    // It keeps the place, or a topic with more news than the link carries would never get its turn.
                    lane.bytes += size;
                    let old = std::mem::replace(&mut lane.waiting[place], waiting);
                    lane.bytes -= old.message.size();
                    lane.dropped += 1;
                    return Ok(vec![(old, Undelivered::Coalesced)]);
                }
                while !lane.fits(size, others) {
                    let Some(old) = lane.pop() else { break };
                    lane.dropped += 1;
                    out.push((old, Undelivered::Dropped));
                }
            }
        }
        lane.append(waiting);
        Ok(out)
    }

    /// Appends a message that was kept from an earlier run; the bounds were kept then.
    pub fn restore(&mut self, id: MessageId, priority: Priority, message: Message, now: Instant) {
        let waiting = Waiting { id, message, is_durable: true, reports_sent: false, since: now };
        self.lane_mut(priority).append(waiting);
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

    /// Takes the messages out that have waited too long.
    pub fn expired(&mut self, now: Instant) -> Vec<Waiting> {
        let mut expired = Vec::new();
        self.lanes.iter_mut().for_each(|lane| lane.expire(now, &mut expired));
        expired
    }

    /// When the next message may have waited too long.
    pub fn expires(&self) -> Option<Instant> {
        self.lanes.iter().filter(|lane| !lane.waiting.is_empty()).filter_map(|lane| lane.good_until).min()
    }

    /// Takes a certain message out.
    pub fn remove(&mut self, id: MessageId) -> Option<Waiting> {
        self.lanes.iter_mut().find_map(|lane| {
            let place = lane.waiting.iter().position(|waiting| waiting.id == id)?;
            lane.take(place)
        })
    }

    /// Messages of one priority that wait.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lane(priority).waiting.len()
    }

    /// Figures of one priority.
    pub fn state(&self, priority: Priority, now: Instant) -> QueueState {
        let lane = self.lane(priority);
        QueueState {
            messages: lane.waiting.len(),
            bytes: lane.bytes,
            age: lane.waiting.front().map(|first| now.saturating_duration_since(first.since)),
            dropped: lane.dropped,
        }
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

    fn append(&mut self, waiting: Waiting) {
        if self.waiting.is_empty() {
            self.good_until = self.limits.age.map(|age| waiting.since + age);
        }
        self.bytes += waiting.message.size();
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.take(0)
    }

    fn take(&mut self, place: usize) -> Option<Waiting> {
        let taken = self.waiting.remove(place)?;
        self.bytes -= taken.message.size();
        Some(taken)
    }

    fn expire(&mut self, now: Instant, expired: &mut Vec<Waiting>) {
        let Some(age) = self.limits.age.filter(|_| self.good_until.is_some_and(|until| now >= until)) else { return };
        let before = expired.len();
        while self.waiting.front().is_some_and(|first| now >= first.since + age) {
            expired.extend(self.waiting.pop_front());
        }
        let mut oldest = self.waiting.front().map(|first| first.since);
        if self.limits.policy == Policy::Coalesce {
            // The first need not be the oldest: one that took the place of another is younger than those behind it.
            let (old, good) = std::mem::take(&mut self.waiting).into_iter().partition(|old| now >= old.since + age);
            expired.extend::<VecDeque<_>>(old);
            self.waiting = good;
            oldest = self.waiting.iter().map(|waiting| waiting.since).min();
        }
        self.good_until = oldest.map(|since| since + age);
        self.bytes -= expired[before..].iter().map(|old| old.message.size()).sum::<usize>();
        self.dropped += (expired.len() - before) as u64;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mqtt::QoS;

    const AGE: Duration = Duration::from_secs(60);

    struct Bench {
        queue: Queue,
        now: Instant,
        next: u64,
    }

    impl Bench {
        /// A queue for three messages; one that waits for a minute is too old.
        fn new(policy: Policy) -> Self {
            let limits = QueueLimits { count: 3, bytes: 1 << 20, age: Some(AGE), policy };
            Self { queue: Queue::new([limits; 3]), now: Instant::now(), next: 0 }
        }

        fn push(&mut self, topic: &str) -> Result<Vec<Undelivered>, Error> {
            let outgoing = Outgoing::from(Message::new(topic, "", QoS::AtLeastOnce));
            self.next += 1;
            let driven_out = self.queue.push(MessageId(self.next), outgoing, 0, self.now)?;
            Ok(driven_out.into_iter().map(|(_, why)| why).collect())
        }

        fn expired(&mut self, seconds: u64) -> Vec<String> {
            self.now += Duration::from_secs(seconds);
            self.queue.expired(self.now).into_iter().map(|old| old.message.topic).collect()
        }

        fn state(&self) -> QueueState {
            self.queue.state(Priority::Normal, self.now)
        }

        fn topics(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.queue.pop()).map(|waiting| waiting.message.topic).collect()
        }
    }

    #[test]
    fn a_full_queue_does_what_its_policy_says_and_counts_it() {
        let none = Vec::<Undelivered>::new();
        for (policy, last, dropped, left) in [
            (Policy::Block, Err(Error::QueueFull), 0, ["a", "b", "c"]),
            (Policy::DropNewest, Err(Error::Dropped), 1, ["a", "b", "c"]),
            (Policy::DropOldest, Ok(vec![Undelivered::Dropped]), 1, ["b", "c", "d"]),
            (Policy::Coalesce, Ok(vec![Undelivered::Dropped]), 1, ["b", "c", "d"]),
        ] {
            let mut bench = Bench::new(policy);
            for topic in ["a", "b", "c"] {
                assert_eq!(bench.push(topic).unwrap(), none);
            }
            assert_eq!(format!("{:?}", bench.push("d")), format!("{last:?}"), "{policy:?}");
            assert_eq!((bench.state().messages, bench.state().dropped), (3, dropped), "{policy:?}");
            assert_eq!(bench.topics(), left, "{policy:?}");
            assert_eq!(bench.state(), QueueState { dropped, ..QueueState::default() }, "{policy:?}");
        }
    }

    #[test]
    fn messages_that_wait_too_long_go_at_once_and_in_order() {
        for policy in [Policy::Block, Policy::Coalesce] {
            let mut bench = Bench::new(policy);
            bench.push("a").unwrap();
            bench.push("b").unwrap();
            assert_eq!(bench.expired(59), Vec::<String>::new());
            assert_eq!(bench.state().age, Some(Duration::from_secs(59)));
            bench.push("c").unwrap();
            assert_eq!(bench.expired(1), ["a", "b"]);
            assert_eq!(bench.queue.expires(), Some(bench.now + Duration::from_secs(59)));
            assert_eq!(bench.expired(59), ["c"]);
            assert_eq!((bench.queue.expires(), bench.state().dropped), (None, 3));
        }
    }

    #[test]
    fn news_in_an_old_place_keeps_nothing_else_beyond_its_time() {
        let mut bench = Bench::new(Policy::Coalesce);
        bench.push("a").unwrap();
        bench.push("b").unwrap();
        assert_eq!(bench.expired(40), Vec::<String>::new());
        assert_eq!(bench.push("a").unwrap(), [Undelivered::Coalesced]);
        assert_eq!(bench.expired(20), ["b"]);
        assert_eq!(bench.expired(39), Vec::<String>::new());
        assert_eq!(bench.expired(1), ["a"]);
    }
}
