//! What of the sandbox is in force in the running process, as the kernel shows it, not as the agent meant it.

use std::fs;

use super::process::Process;
use super::report::Level;
use super::{Around, Report};

const SUBJECT: &str = "sandbox";

pub fn check(around: &Around, report: &mut Report) {
    if around.is_device() && around.config.sandbox.enable == ioto::config::SandboxSwitch::Off {
        report.warn(SUBJECT, "switched off by sandbox.enable", "remove that key");
    }
    match &around.process {
        Some(process) => running(around, process, report),
        None => report.warn(SUBJECT, "no agent runs, so nothing can be said of its sandbox", "start it"),
    }
    for file in ["/sys/kernel/security/lsm", "/proc/sys/kernel/seccomp/actions_avail"] {
        kernel(file, report);
    }
}

fn running(around: &Around, process: &Process, report: &mut Report) {
    // On a developer's machine much of it is not wanted.
    let severe = if around.is_device() { Level::Fail } else { Level::Ok };
    let mut point = |missing: String, good: &str, bad: &str, level: Level, advice: &str| match missing.as_str() {
        "" => report.ok(SUBJECT, good),
        // Of a developer's agent as well, but as a fact.
        names => report.add(level, SUBJECT, format!("{bad}: {names}"), if level == Level::Ok { "" } else { advice }),
    };
    let uid = around.uid().unwrap_or(0);
    let root = process.threads_that(|thread| thread.uid == Some(0));
    point(
        root,
        &format!("runs as user {uid}"),
        "runs as root in threads",
        severe,
        "set sandbox.user to a user that exists",
    );
    let capable = process.threads_that(|thread| thread.capabilities != 0);
    let advice = "remove AmbientCapabilities= from the unit, and start it from `ioto run` alone";
    point(capable, "no thread has a capability", "capabilities in threads", severe, advice);
    let bounding = process.threads_that(|thread| thread.bounding != 0);
    let mild = if around.is_device() { Level::Warn } else { Level::Ok };
    let advice = "start it as root (it becomes sandbox.user), or with CapabilityBoundingSet= in the unit";
    point(bounding, "the bounding set is empty", "the bounding set is not empty in threads", mild, advice);
    let open = process.threads_that(|thread| !thread.no_new_privs);
    point(open, "no_new_privs", "without no_new_privs in threads", severe, "remove sandbox.enable: false");
    let unfiltered = process.threads_that(|thread| thread.seccomp != 2);
    let advice = "use a kernel with CONFIG_SECCOMP_FILTER, or SystemCallFilter= in the unit";
    point(unfiltered, "system calls are filtered", "system calls are not filtered in threads", mild, advice);

    // The kernel does not show it of another process; the agent knows what the kernel answered it.
    let Ok(status) = &around.status else { return };
    let told = &status["sandbox"];
    match told["landlock"].as_str() {
        Some(level) if level.starts_with("ABI") => report.ok(SUBJECT, format!("landlock {level}")),
        level => {
            let advice =
                if mild == Level::Ok { "" } else { "use a kernel with CONFIG_SECURITY_LANDLOCK and lsm=landlock,…" };
            report.add(mild, SUBJECT, format!("landlock {}", level.unwrap_or("unknown")), advice);
        }
    }
    for warning in told["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning.as_str()) {
        report.warn(SUBJECT, warning, "see the section about the sandbox in the README");
    }
}

/// What the kernel could do, for the agent that does not run yet.
fn kernel(file: &str, report: &mut Report) {
    let (wanted, name) = match file.ends_with("lsm") {
        true => ("landlock", "landlock"),
        false => ("kill_process", "seccomp"),
    };
    match fs::read_to_string(file) {
        Ok(text) if text.split([',', ' ', '\n']).any(|word| word == wanted) => {
            report.ok("kernel", format!("{name} is there"));
        }
        Ok(_) if wanted == "landlock" => {
            report.warn("kernel", "landlock is not switched on", "add it to lsm= of the kernel's command line");
        }
        Ok(_) => report.warn("kernel", format!("{name} is there in part"), "use a newer kernel (4.14 and later)"),
        // Not mounted, or of no right: no word about the kernel.
        Err(_) if wanted == "landlock" => {}
        Err(_) => report.warn("kernel", "seccomp filters are missing", "build it with CONFIG_SECCOMP_FILTER"),
    }
}
