//! What the helper answers.

use crate::json::{Invalid, Members, VERSION};
use serde_json::json;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is carried out.
    Done,
    /// It is not allowed or not understood; asking again does not help.
    Refused,
    /// Another request is carried out, or too many clients are connected; ask again later.
    Busy,
    /// It was tried and did not work.
    Failed,
}

impl Outcome {
    /// Its name on the wire and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// More, in plain words, for people.
    pub text: String,
}

impl Answer {
    /// The longest text, in bytes; what is longer is cut.
    pub const MAX_TEXT: usize = 2000;

    /// An answer with its text, made fit for one line of a log.
    pub fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.contains(|c: char| c.is_control()) {
            text = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
        if text.len() > Self::MAX_TEXT {
            let end = (0..=Self::MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        Self { outcome, text }
    }

    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        json!({"version": VERSION, "outcome": self.outcome.name(), "text": self.text}).to_string().into_bytes()
    }

    /// From the payload of a frame.
    pub fn decode(payload: &[u8]) -> Result<Self, Invalid> {
        let mut members = Members::decode(payload)?;
        let name = members.text("outcome")?;
        let outcome = [Outcome::Done, Outcome::Refused, Outcome::Busy, Outcome::Failed]
            .into_iter()
            .find(|outcome| outcome.name() == name)
            .ok_or_else(|| Invalid::new("an outcome that is not known"))?;
        let answer = Self::new(outcome, members.text("text")?);
        members.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        for outcome in [Outcome::Done, Outcome::Refused, Outcome::Busy, Outcome::Failed] {
            let answer = Answer::new(outcome, "a\nb");
            assert_eq!(answer.text, "a b");
            assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
        }
        assert_eq!(Answer::new(Outcome::Done, "ä".repeat(5000)).text.len(), Answer::MAX_TEXT);
    }
}
