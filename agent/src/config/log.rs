//! `log`: where the agent's own lines go.

use ::log::LevelFilter;

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output, with `<N>` priorities when systemd reads it.
    #[default]
    Stdout,
    /// The log of the operating system.
    Syslog,
}

/// How a line on standard output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Priorities for systemd when `JOURNAL_STREAM` is set, time stamps otherwise.
    #[default]
    Auto,
    /// With a time stamp (RFC 3339, UTC).
    Plain,
}

/// The agent's log.
#[derive(Clone, Debug)]
pub struct Log {
    /// `log.path`: `stdout` or `syslog`.
    pub target: LogTarget,
    /// `log.format`: `auto` or `plain`.
    pub format: LogFormat,
    /// `log.level`: `error`, `warn`, `info`, `debug` (`trace` in debug builds only).
    pub level: LevelFilter,
    /// `log.rooms`: levels of single rooms, as `{mqtt: 'debug'}`.
    pub rooms: Vec<(String, LevelFilter)>,
    /// `log.queue`: lines that wait for the OS log at most; the oldest are dropped and counted beyond it.
    pub queue: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Stdout,
            format: LogFormat::Auto,
            level: LevelFilter::Info,
            rooms: Vec::new(),
            queue: 1000,
        }
    }
}
