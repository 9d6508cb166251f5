//! Saying what changed, and not too often: these lines may be forwarded themselves, and must not multiply.

use std::time::{Duration, Instant};

/// Between two lines about the same trouble.
const QUIET: Duration = Duration::from_secs(60);

/// Something that is well or not.
#[derive(Debug, Default)]
pub(super) struct Notice {
    is_bad: bool,
    told: bool,
    last: Option<Instant>,
}

impl Notice {
    /// It is not well; `text` is said if that is news.
    pub fn bad(&mut self, text: impl FnOnce() -> String) {
        if !self.is_bad && self.last.is_none_or(|last| last.elapsed() >= QUIET) {
            log::warn!("{}", text());
            self.told = true;
            self.last = Some(Instant::now());
        }
        self.is_bad = true;
    }

    /// It is well again; `text` is said if the trouble was.
    pub fn good(&mut self, text: impl FnOnce() -> String) {
        if self.is_bad && self.told {
            log::info!("{}", text());
        }
        (self.is_bad, self.told) = (false, false);
    }
}
