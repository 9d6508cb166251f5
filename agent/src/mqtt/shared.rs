//! What the handles and the connection share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::answers::Answers;
use super::handlers::Handlers;
use super::link::Link;
use super::publish::Passing;
use super::queue::{Dropped, QueueState, place};
use super::session::{Action, MessageId, Note, Receipt, RequestId, Session};
use super::writer::Writer;
use super::{Error, Priority, QoS};

/// Figures of a connection, for status displays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether the broker has accepted us.
    pub connected: bool,
    /// How often it has since the start.
    pub connects: u64,
    /// Why the last connection or attempt failed.
    pub last_error: Option<String>,
    /// Messages that the broker has acknowledged (QoS 1) or that were written (QoS 0).
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that wait to be sent.
    pub queued: usize,
    /// Where they wait: the queues of [`Priority::ALL`].
    pub queues: [QueueState; 3],
    /// Messages that were given up, and why.
    pub dropped: Dropped,
    /// Messages sent and not acknowledged yet.
    pub in_flight: usize,
    /// Messages of QoS 0 lost: broken off while they were sent, or received faster than handled.
    pub lost: u64,
    /// Filters that the broker has granted.
    pub subscriptions: usize,
}

pub(super) struct Shared {
    core: Mutex<Core>,
}

pub(super) struct Core {
    pub session: Session,
    pub handlers: Handlers,
    /// Of QoS 1 and 2.
    pub passing: Passing,
    /// What became of messages at the broker, and on the disk.
    pub publishes: Answers<MessageId, ()>,
    pub stored: Answers<MessageId, ()>,
    /// The quality of service granted, or nothing for the end of a subscription.
    pub requests: Answers<RequestId, Option<QoS>>,
    pub room: Line,
    /// Who waits for the next connection.
    pub arrivals: Vec<Waker>,
    pub figures: State,
    pub end: End,
    /// The next attempt need not wait.
    pub is_hurried: bool,
    /// Until then the client keeps away from the broker.
    pub paused: Option<Instant>,
    /// Writes the notes of the session, if they are to be kept.
    pub writer: Option<Writer>,
    driver: Option<Waker>,
    is_woken: bool,
    /// When the connection last looked at the clock.
    looked: Instant,
}

/// Whether the connection is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// `Client::close` was called.
    Closing,
    /// The connection does not run any more and never will.
    Closed,
}

impl Shared {
    pub fn new(session: Session) -> Arc<Self> {
        let core = Core {
            session,
            handlers: Handlers::default(),
            passing: Passing::default(),
            publishes: Answers::default(),
            stored: Answers::default(),
            requests: Answers::default(),
            room: Line::default(),
            arrivals: Vec::new(),
            figures: State::default(),
            end: End::Open,
            is_hurried: false,
            paused: None,
            writer: None,
            driver: None,
            is_woken: false,
            looked: Instant::now(),
        };
        Arc::new(Self { core: Mutex::new(core) })
    }

    /// The core, for a moment: nobody waits for anything while holding it.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All handlers of a message have finished.
    pub fn finished(&self, receipt: Receipt) {
        let mut core = self.lock();
        core.session.finished(receipt, Instant::now());
        core.wake();
    }

    /// What came of a transaction.
    pub fn stored(&self, notes: Vec<Note>, outcome: Result<(), String>) {
        let now = Instant::now();
        let mut core = self.lock();
        core.session.stored(notes, outcome, now);
        core.settle(now);
        core.wake();
    }

    /// Ready once after each `wake`. For the connection alone.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = self.lock();
        if std::mem::take(&mut core.is_woken) {
            return Poll::Ready(());
        }
        core.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn state(&self) -> State {
        let now = Instant::now();
        let core = self.lock();
        State {
            queued: core.session.queued(),
            queues: Priority::ALL.map(|priority| core.session.queue_state(priority, now)),
            dropped: core.session.given_up(),
            in_flight: core.session.in_flight(),
            subscriptions: core.session.subscriptions(),
            lost: core.figures.lost + core.session.dropped(),
            ..core.figures.clone()
        }
    }
}

impl Core {
    /// There is something for the connection to do.
    pub fn wake(&mut self) {
        self.is_woken = true;
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// The time as a message that is published now needs it. To look at the clock for each would be a tenth of all that
    /// is done for one of QoS 0, so it is not done where the time of the connection will do.
    pub fn time_to_publish(&mut self) -> Instant {
        if self.session.is_timed() {
            self.looked = Instant::now();
        }
        self.looked
    }

    /// Carries out what the session wants, until it wants nothing; without a connection only what needs none.
    pub fn carry_out(&mut self, mut link: Option<&mut Link>, now: Instant, shared: &Arc<Shared>) -> Result<(), Error> {
        self.looked = now;
        loop {
            self.session.set_writable(link.as_ref().is_some_and(|link| link.has_room()));
            let Some(action) = self.session.poll(now) else {
                self.write_notes(now);
                return Ok(());
            };
            // Not a pair of action and link: an action is large, and would be copied into it.
            match action {
                Action::Send(packet) => link.as_deref_mut().map_or(Ok(()), |link| link.send(&packet))?,
                Action::Written(id) => match &mut link {
                    Some(link) => link.mark(id),
                    None => self.lost(id),
                },
                Action::Deliver(receipt, message) => {
                    self.figures.received += 1;
                    if let Some(unhandled) = self.handlers.deliver(receipt, message, shared) {
                        self.session.finished(unhandled, now);
                    }
                }
                Action::Close(reason) => return Err(Error::GivenUp(reason)),
                answer => self.answer(answer),
            }
        }
    }

    /// Has written down what the session noted, and tells the callers what came of their requests; without a connection
    /// too.
    pub fn settle(&mut self, now: Instant) {
        while let Some(answer) = self.session.poll_answer(now) {
            self.answer(answer);
        }
        self.write_notes(now);
        self.call_waiting();
    }

    /// Lets those try whose messages found no room, if there may be some now.
    pub fn call_waiting(&mut self) {
        self.room.call(self.session.room());
    }

    /// Gives up or uses a place among those.
    pub fn leave_line(&mut self, ticket: u64) {
        self.room.leave(ticket);
        self.call_waiting();
    }

    fn write_notes(&mut self, now: Instant) {
        let Some(writer) = &self.writer else { return };
        if let Some(notes) = self.session.take_notes(now) {
            writer.write(notes);
        }
    }

    fn answer(&mut self, action: Action) {
        match action {
            Action::Acknowledged(id) => self.sent(id),
            Action::Written(id) => self.lost(id),
            Action::Stored(id) => self.stored.answer(id, Ok(())),
            Action::Failed(id, why) => {
                self.stored.answer(id, Err(Error::Undelivered(why.clone())));
                self.publishes.answer(id, Err(Error::Undelivered(why)));
            }
            Action::Subscribed { request, filter, granted } => self.subscribed(request, filter, granted),
            Action::Unsubscribed(request) => self.requests.answer(request, Ok(None)),
            Action::Send(_) | Action::Deliver(..) | Action::Close(_) => {}
        }
    }

    /// The message has arrived as surely as its quality of service promises.
    pub fn sent(&mut self, id: MessageId) {
        self.figures.sent += 1;
        self.publishes.answer(id, Ok(()));
    }

    /// The packet of the message was written.
    pub fn written(&mut self, id: MessageId) {
        // The acknowledgement of an assured one still counts.
        if self.passing.remove(&id) { self.publishes.answer(id, Ok(())) } else { self.sent(id) }
    }

    /// The packet of the message was not written completely: one of QoS 0 may not have arrived, others go out again.
    pub fn lost(&mut self, id: MessageId) {
        if self.passing.contains(&id) {
            return;
        }
        self.figures.lost += 1;
        self.publishes.answer(id, Err(Error::Lost));
    }

    /// Nothing will be sent any more: all who wait are told so. Gives the handlers back, to be dropped without the lock:
    /// what they own may use a client when it is dropped.
    pub fn close(&mut self) -> Handlers {
        self.end = End::Closed;
        self.figures.connected = false;
        self.publishes.close();
        self.stored.close();
        self.requests.close();
        self.room.close();
        self.call_arrivals();
        std::mem::take(&mut self.handlers)
    }

    fn subscribed(&mut self, request: Option<RequestId>, filter: String, granted: Option<QoS>) {
        match (request, granted) {
            (Some(request), Some(qos)) => self.requests.answer(request, Ok(Some(qos))),
            (Some(request), None) => {
                self.handlers.refused(request);
                self.requests.answer(request, Err(Error::Refused(filter)));
            }
            (None, Some(_)) => log::debug!("subscription to '{filter}' restored"),
            (None, None) => log::error!("the broker no longer allows the subscription to '{filter}'"),
        }
    }
}

/// Callers that wait for room in the queue, first come, first served.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    waiting: VecDeque<Caller>,
}

#[derive(Debug)]
struct Caller {
    ticket: u64,
    priority: Priority,
    /// Nothing once he was called, until he has looked.
    waker: Option<Waker>,
}

impl Line {
    /// Called at a time at most. With one at a time the connection would have its turn after each, and write each
    /// message by itself.
    const CALLED: usize = 32;

    /// Whether the holder of the ticket, or a new caller without one, may try now.
    pub fn is_turn(&self, ticket: Option<u64>) -> bool {
        self.waiting.front().is_none_or(|first| Some(first.ticket) == ticket)
    }

    /// Waits at the end of the line, or on at its place.
    pub fn wait(&mut self, ticket: Option<u64>, priority: Priority, waker: &Waker) -> u64 {
        let waker = Some(waker.clone());
        if let Some(known) = self.waiting.iter_mut().find(|known| Some(known.ticket) == ticket) {
            known.waker = waker;
            return known.ticket;
        }
        self.next += 1;
        self.waiting.push_back(Caller { ticket: self.next, priority, waker });
        self.next
    }

    /// Leaves the line.
    fn leave(&mut self, ticket: u64) {
        match self.waiting.front() {
            Some(first) if first.ticket == ticket => drop(self.waiting.pop_front()),
            _ => self.waiting.retain(|known| known.ticket != ticket),
        }
    }

    /// Calls the first ones for whom there may be room; it is said for each of [`Priority::ALL`].
    fn call(&mut self, mut room: [usize; 3]) {
        for (index, caller) in self.waiting.iter_mut().take(Self::CALLED).enumerate() {
            let left = &mut room[place(caller.priority)];
            if index > 0 && *left == 0 {
                return;
            }
            *left = left.saturating_sub(1);
            caller.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn close(&mut self) {
        self.waiting.drain(..).filter_map(|caller| caller.waker).for_each(Waker::wake);
    }
}
