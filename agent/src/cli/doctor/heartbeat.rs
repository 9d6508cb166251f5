//! Does the agent's executor move, and did the agent end without a word?

use ioto_wire::heartbeat::{self, Health, STALE};

use super::{Around, Report};

pub fn check(around: &Around, report: &mut Report) {
    let beat = match heartbeat::read(&around.config.directories.run) {
        Ok(beat) => beat,
        Err(absent) if around.process.is_none() => return report.ok("heartbeat", absent.to_string()),
        Err(absent) => {
            let advice = "make the run directory writable for the agent, and start it again; its log says more";
            return report.warn("heartbeat", absent.to_string(), advice);
        }
    };
    let text = beat.describe(STALE);
    match beat.health(STALE) {
        Health::Alive | Health::Stopped => report.ok("heartbeat", text),
        Health::Hanging => report.fail("heartbeat", text, "restart it with `ioto-rescue restart`"),
        Health::Dead => report.warn("heartbeat", text, "look into its log and the kernel's"),
    }
    if beat.crashes > 0 {
        let (starts, crashes) = (beat.starts, beat.crashes);
        let text = format!("of {starts} starts since boot, {crashes} ended without a word: killed or crashed");
        report.warn("heartbeat", text, "look into its log and the kernel's");
    }
}
