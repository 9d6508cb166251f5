//! The connection to the broker, made again whenever it ends.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smol::future::{FutureExt, yield_now};
use smol::{LocalExecutor, Timer};

use super::link::Link;
use super::lull::Lull;
use super::packet::{ConnectReturnCode, Packet};
use super::presence::{Decision, Moment, Presence};
use super::reconnect::{Ended, Reconnect};
use super::shared::{Core, End, Shared};
use super::transport::Transport;
use super::{Error, Options};
use crate::net::{self, Alarm, Deadline};

/// How long saying goodbye to the broker may take; nobody depends on it.
const GOODBYE: Duration = Duration::from_secs(1);

/// Keeps the connection to the broker up. It does nothing until it is [run](Self::run); once it is dropped, everybody who
/// waits for an answer gets [`Error::Closed`].
pub struct Connection {
    options: Options,
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn new(options: Options, shared: Arc<Shared>) -> Self {
        Self { options, shared }
    }

    /// Connects, works and connects again, for ever: it ends only after [`Client::close`](super::Client::close).
    ///
    /// A failed attempt is logged and tried again after a random time, longer each time, from 1 s to 15 minutes; nothing is given
    /// up meanwhile, and no credential is touched. The handlers of subscriptions run inside this future.
    pub async fn run(self) {
        let handlers = LocalExecutor::new();
        handlers.run(self.keep_connected(&handlers)).await;
    }

    async fn keep_connected(&self, handlers: &LocalExecutor<'_>) {
        let (base, cap) = self.options.backoff;
        let mut reconnect = Reconnect::new(base, cap, self.options.profile.takeover);
        let mut presence = Presence::new(self.options.presence.clone());
        while self.is_wanted(&mut presence).await {
            let mut ended = Ended::default();
            match self.connect_and_serve(&mut presence, &mut ended, handlers).await {
                Ok(()) => log::info!("disconnected from {}", self.options.broker()),
                Err(error) => {
                    let wait = reconnect.wait(ended);
                    log::warn!("{}: {error}; next attempt in {:.1} s", self.options.broker(), wait.as_secs_f32());
                    let is_takeover = Reconnect::is_takeover(ended);
                    if is_takeover {
                        let id = &self.options.client_id;
                        log::warn!("does another program use the client id '{id}' (mqtt.clientId)?");
                    }
                    self.shared.lock().figures.last_error = Some(error.to_string());
                    let pause = async {
                        Timer::after(wait).await;
                    };
                    let interrupted = self.until(|core| core.end != End::Open || core.is_hurried && !is_takeover);
                    pause.or(interrupted).await;
                    if std::mem::take(&mut self.shared.lock().is_hurried) {
                        reconnect.restart();
                    }
                }
            }
        }
    }

    /// Waits until the connection is to stand; false when it never will again.
    async fn is_wanted(&self, presence: &mut Presence) -> bool {
        loop {
            let decision = {
                let core = self.shared.lock();
                if core.end != End::Open {
                    return false;
                }
                presence.decide(moment(&core, Instant::now()))
            };
            let Decision::Down(until) = decision else { return true };
            let woken = poll_fn(|cx| self.shared.poll_woken(cx));
            let later = async {
                Timer::at(until).await;
            };
            woken.or(later).await;
        }
    }

    /// One connection from its beginning to its end; no error means that it is not wanted any more.
    async fn connect_and_serve(
        &self,
        presence: &mut Presence,
        ended: &mut Ended,
        handlers: &LocalExecutor<'_>,
    ) -> Result<(), Error> {
        let connecting = async { self.connect().await.map(Some) };
        let closing = async {
            self.closing().await;
            Ok(None)
        };
        let Some(mut link) = closing.or(connecting).await? else { return Ok(()) };
        let start = Instant::now();
        let outcome = self.serve(&mut link, presence, handlers).await;
        *ended =
            Ended { lived: Some(start.elapsed()), by_broker: matches!(outcome, Err(Error::Hangup | Error::Reset)) };
        if outcome.is_ok() {
            say_goodbye(&mut link).await;
        }
        // Links that break are often reset; only who closes a connection in order has an opinion of what came over it.
        if matches!(outcome, Err(Error::Hangup)) {
            self.shared.lock().session.hung_up();
        }
        self.disconnected(link);
        outcome
    }

    /// From the name of the broker to its CONNACK.
    async fn connect(&self) -> Result<Link, Error> {
        let options = &self.options;
        let connect = options.connect_packet()?;
        let is_asked = Cell::new(false);
        let hello = async {
            let mut link = Link::new(Transport::connect(options).await?, options.max_packet);
            link.send(&Packet::Connect(connect))?;
            is_asked.set(true);
            match link.receive().await {
                Ok(Packet::ConnAck(answer)) => Ok((link, answer)),
                Ok(_) => Err(Error::NoConnAck),
                Err(Error::Hangup | Error::Reset) => Err(Error::HangupAtConnect),
                Err(error) => Err(error),
            }
        };
        let too_late = async {
            Deadline::after(options.timeout).await;
            Err(Error::NoAnswer(options.timeout))
        };
        // An error of the network that comes with the same deadline says more.
        let outcome = hello.or(too_late).await;
        if outcome.is_err() && is_asked.get() {
            self.shared.lock().session.unanswered();
        }
        let (link, answer) = outcome?;
        if answer.code != ConnectReturnCode::Success {
            return Err(Error::Rejected(answer.code as u8));
        }
        self.connected(answer.session_present);
        Ok(link)
    }

    /// Reads, writes and does what the session wants, until the connection breaks or is to be closed.
    async fn serve(&self, link: &mut Link, presence: &mut Presence, handlers: &LocalExecutor<'_>) -> Result<(), Error> {
        let (mut alarm, mut lull) = (Alarm::default(), Lull::default());
        loop {
            let now = Instant::now();
            let (deadline, is_reading) = {
                let mut core = self.shared.lock();
                core.handlers.start().for_each(|task| handlers.spawn(task).detach());
                while core.session.wants_input(now) {
                    let Some(packet) = link.packet()? else { break };
                    core.session.received(packet, now)?;
                }
                core.carry_out(Some(link), now, &self.shared)?;
                while let Some(id) = link.next_written() {
                    core.written(id);
                }
                core.call_waiting();
                if core.end != End::Open {
                    return Ok(());
                }
                let Decision::Up(look) = presence.decide(moment(&core, now)) else { return Ok(()) };
                if link.take_drained() {
                    lull.begin(core.session.in_flight(), now);
                }
                let is_reading = core.session.wants_input(now) && lull.is_over(now);
                (core.session.deadline().into_iter().chain(look).min(), is_reading)
            };
            poll_fn(|cx| {
                let is_woken = self.shared.poll_woken(cx).is_ready();
                let is_late = deadline.is_some_and(|deadline| alarm.poll(cx, deadline).is_ready());
                let is_late = is_late | lull.poll(cx).is_ready();
                match link.poll_io(cx, is_reading) {
                    Poll::Pending if is_woken || is_late => Poll::Ready(Ok(())),
                    other => other,
                }
            })
            .await?;
            // A busy connection must not keep the handlers and other tasks waiting.
            yield_now().await;
        }
    }

    fn connected(&self, session_present: bool) {
        let known = if session_present { "which still knows our session" } else { "with a new session" };
        log::info!("connected to {}, {known}", self.options.broker());
        let mut core = self.shared.lock();
        core.session.connected(session_present, Instant::now());
        core.figures.connected = true;
        core.figures.connects += 1;
        core.figures.last_error = None;
        core.is_hurried = false;
        core.call_arrivals();
    }

    /// The session keeps what was not acknowledged; only messages of QoS 0 end with the connection.
    fn disconnected(&self, mut link: Link) {
        let mut core = self.shared.lock();
        core.figures.connected = false;
        while let Some(id) = link.next_written() {
            core.written(id);
        }
        link.unwritten().for_each(|id| core.lost(id));
        core.session.disconnected();
        if let Err(error) = core.carry_out(None, Instant::now(), &self.shared) {
            log::debug!("after the end of the connection: {error}");
        }
        core.call_waiting();
    }

    /// Resolves when the connection is not wanted any more.
    async fn closing(&self) {
        self.until(|core| core.end != End::Open).await;
    }

    /// Resolves when the core is so; for who wakes the connection then.
    async fn until(&self, is_so: impl Fn(&Core) -> bool) {
        poll_fn(|cx| {
            while !is_so(&self.shared.lock()) {
                if self.shared.poll_woken(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (handlers, writer, rest) = {
            let mut core = self.shared.lock();
            (core.close(), core.writer.take(), core.session.take_rest())
        };
        drop(handlers);
        if let Some(writer) = writer {
            writer.close(rest);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What counts for the question whether the connection is to stand.
fn moment(core: &Core, now: Instant) -> Moment {
    let moved = core.figures.sent.wrapping_add(core.figures.received);
    Moment { now, utc_ms: net::utc_ms(), has_work: core.session.has_work(), moved, paused: core.paused }
}

/// With a DISCONNECT the broker knows that nothing went wrong.
async fn say_goodbye(link: &mut Link) {
    let goodbye = async {
        link.send(&Packet::Disconnect)?;
        link.flush().await?;
        link.close().await
    };
    let too_late = async {
        Timer::after(GOODBYE).await;
        Ok(())
    };
    if let Err(error) = goodbye.or(too_late).await {
        log::debug!("the broker did not wait for our goodbye: {error}");
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
