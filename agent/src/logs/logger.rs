//! The agent's logger behind the facade `log`: levels by room, and a queue to the writing thread.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use log::{LevelFilter, Metadata, Record};

use super::line::{Line, room};
use super::queue::Queue;
use super::writer;
use crate::config::Log;

/// Why the log could not be started.
#[derive(Debug)]
pub enum Error {
    /// Another logger was installed in this process before.
    Installed,
    /// The writing thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("this process has a logger already"),
            Self::Thread(error) => write!(f, "the thread that writes the log could not be started: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Starts the log as configured. From here on everything that is logged in the process goes there.
pub fn install(settings: &Log) -> Result<Logger, Error> {
    let levels = Arc::new(RwLock::new(Levels::new(settings)));
    let queue = Arc::new(Queue::new(settings.queue));
    let facade = Facade { levels: levels.clone(), queue: queue.clone() };
    log::set_boxed_logger(Box::new(facade)).map_err(|_| Error::Installed)?;
    writer::start(settings, queue.clone()).map_err(Error::Thread)?;
    let logger = Logger { levels, queue };
    logger.set_levels(settings);
    Ok(logger)
}

/// The running log.
pub struct Logger {
    levels: Arc<RwLock<Levels>>,
    queue: Arc<Queue>,
}

impl Logger {
    /// Takes over other levels (after a reload); where lines go stays as it was at the start.
    pub fn set_levels(&self, settings: &Log) {
        let levels = Levels::new(settings);
        log::set_max_level(levels.highest());
        *self.levels.write().unwrap_or_else(PoisonError::into_inner) = levels;
    }

    /// Waits until all lines are written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}

/// Which lines are wanted.
struct Levels {
    general: LevelFilter,
    rooms: Vec<(String, LevelFilter)>,
}

impl Levels {
    fn new(settings: &Log) -> Self {
        Self { general: settings.level, rooms: settings.rooms.clone() }
    }

    fn of(&self, wanted: &str) -> LevelFilter {
        self.rooms.iter().find(|(room, _)| room == wanted).map_or(self.general, |(_, level)| *level)
    }

    fn highest(&self) -> LevelFilter {
        self.rooms.iter().map(|(_, level)| *level).fold(self.general, Ord::max)
    }
}

/// What the facade `log` calls.
struct Facade {
    levels: Arc<RwLock<Levels>>,
    queue: Arc<Queue>,
}

impl log::Log for Facade {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        metadata.level() <= levels.of(room(metadata.target()))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.queue.push(Line::new(record));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_may_be_louder_or_quieter_than_the_rest() {
        let rooms = vec![("mqtt".to_owned(), LevelFilter::Debug), ("rustls".to_owned(), LevelFilter::Error)];
        let levels = Levels::new(&Log { rooms, ..Log::default() });
        assert_eq!(levels.of("mqtt"), LevelFilter::Debug);
        assert_eq!(levels.of("rustls"), LevelFilter::Error);
        assert_eq!(levels.of("web"), LevelFilter::Info);
        assert_eq!(levels.highest(), LevelFilter::Debug);
    }
}
