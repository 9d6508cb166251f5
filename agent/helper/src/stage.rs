//! Stages: the pieces of the verbs, each carried out by a child of its own with only the rights that it needs.

use crate::child;
use crate::files::{self, RESET_MARKER};
use crate::os_log::{self, Level};
use ioto_wire::{Answer, Outcome, Request};
use std::fs;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Reboot,
    Restart,
    Stop,
    Hostname,
    Time,
    Zone,
    NetworkFiles,
    NetworkUp,
    Install,
    Mark,
    Wipe,
}

impl Stage {
    pub const ALL: [Self; 11] = [
        Self::Reboot,
        Self::Restart,
        Self::Stop,
        Self::Hostname,
        Self::Time,
        Self::Zone,
        Self::NetworkFiles,
        Self::NetworkUp,
        Self::Install,
        Self::Mark,
        Self::Wipe,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Hostname => "hostname",
            Self::Time => "time",
            Self::Zone => "zone",
            Self::NetworkFiles => "network-files",
            Self::NetworkUp => "network-up",
            Self::Install => "install",
            Self::Mark => "mark",
            Self::Wipe => "wipe",
        }
    }

    /// After so long its child is killed, with all that it started. Clients wait a little longer.
    pub fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Install => 3500,
            Self::Wipe => 900,
            Self::Restart => 150,
            Self::NetworkUp => 100,
            Self::Stop | Self::Mark => 90,
            _ => 60,
        })
    }
}

/// Carries out all stages of a request.
pub fn all(request: &Request) -> Answer {
    let stage = match request {
        Request::Ping => return Answer::new(Outcome::Done, ""),
        Request::Reset => return reset(request),
        Request::Network(_) => {
            let written = child::run(Stage::NetworkFiles, request);
            return match written.outcome {
                Outcome::Done => child::run(Stage::NetworkUp, request),
                _ => written,
            };
        }
        Request::Reboot => Stage::Reboot,
        Request::Restart => Stage::Restart,
        Request::Hostname(_) => Stage::Hostname,
        Request::Time(_) => Stage::Time,
        Request::Zone(_) => Stage::Zone,
        Request::Install(_) => Stage::Install,
        Request::Mark(..) => Stage::Mark,
    };
    child::run(stage, request)
}

/// What was set before is made so again, at boot, when the services that it concerns are not started yet.
pub fn at_boot(request: &Request) -> Answer {
    match request {
        Request::Network(_) => child::run(Stage::NetworkFiles, request),
        _ => all(request),
    }
}

/// While the marker stands, the next boot does it again: so a power cut in the middle, or an agent that could not be
/// stopped and writes on, leaves nothing behind.
fn reset(request: &Request) -> Answer {
    if let Err(error) = files::write_whole(Path::new(RESET_MARKER), b"factory reset\n", 0o600) {
        // A full disk is a reason for a factory reset, not against it.
        os_log::write(Level::Warning, &format!("a power cut would leave the factory reset unfinished: {error}"));
    }
    let stopped = child::run(Stage::Stop, request);
    let wiped = wipe_at(stopped.outcome == Outcome::Done);
    let reboot = child::run(Stage::Reboot, request);
    match (wiped.outcome, reboot.outcome) {
        (Outcome::Done, Outcome::Done) if stopped.outcome != Outcome::Done => {
            Answer::new(Outcome::Done, format!("the rest is removed at the next start: {}", stopped.text))
        }
        (Outcome::Done, _) => reboot,
        _ => wiped,
    }
}

/// Removes what a factory reset removes, and then the marker, when nobody can have written meanwhile.
pub fn wipe_at(quiet: bool) -> Answer {
    let wiped = child::run(Stage::Wipe, &Request::Reset);
    if wiped.outcome == Outcome::Done && quiet {
        if let Err(error) = fs::remove_file(RESET_MARKER) {
            os_log::write(Level::Warning, &format!("{RESET_MARKER} can not be removed: {error}"));
        }
    }
    wiped
}
