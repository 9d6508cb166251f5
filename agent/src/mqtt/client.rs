//! The handle that publishes and subscribes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::outbox_file::OutboxFile;
use super::profile::Profile;
use super::session::{Kept, RequestId, Session, Store};
use super::shared::{Core, End, Shared};
use super::topic;
use super::writer::Writer;
use super::{Connection, Error, Message, Options, QoS, State};

/// A client and the connection that works for it. Nothing happens until [`Connection::run`] is polled. An
/// [outbox](Options::outbox) is left alone: that takes [`open`].
pub fn new(options: Options) -> (Client, Connection) {
    let now = Instant::now();
    let mut session = Session::new(options.limits(), now);
    session.keep_to(options.profile, now);
    connect(options, session)
}

/// The same with the outbox that the options name: it goes on where the last client with this file stopped.
///
/// # Errors
/// [`Outbox`](Error::Outbox) if the file cannot be used. One that is damaged is set aside, logged, and begun anew.
pub fn open(options: Options) -> Result<(Client, Connection), Error> {
    let Some(path) = options.outbox.clone() else { return Ok(new(options)) };
    let (file, kept) = OutboxFile::open(&path)?;
    resume(options, Box::new(file), kept)
}

/// Goes on with what a store keeps.
pub(super) fn resume(options: Options, store: Box<dyn Store>, kept: Kept) -> Result<(Client, Connection), Error> {
    let now = Instant::now();
    let mut session = Session::new(options.limits(), now);
    session.keep_to(options.profile, now);
    session.restore(kept, now);
    let (client, connection) = connect(options, session);
    let writer = Writer::start(store, Arc::downgrade(&client.shared))?;
    client.shared.lock().writer = Some(writer);
    Ok((client, connection))
}

fn connect(options: Options, session: Session) -> (Client, Connection) {
    let Options { max_packet, profile, .. } = options;
    let shared = Shared::new(session);
    (Client { shared: shared.clone(), max_packet, profile }, Connection::new(options, shared))
}

/// Publishes and subscribes through a [`Connection`]. Clones share it, and may be used on other threads.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) max_packet: usize,
    pub(super) profile: &'static Profile,
}

impl Client {
    /// Has `handler` called with each message whose topic the filter takes, and resolves with the quality of service
    /// granted once the broker has answered, which takes a connection.
    ///
    /// The handler runs on the executor of the connection, on one message after the other, in the order of arrival; other
    /// handlers and the connection go on meanwhile. A message of QoS 1 is acknowledged when its handlers are done, so
    /// that it comes again if the agent is killed before; handlers that never finish thus make the broker hold back
    /// messages, first those for the same client, while messages can still be published. The subscription
    /// outlives connections, and this future if it is dropped.
    ///
    /// A message of QoS 2 comes once. With an [outbox](Options::outbox) that outlasts kills too, but for those in the
    /// moment between the end of its handlers and the note of it on the disk: then it is handled again. Handlers whose
    /// work must not be done twice have to know it again.
    ///
    /// Subscribe before the connection is run: what the broker has kept meanwhile comes at once, and a message without a
    /// handler is dropped.
    ///
    /// A filter can have more than one handler. If filters overlap, brokers may send a message once for each of them, and
    /// each copy goes to every handler that takes it.
    ///
    /// Errors: [`Filter`](Error::Filter), [`TooLarge`](Error::TooLarge),
    /// [`TooManySubscriptions`](Error::TooManySubscriptions), [`Refused`](Error::Refused), [`Closed`](Error::Closed).
    pub async fn subscribe(
        &self,
        filter: &str,
        qos: QoS,
        handler: impl AsyncFnMut(Message) + Send + 'static,
    ) -> Result<QoS, Error> {
        let request = self.ask_for(filter, qos, handler)?;
        self.answer(request).await
    }

    /// As [`subscribe`](Self::subscribe), but the broker is asked for the messages of the wider filter `at_broker`, once
    /// for all handlers under it: brokers count subscriptions, AWS IoT allows 50, and each takes a round trip.
    ///
    /// Errors: those of [`subscribe`](Self::subscribe).
    pub async fn subscribe_under(
        &self,
        at_broker: &str,
        filter: &str,
        qos: QoS,
        handler: impl AsyncFnMut(Message) + Send + 'static,
    ) -> Result<QoS, Error> {
        if !topic::is_filter(filter) {
            return Err(Error::Filter(filter.into()));
        }
        let request = {
            let mut core = self.open_core()?;
            core.handlers.check_room()?;
            let (request, granted) = core.session.join(at_broker, qos)?;
            core.handlers.add(request, at_broker, filter, handler);
            core.requests.expect(request);
            if let Some(granted) = granted {
                core.requests.answer(request, Ok(Some(granted)));
            }
            core.wake();
            request
        };
        self.answer(request).await
    }

    /// The core, while the connection is to go on.
    fn open_core(&self) -> Result<MutexGuard<'_, Core>, Error> {
        let core = self.shared.lock();
        if core.end == End::Open { Ok(core) } else { Err(Error::Closed) }
    }

    /// Begins a subscription.
    pub(super) fn ask_for(
        &self,
        filter: &str,
        qos: QoS,
        handler: impl AsyncFnMut(Message) + Send + 'static,
    ) -> Result<RequestId, Error> {
        let mut core = self.open_core()?;
        core.handlers.check_room()?;
        let request = core.session.subscribe(filter, qos)?;
        core.handlers.add(request, filter, filter, handler);
        core.requests.expect(request);
        core.wake();
        Ok(request)
    }

    /// The broker's answer to a subscription.
    pub(super) async fn answer(&self, request: RequestId) -> Result<QoS, Error> {
        Ok(Answer { shared: &self.shared, request }.await?.unwrap_or(QoS::AtMostOnce))
    }

    /// Ends one subscription, without waiting for the broker.
    pub(super) fn leave(&self, request: RequestId) {
        let mut core = self.shared.lock();
        core.requests.forget(&request);
        if let Some(filter) = core.handlers.leave(request) {
            if let Err(error) = core.session.unsubscribe(&filter) {
                log::debug!("the subscription to '{filter}' stays: {error}");
            }
            core.wake();
        }
    }

    /// Ends the subscriptions to exactly this filter, and resolves once the broker has confirmed. The handlers still get
    /// what arrived before.
    ///
    /// Errors: as for [`subscribe`](Self::subscribe).
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), Error> {
        let request = {
            let mut core = self.open_core()?;
            let request = core.session.unsubscribe(filter)?;
            core.handlers.unsubscribed(filter);
            core.requests.expect(request);
            core.wake();
            request
        };
        Answer { shared: &self.shared, request }.await.map(|_| ())
    }

    /// The figures of this moment.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Slows down: at least 2 s between two messages, twice as much with each further demand up to 30 s; half of it after
    /// each minute without one.
    pub fn throttle(&self) {
        let mut core = self.shared.lock();
        core.session.throttle(Instant::now());
        core.wake();
    }

    /// Says that the network may have come up: an attempt that waits because others failed is made at once, and those
    /// after it as soon as if none had failed. A connection that stands is left alone.
    pub fn try_now(&self) {
        let mut core = self.shared.lock();
        if !core.figures.connected {
            core.is_hurried = true;
            core.wake();
        }
    }

    /// Leaves the broker for a while; messages wait.
    pub fn pause(&self, time: Duration) {
        let mut core = self.shared.lock();
        core.paused = Some(Instant::now() + time);
        core.wake();
    }

    /// Ends the connection: what can be sent at once is sent, the broker is told, and [`Connection::run`] ends. Who still
    /// waits for an answer gets [`Error::Closed`].
    pub fn close(&self) {
        let mut core = self.shared.lock();
        if core.end == End::Open {
            core.end = End::Closing;
        }
        core.wake();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The broker's answer to a request.
struct Answer<'a> {
    shared: &'a Shared,
    request: RequestId,
}

impl Future for Answer<'_> {
    type Output = Result<Option<QoS>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.lock().requests.poll(&self.request, cx)
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.shared.lock().requests.forget(&self.request);
    }
}
