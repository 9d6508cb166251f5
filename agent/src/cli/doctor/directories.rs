//! Can the agent write where it has to, and is there room?

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};

use super::{Around, Report};

const SUBJECT: &str = "directory";
/// Less than this stops the database.
const LEAST: u64 = 1 << 20;
/// Less than this will do so soon.
const LITTLE: u64 = 16 << 20;

pub fn check(around: &Around, report: &mut Report) {
    let directories = &around.config.directories;
    for directory in [&directories.state, &directories.run] {
        directory_of(around, directory, report);
    }
}

fn directory_of(around: &Around, path: &Path, report: &mut Report) {
    let shown = path.display();
    let Ok(found) = path.metadata() else {
        let advice = "it is made when the agent is started as root, else by systemd-tmpfiles or by hand";
        return report.fail(SUBJECT, format!("{shown} is missing"), advice);
    };
    if let Some(uid) = around.uid().filter(|uid| *uid != 0 && *uid != found.uid()) {
        let text = format!("{shown} belongs to user {}, and the agent is user {uid}", found.uid());
        return report.fail(SUBJECT, text, format!("chown {uid} {shown}"));
    }
    let Ok(system) = statvfs(path) else {
        return report.warn(SUBJECT, format!("{shown} can not be looked at"), "run as root");
    };
    if system.flags().contains(FsFlags::ST_RDONLY) {
        return report.fail(
            SUBJECT,
            format!("{shown} is on a read-only file system"),
            "mount the data partition there",
        );
    }
    room(path, &system, report);
}

#[allow(clippy::useless_conversion, reason = "these have 32 bits on 32-bit ARM")]
fn room(path: &Path, system: &Statvfs, report: &mut Report) {
    let shown = path.display();
    let free = u64::from(system.blocks_available()).saturating_mul(u64::from(system.fragment_size()));
    let text = format!("{shown} is writable, {} MiB free", free >> 20);
    match free {
        // File systems without inodes tell none at all.
        _ if system.files() > 0 && system.files_available() == 0 => {
            report.fail(SUBJECT, format!("no more files can be made at {shown}"), "remove files from that file system");
        }
        0..LEAST => report.fail(SUBJECT, text, "make room: the database cannot be written"),
        LEAST..LITTLE => report.warn(SUBJECT, text, "make room before the database cannot be written"),
        _ => report.ok(SUBJECT, text),
    }
}
