//! At boot, before the agent and the network: a factory reset is finished, and the settings are applied again.

use crate::answering::Helper;
use crate::files::RESET_MARKER;
use crate::os_log::{self, Level};
use crate::peer::Peer;
use crate::{settings, stage};
use ioto_wire::{Outcome, Request};
use std::fs;
use std::time::Instant;

/// Does both. An error names the first thing that did not work; the others are done all the same.
pub fn apply() -> Result<(), String> {
    let (helper, peer) = (Helper::new(), Peer::ourselves());
    let mut failed = None;
    let mut done = |request: &Request, begin: Instant, answer: ioto_wire::Answer| {
        helper.record(&peer, Some(request), &answer, begin.elapsed());
        if answer.outcome != Outcome::Done {
            failed.get_or_insert(format!("{} at boot: {}", request.verb().name(), answer.text));
        }
    };
    if fs::symlink_metadata(RESET_MARKER).is_ok() {
        let begin = Instant::now();
        done(&Request::Reset, begin, stage::wipe_at(true));
    }
    for (path, setting) in settings::all() {
        match setting {
            Ok(request @ (Request::Hostname(_) | Request::Zone(_) | Request::Network(_))) => {
                let begin = Instant::now();
                done(&request, begin, stage::at_boot(&request));
            }
            Ok(_) => os_log::write(Level::Warning, &format!("{} is not a setting", path.display())),
            Err(error) => os_log::write(Level::Warning, &format!("{}: {error}", path.display())),
        }
    }
    failed.map_or(Ok(()), Err)
}
