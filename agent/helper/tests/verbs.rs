//! Each verb for real, on a device of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use support::{Device, IOTO, STRANGER, able};

#[test]
fn the_host_name_is_set_kept_and_set_again_at_boot() {
    if !able() {
        return;
    }
    let device = Device::serving();
    device.done("hostname", r#"{"name":"pump-7"}"#);
    let pid = device.pid().to_string();
    let output = Command::new("nsenter").args(["-u", "-t", &pid, "uname", "-n"]).output().unwrap();
    assert_eq!(output.stdout, b"pump-7\n");
    assert_eq!(device.read("etc/hostname"), "pump-7\n");
    fs::remove_file(device.path("etc/hostname")).unwrap();
    assert!(device.run(&["sh", "-c", "/ioto-helper apply && [ $(uname -n) = pump-7 ]"]).status.success());
    assert_eq!(device.read("etc/hostname"), "pump-7\n");
}

#[test]
fn with_a_read_only_etc_the_host_name_is_set_all_the_same() {
    if !able() {
        return;
    }
    let device = Device::new().with("mount --bind $root/etc $root/etc; mount -o remount,ro,bind $root/etc").serve();
    let text = device.done("hostname", r#"{"name":"pump-7"}"#);
    assert!(text.contains("read-only"), "{text}");
    let text = device.not_done("zone", r#"{"zone":"Europe/Berlin"}"#);
    assert!(text.contains("must be a link to /run/localtime"), "{text}");
}

#[test]
fn a_time_zone_is_a_link_into_the_zones_and_must_exist() {
    if !able() {
        return;
    }
    let device = Device::serving();
    for zone in ["Europe/Berlin", "UTC"] {
        device.done("zone", &format!(r#"{{"zone":"{zone}"}}"#));
        let link = fs::read_link(device.path("etc/localtime")).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("/usr/share/zoneinfo/{zone}"));
        assert_eq!(device.read("etc/timezone"), format!("{zone}\n"));
    }
    device.not_done("zone", r#"{"zone":"Europe/Atlantis"}"#);
    device.not_done("zone", r#"{"zone":"Europe"}"#);
    assert_eq!(device.read("etc/timezone"), "UTC\n");
}

#[test]
fn without_the_right_to_it_the_clock_is_not_set_and_the_answer_says_so() {
    if !able() {
        return;
    }
    let device = Device::serving();
    let text = device.not_done("time", r#"{"ms":1790000000000}"#);
    assert!(text.contains("failed: the clock can not be set"), "{text}");
}

#[test]
fn a_restart_is_asked_of_systemd_without_any_rights() {
    if !able() {
        return;
    }
    let device = Device::new().with_systemd();
    device.fake(
        "bin/systemctl",
        "echo systemctl $*; grep -E 'CapBnd|CapPrm|NoNewPrivs' /proc/self/status; env | grep -v PWD= | sort
         touch /etc/x 2>&1; cat /var/lib/ioto/key 2>&1 || true",
    );
    device.write("var/lib/ioto/key", "secret");
    let device = device.serve();
    let text = device.done("restart", "{}");
    assert!(text.contains("systemctl --no-ask-password restart ioto.service"), "{text}");
    assert!(text.contains("CapPrm:\t0000000000000000") || text.contains("CapPrm: 0000000000000000"), "{text}");
    assert!(text.contains("CapBnd: 0000000000000000"), "{text}");
    assert!(text.contains("NoNewPrivs: 1"), "{text}");
    assert!(text.contains("LANG=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin"), "{text}");
    if fs::read_to_string("/proc/kallsyms").is_ok_and(|names| names.contains("landlock_create_ruleset")) {
        assert!(!device.exists("etc/x") && !text.contains("secret"), "{text}");
    }
    assert!(device.done("reboot", "{}").contains("systemctl --no-ask-password reboot"));
}

#[test]
fn a_network_profile_is_written_for_networkd_and_its_passphrase_stays_private() {
    if !able() {
        return;
    }
    let device = Device::new().with_systemd();
    device.fake("bin/networkctl", "echo networkctl $*");
    device.fake("bin/systemctl", "echo systemctl $*");
    let device = device.serve();
    let text = device
        .done("network", r#"{"interface":"wlan0","ip":"dhcp","wifi":{"ssid":"home","passphrase":"very secret"}}"#);
    assert!(text.contains("networkctl reload") && text.contains("restart wpa_supplicant@wlan0.service"), "{text}");
    assert_eq!(
        device.read("etc/systemd/network/50-ioto-wlan0.network"),
        "[Match]\nName=wlan0\n\n[Network]\nDHCP=yes\n"
    );
    let wpa = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
    assert!(device.read(wpa).contains("psk=\"very secret\""));
    assert_eq!(fs::metadata(device.path(wpa)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(device.audit().contains(r#""passphrase":"***""#) && !device.audit().contains("very secret"));
}

#[test]
fn a_network_profile_is_written_for_ifupdown() {
    if !able() {
        return;
    }
    let device = Device::new();
    device.fake("sbin/ifdown", "exit 1");
    device.fake("sbin/ifup", "echo ifup $*");
    let device = device.serve();
    let text = device.done("network", r#"{"interface":"eth0","ip":{"address":"10.0.0.2/8","gateway":"10.0.0.1"}}"#);
    assert!(text.contains("ifup eth0"), "{text}");
    assert!(device.read("etc/network/interfaces.d/ioto-eth0").contains("address 10.0.0.2/8\n    gateway 10.0.0.1\n"));
}

#[test]
fn only_a_plain_file_of_the_agent_is_installed() {
    if !able() {
        return;
    }
    let device = Device::new();
    device.fake("lib/ioto/update.d/install", "echo installed $*");
    device.fake("lib/ioto/update.d/mark", "echo marked $*");
    let updates = device.path("var/lib/ioto/updates");
    for name in ["good", "strange", "twice"] {
        fs::write(updates.join(name), "x").unwrap();
        chown(updates.join(name), Some(IOTO), Some(IOTO)).unwrap();
    }
    chown(updates.join("strange"), Some(STRANGER), None).unwrap();
    fs::hard_link(updates.join("twice"), updates.join("other")).unwrap();
    symlink("good", updates.join("link")).unwrap();
    symlink("/etc/passwd", updates.join("out")).unwrap();
    fs::create_dir(updates.join("directory")).unwrap();
    assert!(Command::new("mkfifo").arg(updates.join("pipe")).status().unwrap().success());
    chown(updates.join("pipe"), Some(IOTO), None).unwrap();
    let device = device.serve();
    assert!(device.done("install", r#"{"bundle":"good"}"#).contains("installed /var/lib/ioto/updates/good"));
    for bad in ["strange", "twice", "link", "out", "directory", "pipe", "missing"] {
        device.not_done("install", &format!(r#"{{"bundle":"{bad}"}}"#));
    }
    assert!(device.done("mark", r#"{"slot":"A","as":"good"}"#).contains("marked good A"));
    // A directory of updates that leads elsewhere is not entered.
    fs::rename(&updates, device.path("var/lib/elsewhere")).unwrap();
    symlink("../elsewhere", &updates).unwrap();
    device.not_done("install", r#"{"bundle":"good"}"#);
}

/// The state of an agent with all that is nasty in it.
fn fill(device: &Device) {
    for path in ["certs/device.pem", "certs/old.pem", "db/ioto.db", "config/local.json5"] {
        device.write(&format!("var/lib/ioto/{path}"), "x");
    }
    device.write("etc/ioto/reset.keep", "# identity\ncerts/device.pem\n");
    device.write("var/lib/outside/file", "x");
    symlink("/var/lib/outside", device.path("var/lib/ioto/link")).unwrap();
    symlink("../../outside", device.path("var/lib/ioto/db/link")).unwrap();
    fs::create_dir_all(device.path("var/lib/ioto").join("d/".repeat(1500))).unwrap();
    fs::write(device.path("var/lib/ioto").join("d/".repeat(1400)).join("file"), "x").unwrap();
}

fn assert_wiped(device: &Device) {
    let left: Vec<_> =
        fs::read_dir(device.path("var/lib/ioto")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["certs"], "{left:?}");
    assert!(device.exists("var/lib/ioto/certs/device.pem") && !device.exists("var/lib/ioto/certs/old.pem"));
    assert!(device.exists("var/lib/outside/file"));
    assert!(!device.exists("var/lib/ioto-helper/settings/hostname.json"));
    assert!(!device.exists("var/lib/ioto-helper/reset"));
    assert!(device.exists("var/lib/ioto-helper/audit.log"));
}

#[test]
fn a_factory_reset_removes_all_but_what_is_to_be_kept_and_follows_no_links() {
    if !able() {
        return;
    }
    let device = Device::new().with_systemd();
    device.fake("bin/systemctl", "echo systemctl $*");
    let device = device.serve();
    fill(&device);
    device.done("hostname", r#"{"name":"pump-7"}"#);
    let text = device.done("reset", "{}");
    assert!(text.contains("systemctl --no-ask-password reboot"), "{text}");
    assert_wiped(&device);
}

#[test]
fn a_factory_reset_that_a_power_cut_interrupted_is_finished_at_boot() {
    if !able() {
        return;
    }
    let mut device = Device::serving();
    device.done("hostname", r#"{"name":"pump-7"}"#);
    device.stop();
    fill(&device);
    device.write("var/lib/ioto-helper/reset", "factory reset\n");
    let output = device.run(&["/ioto-helper", "apply"]);
    assert!(output.status.success(), "{output:?}");
    assert_wiped(&device);
}
