//! Restarting the device, and restarting or stopping the agent.

use crate::programs::{find, run, run_apart, systemd};
use rustix::system::{RebootCommand, reboot as reboot_now};
use std::path::Path;
use std::time::Duration;

/// The agent's init script: as Buildroot names it, and as others do.
const INIT_SCRIPTS: [&str; 2] = ["/etc/init.d/S90ioto", "/etc/init.d/ioto"];

/// The init process is asked, so that all services end in order; without one that can be asked, the kernel.
pub fn reboot() -> Result<String, String> {
    rustix::fs::sync();
    let limit = Duration::from_secs(40);
    let asked = match (systemd(), find("systemctl"), find("reboot")) {
        (true, Some(systemctl), _) => run(&systemctl, &["--no-ask-password", "reboot"], limit),
        (false, _, Some(reboot)) => run(&reboot, &[], limit),
        _ => Err(String::new()),
    };
    match asked {
        Ok(said) => Ok(join("the device restarts", &said)),
        Err(why) => match reboot_now(RebootCommand::Restart) {
            Ok(()) => Ok("the device restarts".into()),
            Err(error) => Err(join(&format!("the kernel does not restart the device: {error}"), &why)),
        },
    }
}

/// The service manager does it, or the init script.
pub fn agent(command: &str, done: &str) -> Result<String, String> {
    let limit = Duration::from_secs(if command == "restart" { 120 } else { 60 });
    if systemd() {
        let systemctl = find("systemctl").ok_or("systemd runs, but systemctl is not installed")?;
        let said = run(&systemctl, &["--no-ask-password", command, "ioto.service"], limit)?;
        return Ok(join(&format!("the agent is {done}"), &said));
    }
    let script = INIT_SCRIPTS.iter().find(|path| Path::new(path).exists());
    let script = script.ok_or("there is neither systemd nor an init script /etc/init.d/S90ioto or /etc/init.d/ioto")?;
    // The agent alone: the script keeps this helper and the rescue server, too.
    run_apart(Path::new(script), &[command, "agent"], limit)?;
    Ok(format!("the agent is {done}"))
}

/// A text with what a program said, if anything.
pub fn join(text: &str, said: &str) -> String {
    if said.is_empty() { text.into() } else { format!("{text} ({said})") }
}
