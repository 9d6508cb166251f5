//! Are the other programs of the agent there: the privileged helper, the rescue server?

use std::os::unix::fs::FileTypeExt;

use super::{Around, Report};

/// The socket, the program, and what is missing without it.
const NEIGHBOURS: [(&str, &str, &str); 2] = [
    ("helper.sock", "ioto-helper", "reboot, network and time settings and updates can not be carried out"),
    ("rescue.sock", "ioto-rescue", "nobody answers for the agent when it hangs"),
];

pub fn check(around: &Around, report: &mut Report) {
    for (name, program, without) in NEIGHBOURS {
        let path = around.config.directories.run.join(name);
        let is_there = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
        match (is_there, around.is_device()) {
            (true, _) => report.ok("neighbour", format!("{program} listens at {}", path.display())),
            (false, false) => report.ok("neighbour", format!("no {program}; in profile dev it is not needed")),
            (false, true) => {
                let advice = format!("start {program} by its unit or init script; without it {without}");
                report.warn("neighbour", format!("no {program}: there is no {}", path.display()), advice);
            }
        }
    }
}
