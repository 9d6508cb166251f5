//! Where and when the figures were made.

use std::fs;
use std::process::Command;

use ioto_tests::repository;

/// Names and texts, in the order in which they are shown.
pub type Facts = Vec<(&'static str, String)>;

pub fn describe() -> Facts {
    let repository = repository().to_string_lossy();
    let git = |arguments: &[&str]| said("git", &[&["-C", &repository], arguments].concat());
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { ", with changes" };
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))),
        ("cpu", format!("{}, {cores} cores", model.unwrap_or("unknown"))),
        ("kernel", said("uname", &["-sr"])),
        ("load average", load.join(" ")),
        ("peers", format!("{}, {}", version("lighttpd", "-v"), version("nginx", "-v"))),
    ]
}

/// The first line of what a command says.
fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// `lighttpd/1.4.69` out of `lighttpd/1.4.69 (ssl) - a light…`, also where it is told last.
fn version(server: &str, option: &str) -> String {
    let text = said("sh", &["-c", &format!("PATH=$PATH:/usr/sbin {server} {option}")]);
    text.split_whitespace().find(|word| word.starts_with(&format!("{server}/"))).unwrap_or(server).to_owned()
}
