//! Network profiles, for systemd-networkd or ifupdown, with wpa_supplicant for wireless ones.

use super::power::join;
use crate::files::write_whole;
use crate::programs::{find, run, systemd};
use crate::settings;
use crate::verbs::host::read_only;
use ioto_wire::{Ip, Profile, Request, Wifi};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NETWORKD: &str = "/etc/systemd/network";
const NETWORKD_VOLATILE: &str = "/run/systemd/network";
const IFUPDOWN: &str = "/etc/network/interfaces.d";
const WPA: &str = "/etc/wpa_supplicant";

/// Where profiles are written.
pub const DIRECTORIES: [&str; 4] = [NETWORKD, NETWORKD_VOLATILE, IFUPDOWN, WPA];

/// The directories exist, where they can be made.
pub fn prepare() {
    let wanted: &[&str] = if systemd() { &[NETWORKD, NETWORKD_VOLATILE, WPA] } else { &[IFUPDOWN, WPA] };
    for path in wanted {
        let mode = if *path == WPA { 0o700 } else { 0o755 };
        // The umask is for files; others must see into these.
        let umask = rustix::process::umask(rustix::fs::Mode::empty());
        let _ = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        rustix::process::umask(umask);
    }
}

/// Writes the files of a profile.
pub fn write(profile: &Profile, request: &Request) -> Result<String, String> {
    settings::keep(request)?;
    let text = if systemd() { networkd(profile) } else { ifupdown(profile) };
    write_file(&file(profile), text.as_bytes(), 0o644)?;
    let wpa = wpa_file(profile);
    match &profile.wifi {
        Some(wifi) => write_file(&wpa, wpa_supplicant(wifi).as_bytes(), 0o600)?,
        None => match fs::remove_file(&wpa) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound && !read_only(&error) => {
                return Err(format!("{} can not be removed: {error}", wpa.display()));
            }
            _ => {}
        },
    }
    Ok(format!("the profile of {} is written", profile.interface))
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let written = match write_whole(path, content, mode) {
        // networkd reads its volatile directory, too; what is in it is written again at boot.
        Err(error) if read_only(&error) && path.starts_with(NETWORKD) => {
            let name = path.file_name().unwrap_or_default();
            write_whole(&Path::new(NETWORKD_VOLATILE).join(name), content, mode)
        }
        other => other,
    };
    written.map(drop).map_err(|error| format!("{} can not be written: {error}", path.display()))
}

fn file(profile: &Profile) -> PathBuf {
    match systemd() {
        true => Path::new(NETWORKD).join(format!("50-ioto-{}.network", profile.interface)),
        // ifupdown reads only names without a dot.
        false => Path::new(IFUPDOWN).join(format!("ioto-{}", profile.interface.as_str().replace('.', "_"))),
    }
}

fn wpa_file(profile: &Profile) -> PathBuf {
    Path::new(WPA).join(format!("wpa_supplicant-{}.conf", profile.interface))
}

/// Removes the files of a profile. Others of the same directories may be the integrator's.
pub fn remove(profile: &Profile) {
    let file = file(profile);
    let volatile = Path::new(NETWORKD_VOLATILE).join(file.file_name().unwrap_or_default());
    for path in [&file, &volatile, &wpa_file(profile)] {
        let _ = fs::remove_file(path);
    }
}

/// systemd.network(5)
fn networkd(profile: &Profile) -> String {
    let mut text = format!("[Match]\nName={}\n\n[Network]\n", profile.interface);
    match &profile.ip {
        Ip::Dhcp => text.push_str("DHCP=yes\n"),
        Ip::Static { address, gateway, dns } => {
            let _ = writeln!(text, "Address={address}");
            if let Some(gateway) = gateway {
                let _ = writeln!(text, "Gateway={gateway}");
            }
            for server in dns {
                let _ = writeln!(text, "DNS={server}");
            }
        }
    }
    text
}

/// interfaces(5)
fn ifupdown(profile: &Profile) -> String {
    let interface = &profile.interface;
    let mut text = format!("auto {interface}\n");
    match &profile.ip {
        Ip::Dhcp => {
            let _ = writeln!(text, "iface {interface} inet dhcp");
        }
        Ip::Static { address, gateway, dns } => {
            let family = if address.address().is_ipv4() { "inet" } else { "inet6" };
            let _ = writeln!(text, "iface {interface} {family} static\n    address {address}");
            if let Some(gateway) = gateway {
                let _ = writeln!(text, "    gateway {gateway}");
            }
            if !dns.is_empty() {
                let servers: Vec<String> = dns.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "    dns-nameservers {}", servers.join(" "));
            }
        }
    }
    if profile.wifi.is_some() {
        let (conf, pid) = (wpa_file(profile), format!("/run/wpa_supplicant.{interface}.pid"));
        let _ = writeln!(text, "    pre-up wpa_supplicant -B -i {interface} -c {} -P {pid}", conf.display());
        let _ = writeln!(text, "    post-down kill $(cat {pid}) || true");
    }
    text
}

/// wpa_supplicant.conf(5). The name of the network is written in hexadecimal digits, so nothing in it can be taken for syntax; in a
/// passphrase only printable ASCII characters are allowed, and it ends with the last quote of its line.
fn wpa_supplicant(wifi: &Wifi) -> String {
    let ssid: String = wifi.ssid().bytes().map(|b| format!("{b:02x}")).collect();
    let key = match wifi.passphrase() {
        None => "key_mgmt=NONE".into(),
        Some(key) if key.len() == 64 => format!("psk={key}"),
        Some(passphrase) => format!("psk=\"{passphrase}\""),
    };
    format!("ctrl_interface=/run/wpa_supplicant\nnetwork={{\n    scan_ssid=1\n    ssid={ssid}\n    {key}\n}}\n")
}

/// The network service takes over what was written.
pub fn bring_up(profile: &Profile) -> Result<String, String> {
    let (interface, limit) = (profile.interface.as_str(), Duration::from_secs(40));
    let done = format!("the profile of {interface} is applied");
    if systemd() {
        let networkctl = find("networkctl").ok_or("the profile is written, but networkctl is not installed")?;
        let mut said = run(&networkctl, &["reload"], limit)?;
        if profile.wifi.is_some() {
            let systemctl = find("systemctl").ok_or("systemd runs, but systemctl is not installed")?;
            let unit = format!("wpa_supplicant@{interface}.service");
            said += &run(&systemctl, &["--no-ask-password", "restart", &unit], limit)?;
        }
        return Ok(join(&done, &said));
    }
    let (Some(ifdown), Some(ifup)) = (find("ifdown"), find("ifup")) else {
        return Err("the profile is written, but neither systemd-networkd nor ifupdown is there to apply it".into());
    };
    // One that is not up can not be taken down.
    let _ = run(&ifdown, &[interface], limit);
    Ok(join(&done, &run(&ifup, &[interface], limit)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn profile(arguments: &str) -> Profile {
        let text = format!(r#"{{"version":1,"verb":"network","interface":"wlan0",{arguments}}}"#);
        match Request::decode(text.as_bytes()).unwrap() {
            Request::Network(profile) => profile,
            other => panic!("{other:?}"),
        }
    }

    const STATIC: &str = r#""ip":{"address":"192.168.1.7/24","gateway":"192.168.1.1","dns":["192.168.1.1","9.9.9.9"]}"#;

    #[test]
    fn networkd_gets_what_was_asked() {
        assert_eq!(networkd(&profile(r#""ip":"dhcp""#)), "[Match]\nName=wlan0\n\n[Network]\nDHCP=yes\n");
        let expected = "[Match]\nName=wlan0\n\n[Network]\nAddress=192.168.1.7/24\nGateway=192.168.1.1\nDNS=192.168.1.1\nDNS=9.9.9.9\n";
        assert_eq!(networkd(&profile(STATIC)), expected);
    }

    #[test]
    fn ifupdown_gets_what_was_asked() {
        let expected = "auto wlan0\niface wlan0 inet static\n    address 192.168.1.7/24\n    gateway 192.168.1.1\n    dns-nameservers 192.168.1.1 9.9.9.9\n";
        assert_eq!(ifupdown(&profile(STATIC)), expected);
    }

    #[test]
    fn a_wireless_network_can_not_add_lines() {
        let text = wpa_supplicant(&Wifi::new("a\"}b#", Some("pass\" word}#")).unwrap());
        assert!(text.contains("    ssid=61227d6223\n    psk=\"pass\" word}#\"\n}\n"), "{text}");
        assert_eq!(text.lines().count(), 6);
        assert!(wpa_supplicant(&Wifi::new("x", None).unwrap()).contains("key_mgmt=NONE"));
    }
}
