//! Are the other programs of the agent there: the privileged helper, the rescue server?

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use ioto::system::Helper;
use ioto_wire::Client;

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
            (true, _) if program == "ioto-helper" => helper(&path, report),
            (true, _) => report.ok("neighbour", format!("{program} listens at {}", path.display())),
            (false, false) => report.ok("neighbour", format!("no {program}; in profile dev it is not needed")),
            (false, true) => {
                let advice = format!("start {program} by its unit or init script; without it {without}");
                report.warn("neighbour", format!("no {program}: there is no {}", path.display()), advice);
            }
        }
    }
}

/// It is asked for its version: that starts one that the service manager keeps a socket for.
fn helper(path: &Path, report: &mut Report) {
    let version = smol::block_on(Helper::new(Client::at(path)).version());
    let ours = concat!("ioto-helper ", env!("CARGO_PKG_VERSION"));
    match version {
        Ok(version) if version == ours => report.ok("neighbour", format!("{version} answers at {}", path.display())),
        Ok(version) => {
            let text =
                format!("{version} answers at {}, and this is ioto {}", path.display(), env!("CARGO_PKG_VERSION"));
            report.warn("neighbour", text, "install programs of the same version");
        }
        Err(error) => {
            let advice = "look into its log; when it may not be asked, run this as root or as a user of the group ioto";
            report.warn("neighbour", error.to_string(), advice);
        }
    }
}
