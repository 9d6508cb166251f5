//! Publishing: what a caller says about a message, and what he waits for.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::answers::Numbered;
use super::session::MessageId;
use super::shared::{Core, End, Shared};
use super::{Client, Error, Message, Outgoing, Priority, QoS};

/// What publishing waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// The broker has the message: PUBACK or PUBCOMP. A message of QoS 0 has no such answer, and waits as with `Sent`.
    #[default]
    Ack,
    /// The message was written to a connection.
    Sent,
    /// Nothing but room in the queue, and with a durable message that the disk has it. It is sent all the same.
    None,
}

impl Client {
    /// Publishes a message: QoS 1, not retained, not durable, and waiting for the broker, unless the calls that follow say
    /// otherwise. It begins when the result is awaited or polled.
    ///
    /// While the queue is full, that waits, if such is its [policy](super::Policy). Messages of one priority are sent in
    /// the order in which they were queued. Once queued, a message is sent even if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(client: ioto::mqtt::Client) -> Result<(), ioto::mqtt::Error> {
    /// use ioto::mqtt::{Priority, QoS, Wait};
    /// client.publish("home/alarm", "smoke").qos(QoS::ExactlyOnce).priority(Priority::High).await?;
    /// client.publish("home/power", "312").durable(true).wait(Wait::None).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Topic`](Error::Topic), [`TooLarge`](Error::TooLarge), [`Profile`](Error::Profile);
    /// [`Undelivered`](Error::Undelivered) and [`Dropped`](Error::Dropped) if it was given up; for QoS 0
    /// [`Lost`](Error::Lost) if the connection broke; [`Closed`](Error::Closed) if the connection ended for good.
    pub fn publish(&self, topic: impl Into<String>, payload: impl Into<Bytes>) -> Publish {
        self.send(Message::new(topic, payload, QoS::AtLeastOnce))
    }

    /// The same with a message that is made already.
    pub fn send(&self, message: Message) -> Publish {
        Publish { client: self.clone(), outgoing: message.into(), wait: Wait::Ack }
    }
}

/// A message to be published; await it.
#[must_use = "nothing is published before this is awaited"]
pub struct Publish {
    client: Client,
    outgoing: Outgoing,
    wait: Wait,
}

impl Publish {
    /// How surely the message is to arrive.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.outgoing.message.qos = qos;
        self
    }

    /// Whether the broker is to keep it for later subscribers.
    pub fn retain(mut self, retain: bool) -> Self {
        self.outgoing.message.retain = retain;
        self
    }

    /// Which message goes first.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.outgoing.priority = priority;
        self
    }

    /// Whether the message survives the end of the program. It needs an [outbox](super::Options::outbox), and QoS 1 or 2.
    pub fn durable(mut self, is_durable: bool) -> Self {
        self.outgoing.is_durable = is_durable;
        self
    }

    /// What to wait for.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }
}

impl IntoFuture for Publish {
    type Output = Result<(), Error>;
    type IntoFuture = Publishing;

    fn into_future(self) -> Publishing {
        let Self { client, outgoing, wait } = self;
        let message = &outgoing.message;
        let stage = match message.check(client.max_packet).and_then(|()| client.profile.check(message)) {
            Ok(()) => Stage::Entering(Some(outgoing), None),
            Err(error) => Stage::Refused(Some(error)),
        };
        Publishing { shared: client.shared, wait, stage }
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("outgoing", &self.outgoing).field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// A message on its way to what its caller waits for.
pub struct Publishing {
    shared: Arc<Shared>,
    wait: Wait,
    stage: Stage,
}

enum Stage {
    Refused(Option<Error>),
    /// Not queued yet; with a ticket it waits for room.
    Entering(Option<Outgoing>, Option<u64>),
    Queued(MessageId),
    /// Queued and durable, and nobody waits for more than that.
    Keeping(MessageId),
    Done,
}

impl Publishing {
    /// Whether the message was queued, so that it goes on its way also when nobody awaits this any more.
    pub fn is_queued(&self) -> bool {
        !matches!(self.stage, Stage::Refused(_) | Stage::Entering(..))
    }
}

impl Future for Publishing {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, wait, stage } = &mut *self;
        if let Stage::Refused(error) = stage {
            return Poll::Ready(Err(error.take().unwrap_or(Error::Closed)));
        }
        let mut core = shared.lock();
        if let Stage::Entering(outgoing, ticket) = stage {
            if core.end != End::Open {
                return Poll::Ready(Err(Error::Closed));
            }
            let Some(queued) = outgoing else { return Poll::Ready(Err(Error::Closed)) };
            if !core.session.has_room(queued) || !core.room.is_turn(*ticket) {
                *ticket = Some(core.room.wait(*ticket, queued.priority, cx.waker()));
                return Poll::Pending;
            }
            let Some(outgoing) = outgoing.take() else { return Poll::Ready(Err(Error::Closed)) };
            *stage = enter(&mut core, outgoing, ticket.take(), *wait)?;
        }
        let answer = match stage {
            Stage::Queued(id) => core.publishes.poll(id, cx),
            Stage::Keeping(id) => core.stored.poll(id, cx),
            Stage::Entering(..) | Stage::Refused(_) => Poll::Pending,
            Stage::Done => Poll::Ready(Ok(())),
        };
        if answer.is_ready() {
            *stage = Stage::Done;
        }
        answer
    }
}

/// Queues the message, and says what to wait for.
fn enter(core: &mut Core, mut outgoing: Outgoing, ticket: Option<u64>, wait: Wait) -> Result<Stage, Error> {
    let now = core.time_to_publish();
    let qos = outgoing.message.qos;
    let is_kept =
        core.writer.is_some() && (qos == QoS::ExactlyOnce || (outgoing.is_durable && qos == QoS::AtLeastOnce));
    outgoing.reports_sent = wait == Wait::Sent && qos != QoS::AtMostOnce;
    let reports_sent = outgoing.reports_sent;
    let queued = core.session.publish(outgoing, now);
    if let Some(ticket) = ticket {
        core.leave_line(ticket);
    }
    let id = queued?;
    let stage = match wait {
        Wait::None if is_kept => {
            core.stored.expect(id);
            Stage::Keeping(id)
        }
        Wait::None => Stage::Done,
        Wait::Ack | Wait::Sent => {
            core.publishes.expect(id);
            Stage::Queued(id)
        }
    };
    if reports_sent {
        core.passing.insert(id);
    }
    core.settle(now);
    core.wake();
    Ok(stage)
}

impl Drop for Publishing {
    fn drop(&mut self) {
        match &self.stage {
            Stage::Refused(_) | Stage::Done | Stage::Entering(_, None) => {}
            Stage::Entering(_, Some(ticket)) => self.shared.lock().leave_line(*ticket),
            Stage::Queued(id) => self.shared.lock().publishes.forget(id),
            Stage::Keeping(id) => self.shared.lock().stored.forget(id),
        }
    }
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishing").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Messages of QoS 1 and 2 whose callers wait until they are written, no longer.
pub(super) type Passing = Numbered<MessageId>;
