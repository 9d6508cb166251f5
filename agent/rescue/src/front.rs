//! The front: takes all clients, in one thread that never blocks, and lets only whole requests through, one a connection.
//!
//! A client that is silent, slow, or does not read costs a few hundred bytes until its time is up; when all places are taken,
//! the one that has kept us waiting longest makes room. So whoever sends a request gets an answer.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use ioto_wire::notify::Notify;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::answers::Answer;
use crate::head::{self, Refusal, Request};
use crate::inner::{self, Connection};
use crate::peer;

/// For a request to arrive, whole.
const RECEIVE: Duration = Duration::from_secs(2);
/// For an answer: longer than the longest of them takes, which is a restart.
const ANSWER: Duration = Duration::from_secs(30);
/// For a client to take its answer.
const SEND: Duration = Duration::from_secs(3);
/// For a client to stop sending after it was refused, so that it sees the answer and not a broken connection.
const DRAIN: Duration = Duration::from_millis(300);
/// An inner answer that takes longer will never come.
const STUCK: Duration = Duration::from_secs(60);
/// Bytes that are thrown away after a refusal.
const MAX_DRAINED: usize = 64 * 1024;
/// After a failed accept, when descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);
/// This one answers nothing else, so that a slow answer to another request is not in its way.
const QUICK: &str = "/livez";

/// All clients and the inner connections.
pub struct Front {
    listener: UnixListener,
    slots: Vec<Slot>,
    clients: Vec<Client>,
    limit: usize,
    count: u64,
    accept_again: Option<Instant>,
    notify: Notify,
    watchdog: Option<Instant>,
}

struct Slot {
    connection: Connection,
    job: Option<Job>,
}

/// A request on its way through tiny_http. Its client may be gone.
struct Job {
    client: u64,
    without_body: bool,
    deadline: Instant,
    received: Vec<u8>,
}

struct Client {
    id: u64,
    stream: UnixStream,
    user: Option<u32>,
    phase: Phase,
    deadline: Instant,
}

enum Phase {
    /// Its request arrives.
    Receiving(Vec<u8>),
    /// Its request waits for a free slot.
    Waiting(Request),
    /// Its request is being answered.
    Asked,
    /// Its answer leaves; then the connection ends, at once or after what it still sends.
    Sending { answer: Vec<u8>, sent: usize, drain: bool },
    /// It has its answer.
    Draining(usize),
}

/// Whether a client stays.
#[derive(PartialEq, Eq)]
enum Verdict {
    Stays,
    Goes,
}
use Verdict::{Goes, Stays};

impl Front {
    pub fn new(listener: UnixListener, connections: Vec<Connection>, limit: usize, notify: Notify) -> Self {
        let slots = connections.into_iter().map(|connection| Slot { connection, job: None }).collect();
        let watchdog = notify.watchdog_interval().map(|_| Instant::now());
        Self { listener, slots, clients: Vec::new(), limit, count: 0, accept_again: None, notify, watchdog }
    }

    /// Serves for ever; an error is the end of the program.
    pub fn run(mut self) -> Result<(), String> {
        loop {
            let (accept, slots, clients) = self.wait().map_err(|error| format!("poll: {error}"))?;
            for (index, ready) in slots.into_iter().enumerate() {
                if ready {
                    self.receive_answer(index).map_err(|error| format!("the inner server broke: {error}"))?;
                }
            }
            for (client, flags) in self.clients.iter_mut().zip(clients) {
                if !flags.is_empty() && client.go_on(flags) == Goes {
                    client.end();
                }
            }
            self.clients.retain(|client| !client.has_ended());
            if accept {
                self.accept();
            }
            self.expire()?;
            self.dispatch().map_err(|error| format!("the inner server broke: {error}"))?;
        }
    }

    /// Waits for anything: for a new client, for answers by slot, for clients by their order.
    fn wait(&mut self) -> io::Result<(bool, Vec<bool>, Vec<PollFlags>)> {
        let now = Instant::now();
        let pause = self.accept_again.is_some_and(|again| again > now);
        let jobs = self.slots.iter().filter_map(|slot| slot.job.as_ref()).map(|job| job.deadline);
        let deadlines = self.clients.iter().map(|client| client.deadline).chain(jobs);
        let next = deadlines.chain(self.accept_again.filter(|_| pause)).chain(self.watchdog).min();
        let timeout = next.map(|next| next.saturating_duration_since(now) + Duration::from_millis(1));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());

        let interest = if pause { PollFlags::empty() } else { PollFlags::IN };
        let mut polled = vec![PollFd::new(&self.listener, interest)];
        polled.extend(self.slots.iter().map(|slot| PollFd::new(&slot.connection.stream, PollFlags::IN)));
        polled.extend(self.clients.iter().map(|client| PollFd::new(&client.stream, client.interest())));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut flags = polled.iter().map(PollFd::revents);
        let accept = flags.next().is_some_and(|flags| !flags.is_empty());
        let slots = flags.by_ref().take(self.slots.len()).map(|flags| !flags.is_empty()).collect();
        Ok((accept, slots, flags.collect()))
    }

    fn accept(&mut self) {
        // Not more at once than there are places, so that those who came before are heard in between.
        for _ in 0..self.limit {
            let (stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
                Err(error) => {
                    eprintln!("ioto-rescue: no connection can be taken: {error}");
                    self.accept_again = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let user = peer::user(&stream);
            let deadline = Instant::now() + RECEIVE;
            self.count += 1;
            let mut client = Client { id: self.count, stream, user, phase: Phase::Receiving(Vec::new()), deadline };
            // Mostly it is there already.
            if client.go_on(PollFlags::IN) == Goes {
                continue;
            }
            if self.clients.len() >= self.limit && !self.make_room() {
                client.refuse(&Refusal { status: 503, reason: "too many connections" });
            }
            if self.clients.len() < self.limit {
                self.clients.push(client);
            }
        }
    }

    /// Ends the client that has kept us waiting longest. Those that wait for us stay.
    fn make_room(&mut self) -> bool {
        let waits = |client: &&Client| matches!(client.phase, Phase::Waiting(_) | Phase::Asked);
        let oldest = self.clients.iter().filter(|client| !waits(client)).map(|client| client.id).min();
        let Some(index) = self.clients.iter().position(|client| Some(client.id) == oldest) else { return false };
        let mut client = self.clients.remove(index);
        if let Phase::Receiving(_) = client.phase {
            client.refuse(&Refusal { status: 503, reason: "too many connections, and this one was the slowest" });
        }
        true
    }

    /// Ends what took too long, and tells the service manager that we live.
    fn expire(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.slots.iter().filter_map(|slot| slot.job.as_ref()).any(|job| job.deadline <= now) {
            return Err("the inner server does not answer".into());
        }
        for client in self.clients.iter_mut().filter(|client| client.deadline <= now) {
            let verdict = match client.phase {
                Phase::Receiving(_) => {
                    client.refuse(&Refusal { status: 408, reason: "the request did not arrive in time" })
                }
                Phase::Waiting(_) => client.refuse(&Refusal { status: 503, reason: "too much is asked at once" }),
                Phase::Asked => client.refuse(&Refusal { status: 504, reason: "the answer takes too long" }),
                Phase::Sending { .. } | Phase::Draining(_) => Goes,
            };
            if verdict == Goes {
                client.end();
            }
        }
        self.clients.retain(|client| !client.has_ended());
        if let (Some(due), Some(interval)) = (self.watchdog, self.notify.watchdog_interval()) {
            if due <= now {
                self.notify.watchdog();
                self.watchdog = Some(now + interval);
            }
        }
        Ok(())
    }

    /// Gives free slots the oldest requests: the first slot to those that are quick, the others to the rest.
    fn dispatch(&mut self) -> io::Result<()> {
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.job.is_none()) {
            let fits = |request: &Request| (request.target == QUICK) == (index == 0);
            let waiting = self.clients.iter_mut().find_map(|client| match &client.phase {
                Phase::Waiting(request) if fits(request) => Some((request.clone(), client)),
                _ => None,
            });
            let Some((request, client)) = waiting else { continue };
            let without_body = request.method == "HEAD";
            let method = if without_body { "GET" } else { &request.method };
            let text = slot.connection.request(method, &request.target, client.user);
            // It is a few hundred bytes into an empty buffer.
            (&slot.connection.stream).write_all(text.as_bytes())?;
            let deadline = Instant::now() + STUCK;
            slot.job = Some(Job { client: client.id, without_body, deadline, received: Vec::new() });
            client.phase = Phase::Asked;
        }
        Ok(())
    }

    fn receive_answer(&mut self, index: usize) -> io::Result<()> {
        let slot = &mut self.slots[index];
        let Some(job) = &mut slot.job else { return Err(ErrorKind::UnexpectedEof.into()) };
        let mut buffer = [0; 8192];
        loop {
            match (&slot.connection.stream).read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => job.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let Some(reply) = inner::reply(&job.received)? else { return Ok(()) };
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == job.client) {
            let body = if job.without_body { &[][..] } else { reply.body };
            let answer = [reply.status_line, b"Connection: close\r\n", reply.fields, body].concat();
            if client.send(answer, false) == Goes {
                client.end();
            }
        }
        slot.job = None;
        Ok(())
    }
}

impl Client {
    fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Receiving(_) | Phase::Draining(_) => PollFlags::IN,
            Phase::Sending { .. } => PollFlags::OUT,
            // It may have closed its side for writing; only when it closed both, it is gone.
            Phase::Waiting(_) | Phase::Asked => PollFlags::empty(),
        }
    }

    fn go_on(&mut self, flags: PollFlags) -> Verdict {
        match &self.phase {
            Phase::Receiving(_) => self.receive(),
            Phase::Waiting(_) | Phase::Asked if flags.intersects(PollFlags::HUP | PollFlags::ERR) => Goes,
            Phase::Waiting(_) | Phase::Asked => Stays,
            Phase::Sending { .. } => self.go_on_sending(),
            Phase::Draining(_) => self.drain(),
        }
    }

    fn receive(&mut self) -> Verdict {
        let Phase::Receiving(received) = &mut self.phase else { return Stays };
        let mut buffer = [0; 2048];
        loop {
            match (&self.stream).read(&mut buffer) {
                Ok(0) if received.is_empty() => return Goes,
                Ok(0) => return self.refuse(&Refusal { status: 400, reason: "the request is cut off" }),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Goes,
            }
            // Read piece by piece, so that it grows to a little more than the longest request and not further.
            match head::read(received) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    self.phase = Phase::Waiting(request);
                    self.deadline = Instant::now() + ANSWER;
                    return Stays;
                }
                Err(refusal) => return self.refuse(&refusal),
            }
        }
    }

    /// Answers without asking anybody.
    fn refuse(&mut self, refusal: &Refusal) -> Verdict {
        let Refusal { status, reason } = refusal;
        let phrase = tiny_http::StatusCode(*status).default_reason_phrase();
        let body = format!("{}\n", Answer::error(*status, reason).body);
        let retry = if *status == 503 { "Retry-After: 1\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nServer: ioto-rescue\r\nContent-Type: application/json\r\n\
             {retry}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(answer.into_bytes(), true)
    }

    fn send(&mut self, answer: Vec<u8>, drain: bool) -> Verdict {
        self.phase = Phase::Sending { answer, sent: 0, drain };
        self.deadline = Instant::now() + SEND;
        self.go_on_sending()
    }

    fn go_on_sending(&mut self) -> Verdict {
        let Phase::Sending { answer, sent, drain } = &mut self.phase else { return Stays };
        while *sent < answer.len() {
            match (&self.stream).write(&answer[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Goes,
            }
        }
        if !*drain || self.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return Goes;
        }
        self.phase = Phase::Draining(0);
        self.deadline = Instant::now() + DRAIN;
        self.drain()
    }

    /// Throws away what still comes.
    fn drain(&mut self) -> Verdict {
        let Phase::Draining(drained) = &mut self.phase else { return Stays };
        let mut buffer = [0; 4096];
        while *drained < MAX_DRAINED {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return Goes,
                Ok(count) => *drained += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Stays,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Goes,
            }
        }
        Goes
    }

    /// Marks it; it is removed with the next round.
    fn end(&mut self) {
        self.phase = Phase::Draining(usize::MAX);
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Draining(usize::MAX))
    }
}
