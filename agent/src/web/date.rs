//! The `Date` of responses, written once a second.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::net::http_date;

/// The current date as text.
#[derive(Default)]
pub(super) struct DateCache {
    second: Cell<u64>,
    text: RefCell<String>,
}

impl DateCache {
    /// Appends the current date (RFC 9110 §5.6.7).
    pub fn write(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if self.second.get() != second || self.text.borrow().is_empty() {
            self.second.set(second);
            *self.text.borrow_mut() = http_date(now);
        }
        out.extend_from_slice(self.text.borrow().as_bytes());
    }
}
