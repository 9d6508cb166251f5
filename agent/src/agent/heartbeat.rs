//! The heartbeat that the executor writes, so that `ioto-rescue` and `ioto status` see whether it moves.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use ioto_wire::heartbeat::{FILE, INTERVAL, State, Writer};
use smol::Timer;

/// The heartbeat of this process; without a run directory that can be written, nothing.
pub struct Heartbeat(RefCell<Option<Writer>>);

impl Heartbeat {
    /// Says that the agent starts. When it cannot, it warns, and the agent goes on without.
    pub fn start(directory: &Path) -> Self {
        let writer = Writer::new(directory).map_err(|error| {
            let file = directory.join(FILE);
            let reason = match error.kind() {
                ErrorKind::WouldBlock => "another agent holds it".to_owned(),
                _ => error.to_string(),
            };
            log::warn!("{}: {reason}; nobody will see it when this agent hangs", file.display());
        });
        Self(RefCell::new(writer.ok()))
    }

    /// Says what the agent does from now on.
    pub fn state(&self, state: State) {
        self.write(|writer| writer.state(state));
    }

    /// Beats for ever, on the executor that asks for it.
    pub async fn beat(&self) {
        let mut before = Instant::now();
        let mut lag = Duration::ZERO;
        while self.write(|writer| writer.beat(lag)) {
            Timer::after(INTERVAL).await;
            lag = before.elapsed().saturating_sub(INTERVAL);
            before = Instant::now();
        }
        std::future::pending().await
    }

    /// Whether there is a heartbeat still: one that cannot be written is given up.
    fn write(&self, write: impl FnOnce(&mut Writer) -> io::Result<()>) -> bool {
        let mut slot = self.0.borrow_mut();
        let Some(writer) = slot.as_mut() else { return false };
        let Err(error) = write(writer) else { return true };
        log::warn!("the heartbeat cannot be written any more: {error}");
        *slot = None;
        false
    }
}
