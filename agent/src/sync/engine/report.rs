//! What the engine has seen.

use std::time::Instant;

use super::Engine;

/// Refused rows that a [`Report`] names.
const NAMED: usize = 16;

/// A row that the cloud refuses, and that is tried again at long intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The model of the row.
    pub model: String,
    /// The key of the row.
    pub key: String,
    /// Why, in words.
    pub reason: String,
    /// How often it was refused.
    pub tries: u32,
}

/// What the engine has seen since it was made.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Changes that reached the cloud.
    pub pushed: u64,
    /// Requests that wait for their answer.
    pub sent: usize,
    /// When the cloud took a change for the last time.
    pub last_success: Option<Instant>,
    /// The last thing that went wrong; nothing once the cloud has taken a change after it.
    pub error: Option<String>,
    /// Whether the cloud is out of reach.
    pub down: bool,
    /// Rows that are refused.
    pub parked: usize,
    /// Some of them.
    pub examples: Vec<Parked>,
}

impl Engine {
    /// What happened so far.
    pub fn report(&self) -> Report {
        let refused = self.rows.iter().filter_map(|((model, key), row)| {
            let (_, reason) = row.refused.clone()?;
            Some(Parked { model: model.clone(), key: key.clone(), reason, tries: row.refusals })
        });
        Report {
            pushed: self.pushed,
            sent: self.sent.len(),
            last_success: self.last_success,
            error: self.error.clone(),
            down: self.pace.is_down(),
            parked: self.rows.values().filter(|row| row.refused.is_some()).count(),
            examples: refused.take(NAMED).collect(),
        }
    }
}
