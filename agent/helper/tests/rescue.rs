//! From `ioto-rescue restart` through the real rescue server and the real helper to the service manager, which is a stand-in.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use support::{Device, IOTO, PROGRAM, RESCUE, STRANGER, able};

/// Cargo puts it beside the helper.
fn program() -> PathBuf {
    let program = PathBuf::from(PROGRAM).with_file_name("ioto-rescue");
    assert!(program.exists(), "no program ioto-rescue: run `cargo build -p ioto-rescue` first");
    program
}

/// With the helper and the rescue server running.
fn device() -> Device {
    let bind = format!("touch $root/ioto-rescue; mount --bind {} $root/ioto-rescue", program().display());
    let mut device = Device::new().with_systemd().with(&bind);
    device.fake("bin/systemctl", "echo systemctl $*");
    device.start(&["sh", "-c", "/ioto-rescue & exec /ioto-helper"]);
    device.wait_for("both sockets", |device| {
        device.connect().is_some() && rescue(device, IOTO, "status").status.success()
    });
    device
}

/// Asks the rescue server as this user of the group `ioto`.
fn rescue(device: &Device, uid: u32, words: &str) -> Output {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={IOTO}"), "--clear-groups"]);
    command.arg(program()).arg("--run").arg(device.path("run/ioto")).args(words.split(' ')).output().unwrap()
}

#[test]
fn a_restart_goes_from_the_command_line_to_the_service_manager() {
    if !able() {
        return;
    }
    let device = device();
    let socket = fs::metadata(device.path("run/ioto/rescue.sock")).unwrap();
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (RESCUE, IOTO, 0o660));

    let refused = rescue(&device, STRANGER, "restart");
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && text.contains("403"), "{text}");
    assert!(!device.audit().contains("restart"));

    let output = rescue(&device, IOTO, "restart");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(r#""restarting":true"#), "{output:?}");
    assert!(text.contains("systemctl --no-ask-password restart ioto.service"), "{text}");
    let audit = device.audit();
    let lines: Vec<_> = audit.lines().filter(|line| line.contains(r#""verb":"restart""#)).collect();
    assert_eq!(lines.len(), 2, "{audit}");
    assert!(lines.iter().all(|line| line.contains(&format!(r#""uid":{RESCUE}"#))), "{audit}");
    assert!(lines[0].contains("begun") && lines[1].contains(r#""outcome":"done""#), "{audit}");
}
