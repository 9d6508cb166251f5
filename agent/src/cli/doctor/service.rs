//! Is the agent started when the device is?

use std::fs;
use std::path::{Path, PathBuf};

use super::{Around, Report};

const SUBJECT: &str = "start";
const UNIT: &str = "ioto.service";
/// systemd's, the local ones first.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

pub fn check(around: &Around, report: &mut Report) {
    if !around.is_device() {
        return report.ok(SUBJECT, "profile dev: started by hand");
    }
    match Path::new("/run/systemd/system").is_dir() {
        true => systemd(report),
        false => init_script(report),
    }
}

fn systemd(report: &mut Report) {
    let Some(unit) = UNITS.iter().map(|directory| Path::new(directory).join(UNIT)).find(|unit| unit.exists()) else {
        let advice = "install it from rootfs-overlay/usr/lib/systemd/system, and `systemctl enable ioto`";
        return report.warn(SUBJECT, "there is no unit ioto.service", advice);
    };
    match UNITS.iter().any(|directory| is_wanted(Path::new(directory))) {
        true => report.ok(SUBJECT, format!("{} is enabled", unit.display())),
        false => report.warn(SUBJECT, format!("{} is not enabled", unit.display()), "`systemctl enable --now ioto`"),
    }
}

/// Whether a target wants the unit: a link in `TARGET.wants` or `TARGET.requires`.
fn is_wanted(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let targets = entries.filter(|path| path.extension().is_some_and(|kind| kind == "wants" || kind == "requires"));
    targets.into_iter().any(|target| target.join(UNIT).symlink_metadata().is_ok())
}

fn init_script(report: &mut Report) {
    let directories = ["/etc/init.d", "/etc/rc.d", "/etc/rcS.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc5.d"];
    let scripts: Vec<PathBuf> = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().trim_start_matches(is_order) == "ioto")
        })
        .collect();
    match scripts.first() {
        Some(script) => report.ok(SUBJECT, format!("{}", script.display())),
        None => {
            let advice = "install the init script from rootfs-overlay/etc/init.d";
            report.warn(SUBJECT, "nothing starts the agent with the device: no unit, no init script", advice);
        }
    }
}

/// `S80ioto`
fn is_order(character: char) -> bool {
    character == 'S' || character.is_ascii_digit()
}
