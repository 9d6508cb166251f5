//! `sandbox`: what the agent gives up at its start.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::node::{Node, Value, quote};
use super::section::{Section, text};

/// `sandbox.enable`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxSwitch {
    /// `'auto'`: all of it in profile prod. In profile dev what a developer's machine can bear: the user stays as it is, and
    /// files can be read and programs started everywhere, since a developer's may lie anywhere; writing and system calls are
    /// restricted as on a device, so that this shows early.
    #[default]
    Auto,
    /// `true`: all of it in each profile.
    On,
    /// `false`: nothing of it.
    Off,
}

/// The sandbox of the agent. It holds for the programs that the agent starts, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// `enable`: `true`, `false` or `'auto'`.
    pub enable: SandboxSwitch,
    /// `user`: who the agent is when it was started as root; `root` alone lets it be root in profile prod.
    pub user: String,
    /// `group`: its group.
    pub group: String,
    /// `landlock`: the kernel lets the agent read and write only where it has to.
    pub landlock: bool,
    /// `seccomp`: the kernel refuses system calls that the agent does not need.
    pub seccomp: bool,
    /// `read`: files and directories that may be read beside those that the services need.
    pub read: Vec<PathBuf>,
    /// `write`: files and directories that may be read and written beside them.
    pub write: Vec<PathBuf>,
    /// `execute`: programs, and directories with programs, that may be read and started beside them.
    pub execute: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            enable: SandboxSwitch::Auto,
            user: "ioto".into(),
            group: "ioto".into(),
            landlock: true,
            seccomp: true,
            read: Vec::new(),
            write: Vec::new(),
            execute: Vec::new(),
        }
    }
}

impl Sandbox {
    pub(super) fn read(s: &Section, web: &Section) -> Self {
        for (key, instead) in [("user", "sandbox.user"), ("group", "sandbox.group")] {
            if web.has(key) {
                web.note(
                    key,
                    &format!("is not looked at: the whole agent runs as `{instead}` when it is started as root"),
                );
            }
        }
        let d = Self::default();
        let paths = |key| {
            let show = |path: &PathBuf| Json::from(path.to_string_lossy());
            s.list(key, Vec::new(), show, |node, item| item.resolve(&text(node)?, node))
        };
        Self {
            enable: s.value("enable", d.enable, show_switch, switch),
            user: s.value("user", d.user, |name| Json::from(name.as_str()), account),
            group: s.value("group", d.group, |name| Json::from(name.as_str()), account),
            landlock: s.flag("landlock", d.landlock),
            seccomp: s.flag("seccomp", d.seccomp),
            read: paths("read"),
            write: paths("write"),
            execute: paths("execute"),
        }
    }
}

fn show_switch(switch: &SandboxSwitch) -> Json {
    match switch {
        SandboxSwitch::Auto => "auto".into(),
        SandboxSwitch::On => true.into(),
        SandboxSwitch::Off => false.into(),
    }
}

fn switch(node: &Node) -> Result<SandboxSwitch, String> {
    let wrong = || format!("expected true, false or 'auto', found {}", node.describe());
    match &node.value {
        Value::Flag(true) => Ok(SandboxSwitch::On),
        Value::Flag(false) => Ok(SandboxSwitch::Off),
        Value::Text(text) => match (text.as_str(), node.origin.is_file()) {
            ("auto", _) => Ok(SandboxSwitch::Auto),
            ("true", false) => Ok(SandboxSwitch::On),
            ("false", false) => Ok(SandboxSwitch::Off),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// The name of a user or a group; numbers have no name that a log could show.
fn account(node: &Node) -> Result<String, String> {
    let name = text(node)?;
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let good = first && name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.$".contains(&b));
    match good {
        true => Ok(name),
        false => Err(format!("expected the name of a user or group of the system, found {}", quote(&name))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::section::Reader;
    use super::super::{Source, json5};
    use super::*;

    fn read(text: &str) -> (Sandbox, String, Vec<String>) {
        let tree = json5::parse(text, &Source::File(std::path::Path::new("/etc/ioto/ioto.json5").into())).unwrap();
        let reader = Reader::new("/".as_ref());
        let root = reader.root(&tree);
        let sandbox = Sandbox::read(&root.section("sandbox"), &root.section("web"));
        let notes = reader.notes();
        (sandbox, reader.finish().1.to_string(), notes)
    }

    #[test]
    fn the_sandbox_is_on_unless_it_is_said_otherwise() {
        assert_eq!(read("{}"), (Sandbox::default(), String::new(), Vec::new()));
        assert_eq!(read("{sandbox: {enable: false}}").0.enable, SandboxSwitch::Off);
        let (sandbox, problems, _) = read("{sandbox: {enable: 'auto', user: '_ioto', write: ['/srv/data', 'here']}}");
        assert_eq!((sandbox.user.as_str(), problems.as_str()), ("_ioto", ""));
        assert_eq!(sandbox.write, [PathBuf::from("/srv/data"), PathBuf::from("/etc/ioto/here")]);
    }

    #[test]
    fn wrong_switches_and_names_are_refused() {
        for (text, message) in [
            ("{enable: 'yes'}", "expected true, false or 'auto'"),
            ("{enable: 1}", "expected true, false or 'auto'"),
            ("{user: '0'}", "expected the name of a user"),
            ("{group: ''}", "expected the name of a user or group"),
            ("{user: 'a:b'}", "expected the name of a user"),
        ] {
            let (_, problems, _) = read(&format!("{{sandbox: {text}}}"));
            assert!(problems.contains(message), "{text}: {problems}");
        }
    }

    #[test]
    fn who_names_a_user_of_the_web_server_is_told_where_to_say_it() {
        let (_, problems, notes) = read("{web: {user: 'www'}}");
        assert_eq!((problems.as_str(), notes.len()), ("", 1));
        assert!(notes[0].contains("web.user: is not looked at") && notes[0].contains("sandbox.user"), "{}", notes[0]);
    }
}
