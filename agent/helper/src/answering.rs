//! One client: its frame is read, and what it asks is refused or carried out, written to the audit log and answered.

use crate::audit::Audit;
use crate::os_log::{self, Level};
use crate::peer::Peer;
use crate::stage;
use ioto_wire::{Answer, Outcome, Request, Timed, Verb, read_frame, write_frame};
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for a frame to arrive, and for the answer to be taken.
const READING: Duration = Duration::from_secs(5);
/// Time to tell a client why it is refused unheard. The listener waits for it.
const REFUSING: Duration = Duration::from_millis(100);
/// Time for a client to leave after its answer.
const LEAVING: Duration = Duration::from_millis(300);
/// Requests by which nothing was done, in a minute; more are not recorded.
const NOTHING_A_MINUTE: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// What the clients share.
pub struct Helper {
    audit: Audit,
    busy: Mutex<Vec<Verb>>,
    /// When requests by which nothing was done were recorded.
    nothing: Mutex<Vec<Instant>>,
}

impl Helper {
    pub fn new() -> Self {
        Self { audit: Audit::new(), busy: Mutex::new(Vec::new()), nothing: Mutex::new(Vec::new()) }
    }

    /// Reads a request, carries it out and answers.
    pub fn serve(&self, peer: Peer, stream: &UnixStream) {
        let begin = Instant::now();
        let (request, answer) = match hear(&peer, stream) {
            Ok(request) => {
                let answer = self.carry_out(&peer, &request);
                (Some(request), answer)
            }
            Err(answer) => (None, answer),
        };
        self.record(&peer, request.as_ref(), &answer, begin.elapsed());
        // Who does not take the answer can find it in the audit log.
        let _ = write_frame(&mut Timed::new(stream, READING), &answer.encode());
        drain(stream, LEAVING);
    }

    /// Carries out a request, or says why not. The end still has to be recorded.
    pub fn carry_out(&self, peer: &Peer, request: &Request) -> Answer {
        let verb = request.verb();
        if !peer.may(verb) {
            return Answer::new(Outcome::Refused, format!("uid {} may not ask for {}", peer.uid, verb.name()));
        }
        if verb == Verb::Ping {
            return Answer::new(Outcome::Done, concat!("ioto-helper ", env!("CARGO_PKG_VERSION")));
        }
        let _turn = match self.turn(verb) {
            Ok(turn) => turn,
            Err(other) => {
                return Answer::new(Outcome::Busy, format!("{} is under way; ask again later", other.name()));
            }
        };
        if let Err(error) = self.audit.begin(peer, request) {
            let text = format!("the audit log can not be written: {error}");
            os_log::write(Level::Error, &text);
            // These are the ways out of a full disk; without them a device could not be helped.
            if !matches!(verb, Verb::Reboot | Verb::Restart | Verb::Reset) {
                return Answer::new(Outcome::Refused, format!("{text}; make room on the data partition"));
            }
        }
        stage::all(request)
    }

    /// Writes the end of a request to the audit log and the log of the operating system.
    pub fn record(&self, peer: &Peer, request: Option<&Request>, answer: &Answer, took: Duration) {
        let done = answer.outcome == Outcome::Done;
        if done && request.is_some_and(|request| request.verb() == Verb::Ping) {
            return;
        }
        let nothing_done = request.is_none() || matches!(answer.outcome, Outcome::Refused | Outcome::Busy);
        if nothing_done && !self.has_room_for_nothing() {
            return;
        }
        let verb = request.map_or("a request", |request| request.verb().name());
        if let Err(error) = self.audit.end(peer, request, answer, took) {
            os_log::write(Level::Error, &format!("the audit log can not be written: {error}"));
        }
        let level = if done { Level::Notice } else { Level::Warning };
        let text = format!("{verb} of uid {} pid {}: {}: {}", peer.uid, peer.pid, answer.outcome.name(), answer.text);
        os_log::write(level, &text);
    }

    /// Whether one more request by which nothing was done is recorded: who sends nothing else could push out of the log what was
    /// done, and wear out the flash.
    fn has_room_for_nothing(&self) -> bool {
        let mut recorded = self.nothing.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|at| at.elapsed() < MINUTE);
        let has_room = recorded.len() < NOTHING_A_MINUTE;
        if has_room {
            recorded.push(Instant::now());
        }
        has_room
    }

    /// One verb at a time. But an agent can be restarted also while it has something done, which may take long: neither one that
    /// hangs, nor one gone wild that asks for one thing after the other, keeps the rescue server from it.
    fn turn(&self, verb: Verb) -> Result<Turn<'_>, Verb> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match busy.as_slice() {
            [] => {}
            [other] if verb == Verb::Restart && !matches!(other, Verb::Restart | Verb::Reboot | Verb::Reset) => {}
            [other, ..] => return Err(*other),
        }
        busy.push(verb);
        Ok(Turn(self, verb))
    }
}

/// The right to carry out a verb, until it is dropped.
struct Turn<'a>(&'a Helper, Verb);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).retain(|verb| *verb != self.1);
    }
}

fn hear(peer: &Peer, stream: &UnixStream) -> Result<Request, Answer> {
    let refused = |text: String| Answer::new(Outcome::Refused, text);
    if !peer.known() {
        return Err(refused(format!("uid {} may not ask anything", peer.uid)));
    }
    let frame = read_frame(&mut Timed::new(stream, READING)).map_err(|error| refused(error.to_string()))?;
    Request::decode(&frame).map_err(|error| refused(format!("the request is not valid: {error}")))
}

/// Tells a client that there is no room for it.
pub fn refuse_unheard(helper: &Helper, peer: &Peer, stream: &UnixStream, text: &str) {
    let answer = Answer::new(Outcome::Busy, text);
    helper.record(peer, None, &answer, Duration::ZERO);
    let _ = write_frame(&mut Timed::new(stream, REFUSING), &answer.encode());
    let _ = stream.set_nonblocking(true);
    drain(stream, REFUSING);
}

/// Takes what the client still sends, so that closing does not reset the connection before it has read the answer [unix(7)].
fn drain(stream: &UnixStream, limit: Duration) {
    let _ = stream.shutdown(Shutdown::Write);
    let (mut rest, mut buffer) = (Timed::new(stream, limit), [0; 1024]);
    for _ in 0..64 {
        if !rest.read(&mut buffer).is_ok_and(|count| count > 0) {
            return;
        }
    }
}
