//! What is answered to what.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ioto_wire::heartbeat::{self, Health};
use serde_json::{Value, json};
use tiny_http::Method;

use crate::log_lines::LogLines;
use crate::options::Options;
use crate::peer::Allowed;
use crate::report;

/// From one restart to the next, so that a client in a loop cannot keep the agent down.
const BETWEEN_RESTARTS: Duration = Duration::from_secs(5);

/// An answer: JSON with a status, and perhaps a header field.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub field: Option<(&'static str, &'static str)>,
}

/// Answers requests, from several threads.
#[derive(Debug)]
pub struct Answers {
    options: Options,
    allowed: Allowed,
    started: Instant,
    log: LogLines,
    restarted: Mutex<Option<Instant>>,
}

impl Answers {
    pub fn new(options: &Options, allowed: Allowed) -> Self {
        let log = LogLines::new(options.log.clone());
        Self { options: options.clone(), allowed, started: Instant::now(), log, restarted: Mutex::new(None) }
    }

    /// The answer to a request of a user.
    pub fn answer(&self, method: &Method, target: &str, user: Option<u32>) -> Answer {
        match (target.split('?').next().unwrap_or(""), method) {
            ("/livez", Method::Get) => self.live(),
            ("/status", Method::Get) => self.status(),
            ("/restart", Method::Post) if !self.allowed.has(user) => {
                Answer::error(403, "only root and the user of the agent may restart it")
            }
            ("/restart", Method::Post) => self.restart(user),
            ("/livez" | "/status", _) => Answer::wrong_method("GET, HEAD"),
            ("/restart", _) => Answer::wrong_method("POST"),
            _ => Answer::error(404, "there are /livez, /status and /restart"),
        }
    }

    fn live(&self) -> Answer {
        let (health, mut body) = report::health(&self.options);
        let status = if health == Some(Health::Alive) { 200 } else { 503 };
        if let Some(agent) = body.as_object_mut() {
            agent.insert("live".into(), (status == 200).into());
        }
        Answer { status, body, field: None }
    }

    fn status(&self) -> Answer {
        let log = self.log.get();
        let body = json!({
            "agent": report::agent(&self.options),
            "bootId": report::boot_id(),
            "uptime": heartbeat::now().as_secs(),
            "slots": report::slots(),
            "log": {"source": log.source, "lines": log.lines},
            "rescue": {
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "uptime": self.started.elapsed().as_secs(),
            },
        });
        Answer { status: 200, body, field: None }
    }

    fn restart(&self, user: Option<u32>) -> Answer {
        // Held until the answer: two who ask at once get one restart.
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        if restarted.is_some_and(|at| at.elapsed() < BETWEEN_RESTARTS) {
            let mut answer = Answer::error(429, "it was restarted just now");
            answer.field = Some(("Retry-After", "5"));
            return answer;
        }
        let who = user.map_or("somebody".to_owned(), |user| format!("user {user}"));
        match report::restart(&self.options) {
            Ok(text) => {
                *restarted = Some(Instant::now());
                eprintln!("ioto-rescue: the agent is restarted, as {who} asked");
                Answer { status: 202, body: json!({"restarting": true, "text": text}), field: None }
            }
            Err(problem) => {
                eprintln!("ioto-rescue: the agent was not restarted, as {who} asked: {problem}");
                Answer::error(502, &problem)
            }
        }
    }
}

impl Answer {
    /// An error, as JSON as all else.
    pub fn error(status: u16, message: &str) -> Self {
        Self { status, body: json!({"error": {"status": status, "message": message}}), field: None }
    }

    fn wrong_method(allowed: &'static str) -> Self {
        Self { field: Some(("Allow", allowed)), ..Self::error(405, "not with this method") }
    }
}
